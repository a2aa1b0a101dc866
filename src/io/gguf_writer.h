// Writer of GGUF files, version 3: metadata and tensor descriptions first, then the tensors' bytes,
// streamed. The format: gguf.h.
//
// Owns the bytes' layout and that nobody ever sees half a file: it writes to PATH.part beside PATH,
// syncs and renames at the end, and removes PATH.part on failure. What a killed run leaves of
// PATH.part does no harm and is replaced by the next one. Does not own what the keys mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/gguf.h"

namespace fathom {

// Metadata in the order in which they were first set; setting a key again replaces its value.
class GgufKeyValues {
 public:
  void set_u32(std::string_view key, uint32_t value);
  void set_i32(std::string_view key, int32_t value);
  void set_f32(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_i32s(std::string_view key, std::span<const int32_t> values);
  void set_strings(std::string_view key, std::span<const std::string> values);
  // A value as another file has it.
  void copy(std::string_view key, const GgufValue& value);
  void remove(std::string_view key);
  bool has(std::string_view key) const;

  std::size_t size() const { return entries_.size(); }
  // All key-values as they stand in a file.
  std::string serialize() const;

 private:
  void set(std::string_view key, GgufType type, std::string bytes);
  struct Entry {
    std::string key;
    uint32_t type = 0;
    std::string bytes;
  };
  std::vector<Entry> entries_;
};

// A tensor to come. shape: outermost first, as everywhere in fathom (the file has it reversed); the
// last dimension is whole blocks of the type.
struct GgufTensorInfo {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;
  int64_t bytes() const;
};

class GgufWriter {
 public:
  // Opens PATH.part and writes everything up to the data. Errors: a file that cannot be written (as
  // invalid argument), another program that is writing to the same PATH, duplicate or overlong
  // tensor names, more than limits::kMaxGgufTensorRank dimensions or none in one of them, a type that GGUF does not have.
  static Result<std::unique_ptr<GgufWriter>> create(const std::string& path,
                                                    const GgufKeyValues& metadata,
                                                    std::vector<GgufTensorInfo> tensors);
  // Without finish(): removes PATH.part.
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  // The next bytes of the tensor that is being written: tensors in the order of create(), each in
  // any number of pieces. More bytes than the tensor has are a programmer error.
  Status append(std::span<const std::byte> data);
  // All tensors are complete (else a programmer error): syncs and renames to PATH.
  Status finish();

  int64_t file_bytes() const { return written_; }

 private:
  GgufWriter() = default;
  Status open(const std::string& path);
  Status write(const void* data, std::size_t bytes);
  Status pad();
  Error failed(std::string_view what) const;

  std::string path_, temporary_;
  int fd_ = -1;
  bool owns_temporary_ = false;
  int64_t written_ = 0;
  std::vector<GgufTensorInfo> tensors_;
  std::size_t current_ = 0;  // the tensor being written
  int64_t done_ = 0;         // bytes of it
};

}  // namespace fathom
