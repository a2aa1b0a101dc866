#include "io/gguf_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "base/check.h"
#include "base/limits.h"

namespace fathom {
namespace {

constexpr uint32_t kVersion = 3;

template <typename T>
std::string bytes_of(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));  // x86 and ARM are little-endian, as the format is
  return out;
}

std::string string_bytes(std::string_view text) {
  return bytes_of<uint64_t>(text.size()).append(text);
}

int64_t aligned(int64_t bytes) {
  constexpr auto kAlignment = static_cast<int64_t>(kGgufDefaultAlignment);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Everything before the data: the tensors' offsets follow from their sizes.
std::string header(const GgufKeyValues& metadata, const std::vector<GgufTensorInfo>& tensors) {
  std::string out = "GGUF" + bytes_of(kVersion) + bytes_of<uint64_t>(tensors.size()) +
                    bytes_of<uint64_t>(metadata.size()) + metadata.serialize();
  int64_t offset = 0;
  for (const GgufTensorInfo& t : tensors) {
    out += string_bytes(t.name) + bytes_of(static_cast<uint32_t>(t.shape.size()));
    for (auto d = t.shape.rbegin(); d != t.shape.rend(); ++d)
      out += bytes_of(static_cast<uint64_t>(*d));
    out += bytes_of(*ggml_type_number(t.type)) + bytes_of(static_cast<uint64_t>(offset));
    offset = aligned(offset + t.bytes());
  }
  return out;
}

Status check_tensors(const std::string& path, const std::vector<GgufTensorInfo>& tensors) {
  std::set<std::string_view> names;
  for (const GgufTensorInfo& t : tensors) {
    const auto bad = [&](std::string_view what) {
      return invalid_argument(fmt::format("{}: tensor '{}': {}", path, t.name, what));
    };
    if (!names.insert(t.name).second) return bad("is there twice");
    if (t.name.size() > static_cast<std::size_t>(limits::kMaxGgufNameBytes))
      return bad(fmt::format("a name of more than {} bytes", limits::kMaxGgufNameBytes));
    if (t.shape.empty() || t.shape.size() > static_cast<std::size_t>(limits::kMaxGgufTensorRank)) {
      return bad(fmt::format("{} dimensions, expected 1 to {}", t.shape.size(),
                             limits::kMaxGgufTensorRank));
    }
    if (std::any_of(t.shape.begin(), t.shape.end(), [](int64_t d) { return d < 1; }))
      return bad(fmt::format("shape {}, expected dimensions of 1 and more", shape_string(t.shape)));
    if (!ggml_type_number(t.type))
      return bad(fmt::format("GGUF has no type {}", dtype_name(t.type)));
    if (t.shape.back() % dtype_block(t.type).elements != 0) {
      return bad(
          fmt::format("rows of {} are no whole blocks of {}", t.shape.back(), dtype_name(t.type)));
    }
  }
  return {};
}

}  // namespace

void GgufKeyValues::set(std::string_view key, GgufType type, std::string bytes) {
  const auto number = static_cast<uint32_t>(type);
  for (Entry& e : entries_) {
    if (e.key != key) continue;
    e.type = number;
    e.bytes = std::move(bytes);
    return;
  }
  entries_.push_back({std::string(key), number, std::move(bytes)});
}

void GgufKeyValues::set_u32(std::string_view key, uint32_t v) {
  set(key, GgufType::kU32, bytes_of(v));
}
void GgufKeyValues::set_i32(std::string_view key, int32_t v) {
  set(key, GgufType::kI32, bytes_of(v));
}
void GgufKeyValues::set_f32(std::string_view key, float v) {
  set(key, GgufType::kF32, bytes_of(v));
}
void GgufKeyValues::set_bool(std::string_view key, bool v) {
  set(key, GgufType::kBool, bytes_of(static_cast<uint8_t>(v)));
}
void GgufKeyValues::set_string(std::string_view key, std::string_view v) {
  set(key, GgufType::kString, string_bytes(v));
}

void GgufKeyValues::set_i32s(std::string_view key, std::span<const int32_t> values) {
  std::string bytes =
      bytes_of(static_cast<uint32_t>(GgufType::kI32)) + bytes_of<uint64_t>(values.size());
  for (const int32_t v : values) bytes += bytes_of(v);
  set(key, GgufType::kArray, std::move(bytes));
}

void GgufKeyValues::set_strings(std::string_view key, std::span<const std::string> values) {
  std::string bytes =
      bytes_of(static_cast<uint32_t>(GgufType::kString)) + bytes_of<uint64_t>(values.size());
  for (const std::string& v : values) bytes += string_bytes(v);
  set(key, GgufType::kArray, std::move(bytes));
}

