// The directory of the disk tier as a whole: who may write to it, how much it takes, and what goes
// first when that is too much.
//
//   DIR/lock                      bytes taken; locked by who writes
//   DIR/<tenant>/salt             tenants.h
//   DIR/<tenant>/<model>/<page>   page_file.h; its time is when it was last used
//
// Processes share it: files appear complete (by renaming) and never change, writers take turns by
// the lock. The count in `lock` is never too small: it grows before a file appears and shrinks
// after one is gone. What is not named like this is left alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kv_disk/crypto.h"
#include "kv_disk/files.h"

namespace fathom::kv_disk {

// What a file takes of the disk.
int64_t disk_bytes(int64_t file_bytes);

class DiskSpace {
 public:
  // Makes the directory if it is not there. `model`: the directory's name of this engine's.
  static Result<DiskSpace> open(const std::string& directory, int64_t max_bytes, std::string model);

  const std::string& directory() const { return directory_; }  // with '/' at the end

  // Held by one process and thread at a time; waits for it.
  class Lock {
   public:
    explicit Lock(const DiskSpace& space);
    ~Lock();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    int fd_;
  };

  // All of the following with the lock.

  // Counts what is there; removes what a crash left unfinished and tenants without a page.
  Status count();
  Result<int64_t> used() const;
  Status add(int64_t bytes);
  // Removes what was not used for longest until `bytes` more fit; false if they never will.
  Result<bool> make_room(int64_t bytes);
  // Removes a page's file that is no good.
  Status discard(const std::string& path);
  // Destroys a tenant's salt and removes all its files, of every model.
  Status erase_tenant(const std::string& tenant_name);

  // As counted last: of other models, keys or versions.
  int64_t other_bytes() const { return other_bytes_; }

 private:
  struct Entry {
    int64_t used_ns;
    std::string path;
  };
  DiskSpace(std::string directory, int64_t max_bytes, std::string model, File lock);
  Status count_tenant(const std::string& tenant, int64_t& bytes);
  Result<int64_t> count_model(const std::string& directory);
  Status remove_page(const std::string& path, int64_t file_bytes);

  std::string directory_;
  int64_t max_bytes_;
  std::string model_;
  File lock_;
  int64_t other_bytes_ = 0;
  std::vector<Entry> oldest_last_;  // as counted last; some may have been used since
};

}  // namespace fathom::kv_disk
