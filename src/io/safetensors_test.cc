// The safetensors reader: what is legal is read; what is hostile is refused with a message that
// names file, tensor, field, value seen and value expected. One file, and the indexes of several.
#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/utf8.h"
#include "io/test_support.h"

namespace fathom {
namespace {

using test::safetensors_file;
using test::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::span<const std::byte> as_bytes(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

// The message with which a file is refused, "" if it is accepted.
std::string refusal(std::string_view file) {
  // A copy of exactly its size: a read behind the end is a read out of bounds.
  const std::vector<char> exact(file.begin(), file.end());
  const auto r = parse_safetensors(std::as_bytes(std::span(exact)), "m.safetensors");
  if (r) return "";
  EXPECT_THAT(r.error().message, StartsWith("m.safetensors"));
  EXPECT_TRUE(utf8_is_valid(r.error().message)) << r.error().message;
  EXPECT_LT(r.error().message.size(), 800u) << r.error().message;
  return r.error().message;
}

struct HostileHeader {
  std::string header;
  std::size_t data_bytes;
  std::vector<std::string> named;  // what the message must hold
};

void expect_refused(const std::vector<HostileHeader>& cases) {
  for (const HostileHeader& c : cases) {
    const std::string message = refusal(safetensors_file(c.header, std::string(c.data_bytes, 'x')));
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.header;
  }
}

// A header of one tensor "w".
std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                     offsets);
}
std::string two(std::string_view offsets_a, std::string_view offsets_b) {
  return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                     R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                     offsets_a, offsets_b);
}

