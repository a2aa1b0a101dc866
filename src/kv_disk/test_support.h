// Pages, a directory that goes with the test, and a look at what is in it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kv_disk/crypto.h"

namespace fathom::kv_disk::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "fathom-kv-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) ADD_FAILURE() << path;
    path_ = path;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline SecretKey key_of(uint8_t seed) {
  std::array<uint8_t, SecretKey::kBytes> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(seed + 3 * i);
  return SecretKey(bytes);
}

// A page with memory of its own.
struct TestPage {
  std::vector<std::byte> memory;
  PageTier::Page page;

  TestPage(int32_t number, std::size_t bytes, const PageId& parent = {}, int64_t depth = 0)
      : memory(bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      memory[i] = static_cast<std::byte>(static_cast<std::size_t>(number) * 31 + i * 7);
    page = {.page = number,
            .parent = parent,
            .depth = depth,
            .prompt_tokens = 2,
            .tokens = {number, number + 1, number + 2, 70'000}};
    page.id = page_id(page.parent, page.prompt_tokens, page.tokens);
    page.bytes = {memory};
  }
  // The bytes stay where they are.
  TestPage(TestPage&& other) noexcept = default;
  TestPage& operator=(TestPage&& other) noexcept = default;
  // The same page with nothing in it.
  TestPage blank() const {
    TestPage out(page.page, memory.size(), page.parent, page.depth);
    std::fill(out.memory.begin(), out.memory.end(), std::byte{0});
    return out;
  }
};

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void put_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

// Files of pages below a directory.
inline std::vector<std::filesystem::path> page_files(const std::string& directory) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && entry.path().filename().string().size() == 40)
      out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace fathom::kv_disk::test
