#include "io/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/file.h"
#include "io/gguf.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class GgufWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/gguf_writer." + std::to_string(::getpid());
    std::filesystem::create_directories(dir_);
    path_ = dir_ + "/model.gguf";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  static std::vector<std::byte> bytes(std::size_t n, int first) {
    std::vector<std::byte> out(n);
    for (std::size_t i = 0; i < n; ++i)
      out[i] = static_cast<std::byte>(first + static_cast<int>(i));
    return out;
  }
  void put(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  }
  std::string content(const std::string& path) {
    auto text = read_file(path, 1 << 20);
    return text ? *text : "<" + text.error().message + ">";
  }

  std::string dir_, path_;
};

TEST_F(GgufWriterTest, WhatIsWrittenIsRead) {
  GgufKeyValues kv;
  kv.set_string("general.architecture", "test");
  kv.set_u32("test.u", 4'000'000'000u);
  kv.set_i32("test.i", -7);
  kv.set_f32("test.f", 0.5f);
  kv.set_bool("test.b", true);
  kv.set_i32s("test.is", std::vector<int32_t>{3, -1, 2});
  kv.set_strings("test.ss", std::vector<std::string>{"a", "", "日本"});
  kv.set_u32("test.gone", 1);
  kv.remove("test.gone");
  kv.set_u32("test.u", 5);  // replaces
  const std::vector<GgufTensorInfo> tensors = {
      {"v", DType::kF32, {3}}, {"q", DType::kQ8_0, {2, 3, 64}}, {"h", DType::kF16, {1, 5}}};
  const auto v = bytes(12, 1), q = bytes(2 * 3 * 2 * 34, 50), h = bytes(10, 7);
  {
    auto writer = GgufWriter::create(path_, kv, tensors);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE((*writer)->append(v));
    ASSERT_TRUE((*writer)->append(std::span(q).first(100)));
    ASSERT_TRUE((*writer)->append(std::span(q).subspan(100)));
    ASSERT_TRUE((*writer)->append(h));
    EXPECT_FALSE(file_exists(path_));
    ASSERT_TRUE((*writer)->finish());
    EXPECT_EQ((*writer)->file_bytes(), static_cast<int64_t>(std::filesystem::file_size(path_)));
  }
  EXPECT_FALSE(file_exists(path_ + ".part"));
  const auto file = MappedFile::open(path_);
  ASSERT_TRUE(file);
  auto parsed = parse_gguf(file->bytes(), path_);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->version, 3u);
  EXPECT_EQ(parsed->metadata.size(), 7u);
  EXPECT_EQ(*parsed->metadata.integer("test.u", 0, 100), 5);
  EXPECT_EQ(*parsed->metadata.integer("test.i", -100, 100), -7);
  EXPECT_EQ(*parsed->metadata.number("test.f", 0, 1), 0.5);
  EXPECT_EQ(*parsed->metadata.boolean_or("test.b", false), true);
  EXPECT_THAT(*parsed->metadata.find("test.is")->integers(), ::testing::ElementsAre(3, -1, 2));
  EXPECT_THAT(*parsed->metadata.find("test.ss")->strings(),
              ::testing::ElementsAre("a", "", "日本"));
  const auto expect_tensor = [&](const std::string& name, DType type, std::vector<int64_t> shape,
                                 const std::vector<std::byte>& data) {
    const auto it = parsed->tensors.find(name);
    ASSERT_NE(it, parsed->tensors.end()) << name;
    EXPECT_EQ(it->second.dtype, type);
    EXPECT_EQ(it->second.shape, shape);
    EXPECT_EQ((it->second.data.data() - file->bytes().data()) % 32, 0) << name;
    EXPECT_TRUE(
        std::equal(data.begin(), data.end(), it->second.data.begin(), it->second.data.end()))
        << name;
  };
  expect_tensor("v", DType::kF32, {3}, v);
  expect_tensor("q", DType::kQ8_0, {2, 3, 64}, q);
  expect_tensor("h", DType::kF16, {1, 5}, h);

  // And copied values are the same again.
  GgufKeyValues copied;
  parsed->metadata.for_each(
      [&](std::string_view key, const GgufValue& value) { copied.copy(key, value); });
  const std::string path = dir_ + "/copy.gguf";
  auto writer = GgufWriter::create(path, copied, {});
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->finish());
  const auto second = MappedFile::open(path);
  auto again = parse_gguf(second->bytes(), path);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->metadata.size(), 7u);
  EXPECT_EQ(*again->metadata.string("general.architecture"), "test");
  EXPECT_THAT(*again->metadata.find("test.ss")->strings(), ::testing::ElementsAre("a", "", "日本"));
}

TEST_F(GgufWriterTest, OnlyFinishReplacesTheFile) {
  put(path_, "old");
  {
    auto writer = GgufWriter::create(path_, {}, {{"v", DType::kF32, {2}}});
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->append(bytes(8, 0)));
    EXPECT_EQ(content(path_), "old");
    EXPECT_TRUE(file_exists(path_ + ".part"));
  }
  EXPECT_EQ(content(path_), "old");
  EXPECT_FALSE(file_exists(path_ + ".part"));
  auto writer = GgufWriter::create(path_, {}, {});
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->finish());
  EXPECT_EQ(content(path_).substr(0, 4), "GGUF");
}

TEST_F(GgufWriterTest, LeftoverOfAKilledRunIsReplaced) {
  put(path_ + ".part", std::string(100'000, 'x'));
  auto writer = GgufWriter::create(path_, {}, {{"v", DType::kF32, {1}}});
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->append(bytes(4, 9)));
  ASSERT_TRUE((*writer)->finish());
  EXPECT_LT(std::filesystem::file_size(path_), 1000u);
}

TEST_F(GgufWriterTest, TwoWritersOfOneFile) {
  auto first = GgufWriter::create(path_, {}, {});
  ASSERT_TRUE(first);
  const auto second = GgufWriter::create(path_, {}, {});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("another program is writing"));
  ASSERT_TRUE((*first)->finish());
  EXPECT_TRUE(file_exists(path_));
}

TEST_F(GgufWriterTest, Errors) {
  const auto error = [&](const std::string& path, std::vector<GgufTensorInfo> tensors) {
    const auto writer = GgufWriter::create(path, {}, std::move(tensors));
    return writer ? std::string() : writer.error().message;
  };
  EXPECT_THAT(error(dir_ + "/no/such/dir.gguf", {}), HasSubstr("cannot create"));
  EXPECT_THAT(error(path_, {{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}),
              HasSubstr("'a': is there twice"));
  EXPECT_THAT(error(path_, {{"a", DType::kF32, {1, 1, 1, 1, 1}}}), HasSubstr("5 dimensions"));
  EXPECT_THAT(error(path_, {{"a", DType::kQ4_K, {2, 128}}}), HasSubstr("whole blocks of Q4_K"));
  EXPECT_THAT(error(path_, {{"a", DType::kF32, {0, 4}}}), HasSubstr("shape [0, 4]"));
  EXPECT_THAT(error(path_, {{"a", DType::kF8E4M3, {1}}}), HasSubstr("no type F8_E4M3"));
  EXPECT_FALSE(file_exists(path_ + ".part"));
  EXPECT_FALSE(file_exists(path_));
}

}  // namespace
}  // namespace fathom
