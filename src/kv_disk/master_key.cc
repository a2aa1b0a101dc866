#include "kv_disk/master_key.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "kv_disk/files.h"

namespace fathom::kv_disk {
namespace {

constexpr const char* kWhat = "the key of the disk cache";

// Under another name first; a key that somebody else makes meanwhile is left alone.
Status make_key(const std::string& path) {
  std::error_code ec;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
  std::array<std::byte, SecretKey::kBytes> bytes{};
  fill_random({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  const std::string temporary = fmt::format("{}.tmp.{}", path, ::getpid());
  {
    FATHOM_TRY(const File file, File::create(temporary));
    Status written = file.write(bytes);
    if (written && ::fsync(file.fd()) != 0) written = system_error(temporary, "write");
    if (!written) {
      ::unlink(temporary.c_str());
      return written;
    }
  }
  Status linked;
  if (::link(temporary.c_str(), path.c_str()) != 0 && errno != EEXIST)
    linked = system_error(path, "make");
  ::unlink(temporary.c_str());
  return linked;
}

}  // namespace

Result<SecretKey> read_master_key(const std::string& path) {
  FATHOM_TRY(const std::optional<File> file, File::open(path, File::Links::kFollow));
  if (!file) return not_found(fmt::format("{}: no such file, expected {}", path, kWhat));
  FATHOM_TRY(const struct stat info, file->info());
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return invalid_argument(
        fmt::format("{}: others may read {} (mode {:04o}), expected 0600; run chmod 600 {}", path,
                    kWhat, info.st_mode & 07777, path));
  }
  if (info.st_size != static_cast<int64_t>(SecretKey::kBytes)) {
    return invalid_argument(fmt::format("{}: {} has {} bytes, expected {}", path, kWhat,
                                        info.st_size, SecretKey::kBytes));
  }
  std::array<uint8_t, SecretKey::kBytes> bytes{};
  FATHOM_TRY_STATUS(file->read(std::as_writable_bytes(std::span(bytes)), 0));
  const SecretKey key(bytes);
  overwrite(bytes);
  return key;
}

Result<SecretKey> read_or_make_master_key(const std::string& path) {
  FATHOM_TRY(const std::optional<File> file, File::open(path, File::Links::kFollow));
  if (!file) FATHOM_TRY_STATUS(make_key(path));
  return read_master_key(path);
}

}  // namespace fathom::kv_disk
