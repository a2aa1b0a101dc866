#include "kv_disk/space.h"

#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kv_disk/page_file.h"
#include "kv_disk/tenants.h"

namespace fathom::kv_disk {
namespace {

constexpr int64_t kDiskBlock = 4096;

bool is_hex(std::string_view name, std::size_t digits) {
  return name.size() == digits && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// What is at `path`, if it is a regular file.
std::optional<struct stat> look_at(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return info;
}

int64_t nanoseconds(const struct timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

}  // namespace

int64_t disk_bytes(int64_t file_bytes) {
  return (file_bytes + kDiskBlock - 1) / kDiskBlock * kDiskBlock;
}

DiskSpace::DiskSpace(std::string directory, int64_t max_bytes, std::string model, File lock)
    : directory_(std::move(directory)),
      max_bytes_(max_bytes),
      model_(std::move(model)),
      lock_(std::move(lock)) {}

Result<DiskSpace> DiskSpace::open(const std::string& directory, int64_t max_bytes,
                                  std::string model) {
  FATHOM_TRY_STATUS(make_directory(directory));
  FATHOM_TRY(File lock, File::open_or_create(directory + "/lock"));
  return DiskSpace(directory + "/", max_bytes, std::move(model), std::move(lock));
}

DiskSpace::Lock::Lock(const DiskSpace& space) : fd_(space.lock_.fd()) {
  while (::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
  }
}

DiskSpace::Lock::~Lock() { ::flock(fd_, LOCK_UN); }

Result<int64_t> DiskSpace::used() const {
  FATHOM_TRY(const struct stat info, lock_.info());
  int64_t bytes = 0;
  if (info.st_size < static_cast<int64_t>(sizeof(bytes))) return bytes;
  FATHOM_TRY_STATUS(lock_.read(std::as_writable_bytes(std::span(&bytes, 1)), 0));
  return std::max<int64_t>(bytes, 0);
}

Status DiskSpace::add(int64_t bytes) {
  FATHOM_TRY(const int64_t before, used());
  const int64_t after = std::max<int64_t>(before + bytes, 0);
  return lock_.write_at(std::as_bytes(std::span(&after, 1)), 0);
}

Status DiskSpace::count() {
  oldest_last_.clear();
  other_bytes_ = 0;
  int64_t bytes = 0;
  FATHOM_TRY(const auto tenants, names_in(directory_));
  for (const std::string& tenant : tenants)
    if (is_hex(tenant, kDirectoryDigits)) FATHOM_TRY_STATUS(count_tenant(tenant, bytes));
  std::sort(oldest_last_.begin(), oldest_last_.end(),
            [](const Entry& a, const Entry& b) { return a.used_ns > b.used_ns; });
  return lock_.write_at(std::as_bytes(std::span(&bytes, 1)), 0);
}

Status DiskSpace::count_tenant(const std::string& tenant, int64_t& bytes) {
  const std::string directory = directory_ + tenant + "/";
  FATHOM_TRY(const auto models, names_in(directory));
  bool empty = true;
  for (const std::string& model : models) {
    if (!is_hex(model, kDirectoryDigits)) continue;
    FATHOM_TRY(const int64_t of_model, count_model(directory + model + "/"));
    bytes += of_model;
    if (model != model_) other_bytes_ += of_model;
    empty = empty && of_model == 0;
  }
  FATHOM_TRY_STATUS(remove_file(directory + std::string(kUnfinished)));
  if (!empty) return {};
  FATHOM_TRY_STATUS(destroy_salt(directory));
  return remove_directory(directory);
}

Result<int64_t> DiskSpace::count_model(const std::string& directory) {
  int64_t bytes = 0;
  FATHOM_TRY(const auto pages, names_in(directory));
  for (const std::string& page : pages) {
    if (!is_hex(page, kPageDigits)) continue;
    const std::string path = directory + page;
    const auto info = look_at(path);
    if (!info) continue;
    bytes += disk_bytes(info->st_size);
    oldest_last_.push_back({nanoseconds(info->st_mtim), path});
  }
  FATHOM_TRY_STATUS(remove_file(directory + std::string(kUnfinished)));
  if (bytes == 0) FATHOM_TRY_STATUS(remove_directory(directory));
  return bytes;
}

Status DiskSpace::remove_page(const std::string& path, int64_t file_bytes) {
  FATHOM_TRY_STATUS(remove_file(path));
  return add(-disk_bytes(file_bytes));
}

Result<bool> DiskSpace::make_room(int64_t bytes) {
  if (bytes > max_bytes_) return false;
  bool counted = false;
  while (true) {
    FATHOM_TRY(const int64_t taken, used());
    if (taken + bytes <= max_bytes_) return true;
    if (oldest_last_.empty()) {
      if (counted) return false;
      FATHOM_TRY_STATUS(count());
      counted = true;
      continue;
    }
    const Entry oldest = std::move(oldest_last_.back());
    oldest_last_.pop_back();
    const auto info = look_at(oldest.path);
    if (!info || nanoseconds(info->st_mtim) != oldest.used_ns) continue;  // used since
    FATHOM_TRY_STATUS(remove_page(oldest.path, info->st_size));
  }
}

Status DiskSpace::discard(const std::string& path) {
  const auto info = look_at(path);
  if (!info) return {};
  return remove_page(path, info->st_size);
}

Status DiskSpace::erase_tenant(const std::string& tenant_name) {
  const std::string directory = directory_ + tenant_name + "/";
  FATHOM_TRY_STATUS(destroy_salt(directory));
  FATHOM_TRY(const auto models, names_in(directory));
  for (const std::string& model : models) {
    if (!is_hex(model, kDirectoryDigits)) continue;
    const std::string below = directory + model + "/";
    FATHOM_TRY(const auto pages, names_in(below));
    for (const std::string& page : pages)
      if (is_hex(page, kPageDigits)) FATHOM_TRY_STATUS(discard(below + page));
    FATHOM_TRY_STATUS(remove_file(below + std::string(kUnfinished)));
    FATHOM_TRY_STATUS(remove_directory(below));
  }
  FATHOM_TRY_STATUS(remove_file(directory + std::string(kUnfinished)));
  return remove_directory(directory);
}

}  // namespace fathom::kv_disk
