// Reader of one GGUF file: metadata and tensors, checked.
//
// Format (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3, little-endian: "GGUF", u32
// version, u64 number of tensors, u64 number of key-values; the key-values (string key, u32 type,
// value); the tensors' descriptions (string name, u32 rank, u64 dimensions innermost first, u32
// type, u64 offset); padding; the tensors' data. A string is a u64 length and its bytes.
//
// Owns the bytes' meaning, not the meaning of keys and names (gguf_config.h, gguf_vocab.h,
// gguf_weights.h) nor files in several parts (gguf_files.h). Every count, length and offset is
// checked before it is used; values stay where they are in the mapping, so that a file cannot ask
// for more memory than a small multiple of its own size.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/weight_source.h"

namespace fathom {

enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
inline constexpr uint32_t kGgufTypes = 13;
std::string_view gguf_type_name(GgufType type);  // "u32", "string", …

inline constexpr uint64_t kGgufDefaultAlignment = 32;

// The number by which GGUF files know an element type; nullopt if they have none for it.
std::optional<uint32_t> ggml_type_number(DType type);
std::optional<DType> dtype_from_ggml_type(uint32_t number);

// A metadata value: a view into the file, checked by parse_gguf.
class GgufValue {
 public:
  GgufValue() = default;
  // `data`: a scalar's bytes, a string's characters, or an array's elements as they stand.
  GgufValue(GgufType type, std::span<const std::byte> data) : type_(type), data_(data) {}
  GgufValue(GgufType element_type, uint64_t count, std::span<const std::byte> data)
      : type_(GgufType::kArray), element_type_(element_type), count_(count), data_(data) {}

  GgufType type() const { return type_; }
  GgufType element_type() const { return element_type_; }  // of an array
  uint64_t count() const { return count_; }                // of an array

  // nullopt if the value is of another kind, or (integer) does not fit 63 bits and a sign.
  std::optional<int64_t> integer() const;
  std::optional<double> number() const;  // any number; may be infinite or NaN
  std::optional<bool> boolean() const;
  std::optional<std::string_view> string() const;  // any bytes, not only UTF-8
  // nullopt if the value is no array of such elements.
  std::optional<std::vector<int64_t>> integers() const;
  std::optional<std::vector<float>> floats() const;
  std::optional<std::vector<std::string_view>> strings() const;

  // A short printable form for messages; valid UTF-8.
  std::string preview() const;
  // The bytes that the constructor was given.
  std::span<const std::byte> raw() const { return data_; }

 private:
  GgufType type_ = GgufType::kU8;
  GgufType element_type_ = GgufType::kU8;
  uint64_t count_ = 0;
  std::span<const std::byte> data_;
};

// The key-values of a file with typed getters. Each names file, key, value seen and value expected
// when it fails. The mapping must outlive it.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  explicit GgufMetadata(std::string source) : source_(std::move(source)) {}

  const std::string& source() const { return source_; }
  std::size_t size() const { return values_.size(); }
  const GgufValue* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  void for_each(const std::function<void(std::string_view, const GgufValue&)>& visit) const;
  // False if the key is there already.
  bool insert(std::string_view key, const GgufValue& value);

  // Integers of any width within [min, max]. A list of equal integers (one per layer) is one.
  Result<int64_t> integer(std::string_view key, int64_t min, int64_t max) const;
  Result<int64_t> integer_or(std::string_view key, int64_t fallback, int64_t min,
                             int64_t max) const;
  // Finite numbers within [min, max]. A list of equal float32 numbers is one.
  Result<double> number(std::string_view key, double min, double max) const;
  Result<double> number_or(std::string_view key, double fallback, double min, double max) const;
  Result<bool> boolean_or(std::string_view key, bool fallback) const;
  // Text: valid UTF-8.
  Result<std::string> string(std::string_view key) const;
  Result<std::string> string_or(std::string_view key, std::string_view fallback) const;
  // A name that people read in a terminal: control characters become U+FFFD, what is behind the
  // first 200 characters is cut off. The fallback, too; it may be any bytes.
  Result<std::string> label_or(std::string_view key, std::string_view fallback) const;

  // An invalid-argument error: "<file>: <key> is <seen>, expected <expected>".
  Error bad(std::string_view key, std::string_view expected) const;

 private:
  std::string source_;
  std::map<std::string_view, GgufValue> values_;
};

struct GgufFile {
  uint32_t version = 0;
  uint64_t alignment = kGgufDefaultAlignment;
  GgufMetadata metadata;
  // By GGUF name; shapes outermost first. The data are views into the file and do not overlap.
  std::map<std::string, StoredTensor, std::less<>> tensors;
};

// Parses `file` (the whole file's bytes, which must outlive the result). `source` is the file's
// name in messages. Errors: not a GGUF file, a version or byte order that is not read, a lie in a
// count, a length or an offset, a tensor type that fathom does not have (by name where known),
// duplicate keys or tensors, overlapping tensors.
Result<GgufFile> parse_gguf(std::span<const std::byte> file, const std::string& source);

}  // namespace fathom
