// What tests of file readers share: a directory that disappears, and safetensors files made in
// place.
//
// Owns no assertions. Not compiled into the library: only tests and fuzzers include it.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace fathom::test {

// An empty directory, removed with everything in it at the end.
class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string pattern = (parent / "fathom_test_XXXXXX").string();
    FATHOM_CHECK(::mkdtemp(pattern.data()) != nullptr) << pattern;
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  void write(std::string_view name, std::string_view content) const {
    std::ofstream out(file(name), std::ios::binary);
    out << content;
    out.close();
    FATHOM_CHECK(out.good()) << file(name);
  }

 private:
  std::string path_;
};

// The little-endian bytes of a list of numbers.
template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  std::string out(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

// A safetensors file of a header's text and the data; `length` is what the file says of the header.
inline std::string safetensors_file(std::string_view header, std::string_view data,
                                    uint64_t length) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(length >> (8 * i) & 0xFF);
  return out.append(header).append(data);
}
inline std::string safetensors_file(std::string_view header, std::string_view data) {
  return safetensors_file(header, data, header.size());
}

struct TestTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

// A valid file. `pad` spaces end the header: they move the data to other alignments.
inline std::string safetensors_file(const std::vector<TestTensor>& tensors, std::size_t pad = 0) {
  std::string header, data;
  for (const TestTensor& t : tensors) {
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          header.empty() ? "{" : ",", t.name, t.dtype, fmt::join(t.shape, ","),
                          data.size(), data.size() + t.data.size());
    data += t.data;
  }
  return safetensors_file((header.empty() ? "{" : header) + "}" + std::string(pad, ' '), data);
}

}  // namespace fathom::test
