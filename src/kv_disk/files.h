// Files and directories as the disk tier uses them: for their owner alone, not through symbolic
// links, errors with the system's words.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom::kv_disk {

// "PATH: cannot WHAT: No such file or directory", of errno.
Error system_error(const std::string& path, std::string_view what);

class File {
 public:
  // Nothing if there is none. Regular files only.
  enum class Links : uint8_t { kRefuse, kFollow };
  static Result<std::optional<File>> open(const std::string& path, Links links = Links::kRefuse);
  // Must not be there.
  static Result<File> create(const std::string& path);
  static Result<File> open_or_create(const std::string& path);
  File(File&& other) noexcept : fd_(other.fd_), path_(std::move(other.path_)) { other.fd_ = -1; }
  File& operator=(File&&) = delete;
  ~File();

  Result<struct stat> info() const;
  // All of `out`; an error if the file ends before.
  Status read(std::span<std::byte> out, int64_t offset) const;
  Status write(std::span<const std::byte> bytes) const;  // where the last one ended
  Status write_at(std::span<const std::byte> bytes, int64_t offset) const;
  Status set_used(struct timespec time) const;
  int fd() const { return fd_; }

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
};

// Nothing if it is there already.
Status make_directory(const std::string& path);
// Nothing if there is none.
Status remove_file(const std::string& path);
Status remove_directory(const std::string& path);  // nor if something is in it
// None if there is no such directory.
Result<std::vector<std::string>> names_in(const std::string& directory);

}  // namespace fathom::kv_disk