TEST(Safetensors, ReadsTensorsMetadataAndPadding) {
  const std::string file =
      safetensors_file(R"({"__metadata__":{"format":"pt"},)"
                       R"("b.c":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},)"
                       R"("é":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},)"
                       R"("none":{"dtype":"F16","shape":[5,0,7],"data_offsets":[26,26]}}     )",
                       std::string(26, 'x'));
  const auto r = parse_safetensors(as_bytes(file), "m.safetensors");
  ASSERT_TRUE(r) << r.error().message;
  ASSERT_EQ(r->size(), 3u);
  const StoredTensor& t = r->at("b.c");
  EXPECT_EQ(t.dtype, DType::kF32);
  EXPECT_EQ(t.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(t.data.data(), as_bytes(file).data() + file.size() - 24);
  EXPECT_EQ(t.data.size(), 24u);
  EXPECT_EQ(t.file, "m.safetensors");
  EXPECT_TRUE(r->at("é").shape.empty());
  EXPECT_EQ(r->at("é").data.size(), 2u);
  EXPECT_EQ(r->at("none").shape, (std::vector<int64_t>{5, 0, 7}));
  EXPECT_TRUE(r->at("none").data.empty());
}

TEST(Safetensors, LegalOddities) {
  EXPECT_EQ(refusal(safetensors_file("{}", "")), "");
  EXPECT_EQ(refusal(safetensors_file("{}" + std::string(1000, ' ') + "\n", "")), "");
  EXPECT_EQ(refusal(safetensors_file(R"({"__metadata__":null})", "")), "");
  EXPECT_EQ(refusal(safetensors_file(R"({"__metadata__":{}})", "")), "");
  EXPECT_EQ(refusal(safetensors_file(one("\"U8\"", "[4]", "[0,4]"), "1234")), "");
  EXPECT_EQ(refusal(safetensors_file(two("[4,8]", "[0,4]"), "12345678")), "");  // any order
  EXPECT_EQ(refusal(safetensors_file(one("\"I8\"", "[1,1,1,1,1,1,1,1]", "[0,1]"), "1")), "");
  // Empty tensors may stand on each other and inside others: they hold nothing.
  EXPECT_EQ(refusal(safetensors_file(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
                                     R"("b":{"dtype":"F32","shape":[0,3],"data_offsets":[2,2]},)"
                                     R"("c":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                                     "1234")),
            "");
  // A name is any text, the empty one too.
  EXPECT_EQ(
      refusal(safetensors_file(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1")),
      "");
}

TEST(Safetensors, FilesThatEndTooEarly) {
  const std::string whole = safetensors_file(one("\"F32\"", "[2]", "[0,8]"), "12345678");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string message = refusal(whole.substr(0, size));
    EXPECT_NE(message, "") << size;
    if (size < 8) {
      EXPECT_THAT(message,
                  AllOf(HasSubstr(fmt::format("{} bytes", size)), HasSubstr("at least 8")));
    } else if (size < whole.size() - 8) {
      EXPECT_THAT(message, AllOf(HasSubstr(fmt::format("only {} bytes follow", size - 8)),
                                 HasSubstr("truncated")));
    } else {
      EXPECT_THAT(message,
                  AllOf(HasSubstr("tensor \"w\": data_offsets is [0,8]"),
                        HasSubstr(fmt::format("begin <= end <= {}", size - (whole.size() - 8)))));
    }
  }
  EXPECT_EQ(refusal(whole), "");
}

TEST(Safetensors, LyingHeaderLengths) {
  const std::string header = one("\"U8\"", "[4]", "[0,4]");
  for (const uint64_t length : {uint64_t{1} << 60, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7,
                                static_cast<uint64_t>(limits::kMaxSafetensorsHeaderBytes) + 1}) {
    EXPECT_THAT(refusal(safetensors_file(header, "1234", length)),
                AllOf(HasSubstr(fmt::format("header length is {}", length)),
                      HasSubstr(fmt::format("at most {}", limits::kMaxSafetensorsHeaderBytes))));
  }
  EXPECT_THAT(refusal(safetensors_file(header, "1234", header.size() + 5)),
              AllOf(HasSubstr("truncated"), HasSubstr(fmt::format("only {}", header.size() + 4))));
  EXPECT_THAT(refusal(safetensors_file(header, "1234", header.size() - 1)),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(safetensors_file(header, "1234", header.size() + 1)),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(safetensors_file("", "", 0)),
              AllOf(HasSubstr("header begins with \"\""), HasSubstr("expected '{'")));
}

TEST(Safetensors, HeadersThatAreNoObject) {
  expect_refused({
      {"[1]", 0, {"header begins with \"[1]\"", "expected '{'"}},
      {"null", 0, {"header begins with \"null\"", "expected '{'"}},
      {"\xEF\xBB\xBF{}", 0, {"header begins with", "expected '{'"}},
      {" {}", 0, {"header begins with \" {}\"", "expected '{'"}},
      {"{", 0, {"m.safetensors (header)", "not valid JSON"}},
      {"{}{}", 0, {"not valid JSON"}},
      {std::string("{}\0", 3), 0, {"zero byte"}},
      {"{\"\xFF\":1}", 0, {"not valid JSON"}},
      {R"({"w":NaN})", 0, {"not valid JSON", "\"w\""}},
      {R"({"w":{"dtype":"U8","dtype":"U8"}})", 0, {"\"w.dtype\"", "twice"}},
      {R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2,
       {"\"w\"", "twice", "expected once"}},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, {"__metadata__", "twice"}},
      {R"({"__metadata__":[[[[[[[[[[]]]]]]]]]]})", 0, {"__metadata__", "nested deeper than 8"}},
  });
}

TEST(Safetensors, MetadataOfOtherTypes) {
  expect_refused({
      {R"({"__metadata__":7})", 0, {"__metadata__ is 7", "expected an object of strings"}},
      {R"({"__metadata__":["a"]})", 0, {"__metadata__ is [\"a\"]", "an object of strings"}},
      {R"({"__metadata__":{"k":null}})", 0, {"__metadata__[\"k\"] is null", "expected a string"}},
      {R"({"__metadata__":{"k":{"a":"b"}}})", 0, {"__metadata__[\"k\"]", "expected a string"}},
      // A tensor cannot hide behind the name: its data would be covered by nothing.
      {R"({"__metadata__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1,
       {"__metadata__[\"data_offsets\"] is [0,1]", "expected a string"}},
  });
}

TEST(Safetensors, EntriesWithMissingOrWrongFields) {
  expect_refused({
      {R"({"w":1})", 0, {"tensor \"w\": entry is 1", "expected an object"}},
      {R"({"w":null})", 0, {"tensor \"w\": entry is null", "expected an object"}},
      {R"({"w":{}})", 0, {"tensor \"w\": dtype is missing"}},
      {R"({"w":{"shape":[1],"data_offsets":[0,1]}})", 1, {"tensor \"w\": dtype is missing"}},
      {R"({"w":{"dtype":"U8","data_offsets":[0,1]}})", 1, {"tensor \"w\": shape is missing"}},
      {R"({"w":{"dtype":"U8","shape":[1]}})", 1, {"tensor \"w\": data_offsets is missing"}},
      {one("null", "[1]", "[0,1]"), 1, {"\"w\": dtype is null", "expected a string"}},
      {one("8", "[1]", "[0,1]"), 1, {"\"w\": dtype is 8", "expected a string"}},
      {one("\"F5\"", "[1]", "[0,1]"), 1, {"\"w\": dtype is \"F5\"", "expected ", "BF16"}},
      {one("\"u8\"", "[1]", "[0,1]"), 1, {"\"w\": dtype is \"u8\"", "BF16"}},
      {one("\"U8 \"", "[1]", "[0,1]"), 1, {"\"w\": dtype is \"U8 \"", "BF16"}},
      {one("\"\"", "[1]", "[0,1]"), 1, {"\"w\": dtype is \"\"", "BF16"}},
      {one("\"U8\"", "null", "[0,1]"), 1, {"\"w\": shape is null", "at most 8 dimensions"}},
      {one("\"U8\"", "1", "[0,1]"), 1, {"\"w\": shape is 1", "at most 8 dimensions"}},
      {one("\"U8\"", "{\"0\":1}", "[0,1]"), 1, {"shape is {\"0\":1}", "at most 8 dimensions"}},
      {one("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"),
       1,
       {"shape is [1,1,", "at most 8 dimensions"}},
      {one("\"U8\"", "[-1]", "[0,1]"), 1, {"shape is [-1]", "non-negative integers"}},
      {one("\"U8\"", "[1.0]", "[0,1]"), 1, {"shape is [1.0]", "non-negative integers"}},
      {one("\"U8\"", "[\"1\"]", "[0,1]"), 1, {"shape is [\"1\"]", "non-negative integers"}},
      {one("\"U8\"", "[[1]]", "[0,1]"), 1, {"shape is [[1]]", "non-negative integers"}},
      {one("\"U8\"", "[null]", "[0,1]"), 1, {"shape is [null]", "non-negative integers"}},
      {one("\"U8\"", "[9223372036854775808]", "[0,1]"), 1, {"shape is [9223372036854775808]"}},
      {one("\"U8\"", "[18446744073709551617]", "[0,1]"), 1, {"shape is [1.8446744073709552e+19]"}},
  });
}

TEST(Safetensors, ShapesWhoseProductOverflows) {
  expect_refused({
      {one("\"U8\"", "[4294967296,4294967296]", "[0,0]"),
       0,
       {"[4294967296,4294967296]", "63 bits"}},
      {one("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, {"[4611686018427387904]", "63 bits"}},
      // The product is zero in the end, and wraps on the way.
      {one("\"F32\"", "[4611686018427387904,4,0]", "[0,0]"), 0, {"shape", "63 bits"}},
      {one("\"U8\"", "[9223372036854775807]", "[0,0]"),
       0,
       {"data_offsets span 0 bytes", "expected 9223372036854775807 for U8"}},
  });
  // With the zero first nothing wraps: an empty tensor.
  EXPECT_EQ(refusal(safetensors_file(one("\"F32\"", "[0,4611686018427387904,4]", "[0,0]"), "")),
            "");
}

TEST(Safetensors, OffsetsThatLie) {
  const std::string range = "begin <= end <= 4, the data's size";
  expect_refused({
      {one("\"U8\"", "[4]", "null"), 4, {"\"w\": data_offsets is null", "[begin, end]"}},
      {one("\"U8\"", "[4]", "[0]"), 4, {"data_offsets is [0]", "[begin, end]"}},
      {one("\"U8\"", "[4]", "[0,4,8]"), 4, {"data_offsets is [0,4,8]", "[begin, end]"}},
      {one("\"U8\"", "[4]", "{\"0\":0,\"1\":4}"), 4, {"data_offsets is {", "[begin, end]"}},
      {one("\"U8\"", "[4]", "[0,4.0]"), 4, {"data_offsets is [0,4.0]", "[begin, end]"}},
      {one("\"U8\"", "[4]", "[-1,3]"), 4, {"data_offsets is [-1,3]", "[begin, end]"}},
      {one("\"U8\"", "[4]", "[\"0\",4]"), 4, {"data_offsets is [\"0\",4]", "[begin, end]"}},
      {one("\"U8\"", "[4]", "[4,0]"), 4, {"data_offsets is [4,0]", range}},
      {one("\"U8\"", "[4]", "[0,5]"), 4, {"data_offsets is [0,5]", range}},
      {one("\"U8\"", "[4]", "[5,9]"), 4, {"data_offsets is [5,9]", range}},
      {one("\"U8\"", "[4]", "[0,9223372036854775808]"), 4, {"9223372036854775808", range}},
      {one("\"U8\"", "[4]", "[18446744073709551612,18446744073709551615]"), 4, {range}},
      {one("\"U8\"", "[4]", "[0,18446744073709551616]"), 4, {"1.8446744073709552e+19"}},
      {one("\"U8\"", "[0]", "[5,5]"), 4, {"data_offsets is [5,5]", range}},
      {one("\"U8\"", "[3]", "[0,4]"), 4, {"span 4 bytes", "expected 3 for U8 [3]"}},
      {one("\"F32\"", "[4]", "[0,4]"), 4, {"span 4 bytes", "expected 16 for F32 [4]"}},
      {one("\"BF16\"", "[]", "[0,4]"), 4, {"span 4 bytes", "expected 2 for BF16 []"}},
      {one("\"F32\"", "[0]", "[0,4]"), 4, {"span 4 bytes", "expected 0 for F32 [0]"}},
  });
}

TEST(Safetensors, OverlapsHolesAndTrailingBytes) {
  expect_refused({
      {two("[0,4]", "[0,4]"), 4, {"tensor \"b\"", "begin at 0, expected 4", "overlaps"}},
      {two("[0,4]", "[2,6]"), 6, {"tensor \"b\"", "begin at 2, expected 4", "overlaps"}},
      {two("[2,6]", "[0,4]"), 6, {"tensor \"a\"", "begin at 2, expected 4", "overlaps"}},
      {two("[0,4]", "[5,9]"), 9, {"tensor \"b\"", "begin at 5, expected 4", "hole"}},
      {two("[1,5]", "[5,9]"), 9, {"tensor \"a\"", "begin at 1, expected 0", "hole"}},
      {two("[0,4]", "[4,8]"), 9, {"9 bytes of data", "cover 8"}},
      {"{}", 1, {"1 bytes of data", "cover 0"}},
      {one("\"U8\"", "[0]", "[1,1]"), 2, {"2 bytes of data", "cover 0"}},
  });
}

TEST(Safetensors, NamesAreShownSafely) {
  EXPECT_THAT(refusal(safetensors_file("{\"a\\n\\u001b[2J\":{}}", "")),
              HasSubstr("tensor \"a\\n\\u001b[2J\": dtype is missing"));
  const std::string long_name(100'000, 'n');
  EXPECT_THAT(refusal(safetensors_file("{\"" + long_name + "\":{}}", "")),
              HasSubstr("dtype is missing"));
}

TEST(Safetensors, AHeaderOfManySmallValuesIsBounded) {
  // 24 MB of text that would take some 400 MB as values.
  std::string header = R"({"w":[0)";
  header.reserve(26'000'000);
  while (header.size() < 2 * static_cast<std::size_t>(limits::kMaxSafetensorsHeaderValues) + 100)
    header += ",0";
  header += "]}";
  EXPECT_THAT(refusal(safetensors_file(header, "")),
              HasSubstr(fmt::format("more than {} values", limits::kMaxSafetensorsHeaderValues)));
}

// Files and indexes.

TEST(SafetensorsFile, OpeningWhatIsNoFile) {
  const TempDir dir;
  const auto message = [&](const std::string& path) {
    const auto r = SafetensorsWeights::open_file(path);
    return r ? "" : r.error().message;
  };
  const std::string missing = dir.file("none.safetensors");
  EXPECT_THAT(message(missing), AllOf(StartsWith(missing), HasSubstr("No such file")));
  EXPECT_THAT(message(dir.path()), AllOf(StartsWith(dir.path()), HasSubstr("not a regular file")));
  dir.write("empty.safetensors", "");
  EXPECT_THAT(message(dir.file("empty.safetensors")),
              AllOf(HasSubstr("empty.safetensors: 0 bytes"), HasSubstr("at least 8")));
  ASSERT_EQ(::mkfifo(dir.file("fifo.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(message(dir.file("fifo.safetensors")), HasSubstr("not a regular file"));
}

class SafetensorsIndex : public ::testing::Test {
 protected:
  SafetensorsIndex() {
    dir_.write("a.safetensors", safetensors_file({{"x", "U8", {1}, "1"}, {"y", "U8", {1}, "2"}}));
    dir_.write("b.safetensors", safetensors_file({{"z", "U8", {1}, "3"}, {"x", "U8", {1}, "4"}}));
  }
  Result<std::unique_ptr<SafetensorsWeights>> open(std::string_view text) {
    dir_.write("i.json", text);
    return SafetensorsWeights::open_index(dir_.path(), "i.json");
  }
  std::string refusal_of(std::string_view text) {
    const auto r = open(text);
    if (r) return "";
    EXPECT_TRUE(utf8_is_valid(r.error().message)) << r.error().message;
    return r.error().message;
  }
  TempDir dir_;
};

TEST_F(SafetensorsIndex, TakesEachTensorFromTheShardThatTheIndexNames) {
  const auto r = open(R"({"metadata":{"total_size":3},)"
                      R"("weight_map":{"y":"a.safetensors","x":"b.safetensors"}})");
  ASSERT_TRUE(r) << r.error().message;
  std::map<std::string, char> seen;
  (*r)->for_each([&](const std::string& name, const StoredTensor& t) {
    seen[name] = static_cast<char>(t.data[0]);
  });
  EXPECT_EQ(seen, (std::map<std::string, char>{{"x", '4'}, {"y", '2'}}));
  EXPECT_FALSE((*r)->has("z"));  // in a shard, not in the index
  EXPECT_EQ((*r)->description(), dir_.file("i.json"));
}

TEST_F(SafetensorsIndex, IndexesThatAreNoIndex) {
  const std::string path = dir_.file("i.json");
  const struct {
    const char* text;
    std::vector<std::string> named;
  } cases[] = {
      {"", {"not valid JSON"}},
      {"[]", {"the top level is []", "expected an object"}},
      {"{}", {"weight_map is missing", "expected an object"}},
      {R"({"weight_map":null})", {"weight_map is missing", "expected an object"}},
      {R"({"weight_map":["a.safetensors"]})", {"weight_map is [\"a.safetensors\"]", "an object"}},
      {R"({"weight_map":{"x":"a.safetensors","x":"b.safetensors"}})", {"weight_map.x", "twice"}},
      {R"({"weight_map":{},"weight_map":{}})", {"weight_map", "twice"}},
      {R"({"weight_map":{"x":NaN}})", {"weight_map.x", "not valid JSON"}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal_of(c.text);
    EXPECT_THAT(message, StartsWith(path)) << c.text;
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.text;
  }
}

TEST_F(SafetensorsIndex, ShardNamesStayInTheDirectory) {
  dir_.write("plain.bin", "");
  for (const char* shard : {"\"../a.safetensors\"", "\"./a.safetensors\"", "\"/tmp/a.safetensors\"",
                            "\"sub/a.safetensors\"", "\"a.safetensors\\u0000.safetensors\"",
                            "\"..\"", "\"\"", "\".safetensors\"", "\"i.json\"", "\"plain.bin\"",
                            "\"a.SAFETENSORS\"", "7", "null", "[\"a.safetensors\"]", "{}"}) {
    EXPECT_THAT(refusal_of(fmt::format(R"({{"weight_map":{{"x":{}}}}})", shard)),
                AllOf(StartsWith(dir_.file("i.json")), HasSubstr("weight_map[\"x\"] is "),
                      HasSubstr("expected the name of a .safetensors file in the same directory")))
        << shard;
  }
}

TEST_F(SafetensorsIndex, ShardsThatAreMissingOrLackATensor) {
  EXPECT_THAT(refusal_of(R"({"weight_map":{"x":"c.safetensors"}})"),
              AllOf(StartsWith(dir_.file("c.safetensors")), HasSubstr("No such file"),
                    HasSubstr("named in " + dir_.file("i.json"))));
  EXPECT_THAT(refusal_of(R"({"weight_map":{"x":"a.safetensors","z":"a.safetensors"}})"),
              AllOf(StartsWith(dir_.file("a.safetensors")), HasSubstr("tensor \"z\" is missing"),
                    HasSubstr(dir_.file("i.json"))));
  dir_.write("bad.safetensors", "short");
  EXPECT_THAT(refusal_of(R"({"weight_map":{"x":"bad.safetensors"}})"),
              AllOf(StartsWith(dir_.file("bad.safetensors")), HasSubstr("5 bytes")));
  ASSERT_EQ(::mkfifo(dir_.file("fifo.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(refusal_of(R"({"weight_map":{"x":"fifo.safetensors"}})"),
              HasSubstr("not a regular file"));
  // A chain of links that ends in itself, and an index that is its own shard under another name.
  ASSERT_EQ(::symlink("loop.safetensors", dir_.file("loop.safetensors").c_str()), 0);
  EXPECT_THAT(refusal_of(R"({"weight_map":{"x":"loop.safetensors"}})"),
              AllOf(StartsWith(dir_.file("loop.safetensors")), HasSubstr("cannot open")));
  ASSERT_EQ(::symlink("i.json", dir_.file("self.safetensors").c_str()), 0);
  EXPECT_THAT(refusal_of(R"({"weight_map":{"x":"self.safetensors"}})"),
              AllOf(StartsWith(dir_.file("self.safetensors")), HasSubstr("header length is")));
}

TEST_F(SafetensorsIndex, LinksToFilesElsewhereAreLegal) {
  const TempDir cache;  // how the hub's download cache lays files out
  cache.write("blob", safetensors_file({{"x", "U8", {1}, "9"}}));
  ASSERT_EQ(::symlink(cache.file("blob").c_str(), dir_.file("link.safetensors").c_str()), 0);
  const auto r = open(R"({"weight_map":{"x":"link.safetensors"}})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_TRUE((*r)->has("x"));
}

TEST_F(SafetensorsIndex, TheNumberOfShardsIsBounded) {
  std::string text = R"({"weight_map":{)";
  for (int i = 0; i <= limits::kMaxShards; ++i)
    text += fmt::format(R"({}"t{}":"s{}.safetensors")", i == 0 ? "" : ",", i, i);
  EXPECT_THAT(refusal_of(text + "}}"),
              HasSubstr(fmt::format("more than {} shards", limits::kMaxShards)));
}

}  // namespace
}  // namespace fathom