void GgufKeyValues::copy(std::string_view key, const GgufValue& value) {
  const auto raw = value.raw();
  std::string bytes(reinterpret_cast<const char*>(raw.data()), raw.size());
  if (value.type() == GgufType::kString) bytes = string_bytes(bytes);
  if (value.type() == GgufType::kArray) {
    bytes = bytes_of(static_cast<uint32_t>(value.element_type())) +
            bytes_of<uint64_t>(value.count()) + bytes;
  }
  set(key, value.type(), std::move(bytes));
}

void GgufKeyValues::remove(std::string_view key) {
  std::erase_if(entries_, [&](const Entry& e) { return e.key == key; });
}

bool GgufKeyValues::has(std::string_view key) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& e) { return e.key == key; });
}

std::string GgufKeyValues::serialize() const {
  std::string out;
  for (const Entry& e : entries_) out += string_bytes(e.key) + bytes_of(e.type) + e.bytes;
  return out;
}

int64_t GgufTensorInfo::bytes() const {
  int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows * dtype_row_bytes(type, shape.back());
}

Result<std::unique_ptr<GgufWriter>> GgufWriter::create(const std::string& path,
                                                       const GgufKeyValues& metadata,
                                                       std::vector<GgufTensorInfo> tensors) {
  FATHOM_TRY_STATUS(check_tensors(path, tensors));
  std::unique_ptr<GgufWriter> writer(new GgufWriter());
  FATHOM_TRY_STATUS(writer->open(path));
  const std::string head = header(metadata, tensors);
  writer->tensors_ = std::move(tensors);
  FATHOM_TRY_STATUS(writer->write(head.data(), head.size()));
  FATHOM_TRY_STATUS(writer->pad());
  return writer;
}

// The lock keeps two programs from writing to one file. Whoever held it may have renamed the file
// away between our open and our lock: then the name stands for another file, or for none.
Status GgufWriter::open(const std::string& path) {
  path_ = path;
  temporary_ = path + ".part";
  for (int attempt = 0; attempt < 100; ++attempt) {
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) return failed("create");
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return failed("lock");
      return Error{ErrorCode::kInvalidArgument,
                   temporary_ + ": another program is writing to it, expected none"};
    }
    struct stat ours{}, named{};
    if (::fstat(fd_, &ours) == 0 && ::stat(temporary_.c_str(), &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
      owns_temporary_ = true;
      return ::ftruncate(fd_, 0) == 0 ? Status() : Status(failed("truncate"));
    }
    ::close(fd_);
    fd_ = -1;
  }
  return Error{ErrorCode::kUnavailable, temporary_ + ": keeps being renamed by another program"};
}

GgufWriter::~GgufWriter() {
  if (owns_temporary_) ::unlink(temporary_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

Error GgufWriter::failed(std::string_view what) const {
  const int e = errno;
  // A full or failing disk is no fault of the path that was given.
  const bool machine = e == ENOSPC || e == EDQUOT || e == EFBIG || e == EIO;
  const auto code = machine       ? ErrorCode::kUnavailable
                    : e == ENOENT ? ErrorCode::kNotFound
                                  : ErrorCode::kInvalidArgument;
  return {code, fmt::format("{}: cannot {}: {}", temporary_, what, std::strerror(e))};
}

Status GgufWriter::write(const void* data, std::size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(fmt::format("write after {} bytes", written_));
    p += n;
    bytes -= static_cast<std::size_t>(n);
    written_ += n;
  }
  return {};
}

Status GgufWriter::pad() {
  static constexpr char kZeros[kGgufDefaultAlignment] = {};
  return write(kZeros, static_cast<std::size_t>(aligned(written_) - written_));
}

Status GgufWriter::append(std::span<const std::byte> data) {
  if (data.empty()) return {};
  FATHOM_CHECK_LT(current_, tensors_.size());
  const int64_t left = tensors_[current_].bytes() - done_;
  FATHOM_CHECK_LE(static_cast<int64_t>(data.size()), left) << tensors_[current_].name;
  FATHOM_TRY_STATUS(write(data.data(), data.size()));
  done_ += static_cast<int64_t>(data.size());
  if (done_ < tensors_[current_].bytes()) return {};
  ++current_;
  done_ = 0;
  return pad();
}

Status GgufWriter::finish() {
  FATHOM_CHECK_EQ(current_, tensors_.size()) << "tensors are missing";
  if (::fsync(fd_) != 0) return failed("fsync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed("rename to " + path_);
  owns_temporary_ = false;
  // The rename itself is durable once the directory is synced.
  const auto slash = path_.rfind('/');
  const std::string dir = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return {};
  const bool synced = ::fsync(fd) == 0 || errno == EINVAL;
  const Error error = failed("sync the directory of");
  ::close(fd);
  return synced ? Status() : Status(error);
}

}  // namespace fathom
