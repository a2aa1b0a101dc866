#include "kv_disk/tenants.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "kv_disk/files.h"
#include "kv_disk/page_file.h"

namespace fathom::kv_disk {
namespace {

constexpr std::size_t kMostKnown = 4096;

struct Salt {
  std::array<uint8_t, 32> bytes{}, check{};
};

Digest check_of(const SecretKey& master, std::span<const uint8_t> salt, std::string_view tenant) {
  return keyed_hash(master, {as_octets("salt"), salt, as_octets(tenant)});
}

TenantKeys keys_of(const SecretKey& master, const Salt& salt) {
  return {.content = derive_key(master, salt.bytes, "fathom kv-disk content"),
          .names = derive_key(master, salt.bytes, "fathom kv-disk names")};
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

std::span<std::byte> bytes_of(Salt& salt) {
  return std::as_writable_bytes(std::span<Salt, 1>(&salt, 1));
}

}  // namespace

std::string tenant_directory(const SecretKey& master, std::string_view tenant) {
  return hex(keyed_hash(master, {as_octets("tenant"), as_octets(tenant)}), kDirectoryDigits);
}

std::string model_directory(const SecretKey& master, std::string_view identity) {
  const uint8_t version = kPageFileVersion;
  return hex(keyed_hash(master, {as_octets("model"), {&version, 1}, as_octets(identity)}),
             kDirectoryDigits);
}

TenantKeyring::TenantKeyring(std::string directory, const SecretKey& master)
    : directory_(std::move(directory)), master_(master) {}

Result<std::shared_ptr<const TenantKeys>> TenantKeyring::find(std::string_view tenant) {
  const std::shared_ptr<const TenantKeys> none;
  const std::string name(tenant);
  const std::string path = directory_ + tenant_directory(master_, tenant) + "/salt";
  FATHOM_TRY(const std::optional<File> file, File::open(path));
  if (!file) return none;
  FATHOM_TRY(const struct stat info, file->info());
  {
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(name);
    if (known != known_.end() && same(known->second.salt, info)) return known->second.keys;
  }
  Salt salt;
  if (info.st_size != sizeof(salt)) return none;
  FATHOM_TRY_STATUS(file->read(bytes_of(salt), 0));
  if (!equal_in_constant_time(salt.check, check_of(master_, salt.bytes, tenant))) return none;
  auto keys = std::make_shared<const TenantKeys>(keys_of(master_, salt));
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kMostKnown) known_.clear();
  known_.insert_or_assign(name, Known{keys, info});
  return std::shared_ptr<const TenantKeys>(std::move(keys));
}

Result<std::shared_ptr<const TenantKeys>> TenantKeyring::find_or_make(std::string_view tenant) {
  FATHOM_TRY(auto keys, find(tenant));
  if (keys != nullptr) return keys;
  const std::string directory = directory_ + tenant_directory(master_, tenant) + "/";
  FATHOM_TRY_STATUS(make_directory(directory));
  Salt salt;
  fill_random(salt.bytes);
  salt.check = check_of(master_, salt.bytes, tenant);
  // Complete or not there, after a crash too.
  const std::string unfinished = directory + std::string(kUnfinished);
  FATHOM_TRY_STATUS(remove_file(unfinished));
  {
    FATHOM_TRY(const File file, File::create(unfinished));
    FATHOM_TRY_STATUS(file.write(bytes_of(salt)));
  }
  if (std::rename(unfinished.c_str(), (directory + "salt").c_str()) != 0)
    return system_error(directory, "make the salt in");
  return find(tenant);
}

void TenantKeyring::forget(std::string_view tenant) {
  const std::lock_guard lock(mutex_);
  known_.erase(std::string(tenant));
}

Status destroy_salt(const std::string& tenant_directory) {
  const std::string path = tenant_directory + "salt";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0) {
    Salt nothing;
    fill_random(nothing.bytes);
    fill_random(nothing.check);
    const bool written =
        ::pwrite(fd, &nothing, sizeof(nothing), 0) == sizeof(nothing) && ::fdatasync(fd) == 0;
    const Error error = system_error(path, "overwrite");
    ::close(fd);
    if (!written) return error;
  } else if (errno != ENOENT && errno != ENOTDIR) {
    return system_error(path, "overwrite");
  }
  return remove_file(path);
}

}  // namespace fathom::kv_disk
