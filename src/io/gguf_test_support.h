// GGUF files made in place for tests: any bytes at any point, so that a test can lie.
//
// Owns no assertions. Not compiled into the library: only tests include it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace fathom::test {

// Appends numbers and strings as the format has them.
class GgufBytes {
 public:
  template <typename T>
  GgufBytes& number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.append(raw, sizeof(T));
    return *this;
  }
  GgufBytes& u32(uint32_t value) { return number(value); }
  GgufBytes& u64(uint64_t value) { return number(value); }
  GgufBytes& string(std::string_view text) {
    u64(text.size());
    bytes += text;
    return *this;
  }
  GgufBytes& type(GgufType t) { return u32(static_cast<uint32_t>(t)); }

  std::string bytes;
};

inline std::string bytes_of_string(std::string_view text) { return GgufBytes().string(text).bytes; }
template <typename T>
std::string bytes_of_number(T value) {
  return GgufBytes().number(value).bytes;
}
inline std::string bytes_of_strings(const std::vector<std::string>& list) {
  GgufBytes out;
  out.type(GgufType::kString).u64(list.size());
  for (const std::string& s : list) out.string(s);
  return out.bytes;
}
inline std::string bytes_of_i32s(const std::vector<int32_t>& list) {
  GgufBytes out;
  out.type(GgufType::kI32).u64(list.size());
  for (const int32_t i : list) out.number(i);
  return out.bytes;
}
inline std::string bytes_of_f32s(const std::vector<float>& list) {
  GgufBytes out;
  out.type(GgufType::kF32).u64(list.size());
  for (const float v : list) out.number(v);
  return out.bytes;
}

struct GgufTestKey {
  std::string name;
  GgufType type;
  std::string value;  // as it stands in the file
};

// A literal would rather be a bool than a string_view.
inline GgufTestKey key(std::string name, const char* text) {
  return {std::move(name), GgufType::kString, bytes_of_string(text)};
}
inline GgufTestKey key(std::string name, const std::string& text) {
  return {std::move(name), GgufType::kString, bytes_of_string(text)};
}
inline GgufTestKey key(std::string name, uint32_t value) {
  return {std::move(name), GgufType::kU32, bytes_of_number(value)};
}
inline GgufTestKey key(std::string name, float value) {
  return {std::move(name), GgufType::kF32, bytes_of_number(value)};
}
inline GgufTestKey key(std::string name, bool value) {
  return {std::move(name), GgufType::kBool, std::string(1, value ? '\1' : '\0')};
}
inline GgufTestKey key(std::string name, const std::vector<std::string>& list) {
  return {std::move(name), GgufType::kArray, bytes_of_strings(list)};
}
inline GgufTestKey key(std::string name, const std::vector<int32_t>& list) {
  return {std::move(name), GgufType::kArray, bytes_of_i32s(list)};
}
inline GgufTestKey key(std::string name, const std::vector<float>& list) {
  return {std::move(name), GgufType::kArray, bytes_of_f32s(list)};
}

struct GgufTestTensor {
  std::string name;
  uint32_t type = 0;           // ggml's number
  std::vector<uint64_t> dims;  // innermost first, as in the file
  std::string data;
};

struct GgufTestFile {
  std::vector<GgufTestKey> keys;
  std::vector<GgufTestTensor> tensors;
  uint32_t version = 3;
  uint64_t alignment = 32;

  std::string bytes() const {
    GgufBytes out;
    out.bytes = "GGUF";
    out.u32(version).u64(tensors.size()).u64(keys.size());
    for (const GgufTestKey& k : keys) {
      out.string(k.name).type(k.type);
      out.bytes += k.value;
    }
    std::string data;
    for (const GgufTestTensor& t : tensors) {
      data.append(padding(data.size()), '\0');
      out.string(t.name).u32(static_cast<uint32_t>(t.dims.size()));
      for (const uint64_t d : t.dims) out.u64(d);
      out.u32(t.type).u64(data.size());
      data += t.data;
    }
    out.bytes.append(padding(out.bytes.size()), '\0');
    return out.bytes + data;
  }

 private:
  std::size_t padding(std::size_t at) const { return (alignment - at % alignment) % alignment; }
};

// A tensor of `n` float32 zeros per innermost dimension and so on.
inline GgufTestTensor f32_tensor(std::string name, std::vector<uint64_t> dims) {
  std::size_t n = 4;
  for (const uint64_t d : dims) n *= d;
  return {std::move(name), 0, std::move(dims), std::string(n, '\0')};
}

}  // namespace fathom::test
