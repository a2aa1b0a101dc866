#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace fathom {
namespace {

Error file_error(const std::string& path, std::string_view what) {
  const int e = errno;
  const auto code = e == ENOENT ? ErrorCode::kNotFound : ErrorCode::kInvalidArgument;
  return {code, fmt::format("{}: cannot {}: {}", path, what, std::strerror(e))};
}

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
};

// Opens without blocking on a FIFO and insists on a regular file. Returns its size.
Result<int64_t> open_regular(const std::string& path, Fd& out) {
  out.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (out.fd < 0) return file_error(path, "open");
  struct stat st{};
  if (::fstat(out.fd, &st) != 0) return file_error(path, "stat");
  if (!S_ISREG(st.st_mode)) return invalid_argument(path + ": not a regular file");
  return static_cast<int64_t>(st.st_size);
}

}  // namespace

Result<std::string> read_file(const std::string& path, int64_t max_bytes) {
  Fd fd;
  FATHOM_TRY(const int64_t size, open_regular(path, fd));
  if (size > max_bytes) {
    return resource_limit(fmt::format("{}: {} bytes, the limit is {}", path, size, max_bytes));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(fd.fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(path, "read");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  return text;
}

Status write_file_atomically(const std::string& path, std::string_view content) {
  // Unique within the process too: two threads may write the same path at once.
  static std::atomic<uint64_t> counter{0};
  const std::string temporary = fmt::format("{}.tmp.{}.{}", path, ::getpid(), counter.fetch_add(1));
  {
    Fd fd;
    fd.fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd.fd < 0) return file_error(temporary, "create");
    std::size_t done = 0;
    while (done < content.size()) {
      const ssize_t n = ::write(fd.fd, content.data() + done, content.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        Error error = file_error(temporary, "write");
        ::unlink(temporary.c_str());
        return error;
      }
      done += static_cast<std::size_t>(n);
    }
    if (::fsync(fd.fd) != 0) {
      Error error = file_error(temporary, "fsync");
      ::unlink(temporary.c_str());
      return error;
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    Error error = file_error(path, "rename to");
    ::unlink(temporary.c_str());
    return error;
  }
  // The rename itself is durable once the directory is synced.
  const auto slash = path.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  Fd fd;
  fd.fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd.fd >= 0 && ::fsync(fd.fd) != 0 && errno != EINVAL) return file_error(dir, "fsync");
  return {};
}

bool file_exists(const std::string& path) {
  struct stat st{};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

bool directory_exists(const std::string& path) {
  struct stat st{};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  Fd fd;
  FATHOM_TRY(const int64_t size, open_regular(path, fd));
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<std::size_t>(size);
  if (size > 0) {
    void* p = ::mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd.fd, 0);
    if (p == MAP_FAILED) return file_error(path, "map");
    file.data_ = static_cast<const std::byte*>(p);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace fathom
