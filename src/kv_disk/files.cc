#include "kv_disk/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace fathom::kv_disk {

Error system_error(const std::string& path, std::string_view what) {
  const int e = errno;
  return {ErrorCode::kUnavailable, fmt::format("{}: cannot {}: {}", path, what, std::strerror(e))};
}

Result<std::optional<File>> File::open(const std::string& path, Links links) {
  const int follow = links == Links::kFollow ? 0 : O_NOFOLLOW;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | follow);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::optional<File>();
  if (fd < 0) return system_error(path, "open");
  File file(fd, path);
  FATHOM_TRY(const struct stat info, file.info());
  if (!S_ISREG(info.st_mode)) return invalid_argument(path + ": not a regular file");
  return std::optional<File>(std::move(file));
}

Result<File> File::create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return system_error(path, "create");
  return File(fd, path);
}

Result<File> File::open_or_create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return system_error(path, "open");
  return File(fd, path);
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<struct stat> File::info() const {
  struct stat out{};
  if (::fstat(fd_, &out) != 0) return system_error(path_, "look at");
  return out;
}

Status File::read(std::span<std::byte> out, int64_t offset) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path_, "read");
    if (n == 0) return invalid_argument(path_ + ": ends too early");
    out = out.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
  return {};
}

Status File::write(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path_, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status File::write_at(std::span<const std::byte> bytes, int64_t offset) const {
  if (::lseek(fd_, offset, SEEK_SET) < 0) return system_error(path_, "write");
  return write(bytes);
}

Status File::set_used(struct timespec time) const {
  const struct timespec times[] = {time, time};
  if (::futimens(fd_, times) != 0) return system_error(path_, "date");
  return {};
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error(path, "make");
  return {};
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return system_error(path, "remove");
  return {};
}

Status remove_directory(const std::string& path) {
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
    return system_error(path, "remove");
  return {};
}

Result<std::vector<std::string>> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return names;
  if (fd < 0) return system_error(directory, "list");
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(fd), &::closedir);
  if (entries == nullptr) {
    const Error error = system_error(directory, "list");
    ::close(fd);
    return error;
  }
  while (true) {
    errno = 0;
    const dirent* const entry = ::readdir(entries.get());
    if (entry == nullptr) break;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno != 0) return system_error(directory, "list");
  return names;
}

}  // namespace fathom::kv_disk
