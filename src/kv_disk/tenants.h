// The tenants' keys.
//
// DIR/<tenant>/salt holds 32 random bytes and their check; the tenant's keys follow from them and
// the master key. <tenant> is a keyed hash of the tenant's name. Without the salt nobody can read
// the tenant's files again, or tell what their names stand for.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kv_disk/crypto.h"

namespace fathom::kv_disk {

struct TenantKeys {
  SecretKey content, names;
  // Of the page with that id.
  std::string file_name(const PageId& id) const {
    return hex(keyed_hash(names, {id}), kPageDigits);
  }
};

// Names of directories: 32 hexadecimal digits.
std::string tenant_directory(const SecretKey& master, std::string_view tenant);
std::string model_directory(const SecretKey& master, std::string_view identity);

// Keys of tenants as they are now: a salt that was replaced is noticed. Any thread.
class TenantKeyring {
 public:
  TenantKeyring(std::string directory, const SecretKey& master);

  // Null if nothing is kept of the tenant.
  Result<std::shared_ptr<const TenantKeys>> find(std::string_view tenant);
  // With the directory locked. A salt that is damaged is replaced: what it locked is lost.
  Result<std::shared_ptr<const TenantKeys>> find_or_make(std::string_view tenant);
  void forget(std::string_view tenant);

 private:
  struct Known {
    std::shared_ptr<const TenantKeys> keys;
    struct stat salt;
  };
  Status make_salt(const std::string& directory, std::span<const uint8_t> name);

  const std::string directory_;
  const SecretKey master_;
  std::mutex mutex_;
  std::unordered_map<std::string, Known> known_;
};

// Overwrites a tenant's salt and removes it. With the directory locked.
Status destroy_salt(const std::string& tenant_directory);

}  // namespace fathom::kv_disk
