// Files: bounded reads, read-only mappings, crash-safe writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

// Whole file into memory. Fails if it is not a regular file or is larger than `max_bytes`.
Result<std::string> read_file(const std::string& path, int64_t max_bytes);

// Writes to a temporary name beside `path`, fsyncs and renames: readers see the old file or the new
// one, never half of one.
Status write_file_atomically(const std::string& path, std::string_view content);

bool file_exists(const std::string& path);
bool directory_exists(const std::string& path);

// A read-only, shared mapping of a whole file. Movable; unmapped at the end.
// The mapping is shared between processes through the page cache.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::string path_;
};

}  // namespace fathom
