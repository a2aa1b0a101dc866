#include "server/web/web_assets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include "server/web/embedded_assets.h"

namespace fathom::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::filesystem::path assets_directory() {
  return std::filesystem::path(FATHOM_SOURCE_DIR) / "src/server/web/assets";
}

std::string content_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string gunzip(std::string_view compressed, size_t expected_bytes) {
  std::string plain(expected_bytes + 1, '\0');
  z_stream stream{};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  stream.next_out = reinterpret_cast<Bytef*>(plain.data());
  stream.avail_out = static_cast<uInt>(plain.size());
  constexpr int kGzipOnly = 16 + MAX_WBITS;
  EXPECT_EQ(inflateInit2(&stream, kGzipOnly), Z_OK);
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  plain.resize(stream.total_out);
  inflateEnd(&stream);
  return plain;
}

TEST(WebAssets, EveryFileIsServedAsItIs) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(assets_directory())) {
    const auto& file = entry.path();
    if (!entry.is_regular_file() || file.extension() == ".gz" || file.filename() == "SOURCES")
      continue;
    ++files;
    const std::string path = "/" + file.lexically_relative(assets_directory()).generic_string();
    const auto asset = find_web_asset(path);
    ASSERT_TRUE(asset.has_value()) << path;
    EXPECT_EQ(asset->body, content_of(file)) << path;
    EXPECT_FALSE(asset->content_type.empty()) << path;
  }
  EXPECT_EQ(files, embedded_assets().size());
}

TEST(WebAssets, CompressedFormsSayTheSame) {
  size_t compressed = 0;
  for (const auto& [path, asset] : embedded_assets()) {
    EXPECT_EQ(asset.gzip_body.empty(), asset.gzip_etag.empty()) << path;
    if (asset.gzip_body.empty()) continue;
    ++compressed;
    EXPECT_LT(asset.gzip_body.size(), asset.body.size()) << path;
    EXPECT_EQ(gunzip(asset.gzip_body, asset.body.size()), asset.body) << path;
  }
  EXPECT_GT(compressed, 0U);
}

TEST(WebAssets, EtagsAreQuotedAndTheirOwn) {
  std::vector<std::string_view> etags;
  for (const auto& [path, asset] : embedded_assets()) {
    for (const auto etag : {asset.etag, asset.gzip_etag}) {
      if (etag.empty()) continue;
      EXPECT_THAT(etag, StartsWith("\"")) << path;
      EXPECT_THAT(etag, EndsWith("\"")) << path;
      etags.push_back(etag);
    }
  }
  std::sort(etags.begin(), etags.end());
  EXPECT_EQ(std::adjacent_find(etags.begin(), etags.end()), etags.end());
}

TEST(WebAssets, TheTableIsInOrder) {
  const auto assets = embedded_assets();
  EXPECT_TRUE(std::is_sorted(assets.begin(), assets.end(),
                             [](const auto& a, const auto& b) { return a.path < b.path; }));
}

TEST(WebAssets, TheRootIsThePage) {
  const auto page = find_web_asset("/");
  ASSERT_TRUE(page.has_value());
  EXPECT_EQ(page->body, find_web_asset("/index.html")->body);
  EXPECT_EQ(page->content_type, "text/html; charset=utf-8");
  EXPECT_EQ(page->cache_control, "no-cache");
}

TEST(WebAssets, NothingElseIsFound) {
  for (const char* path :
       {"", "index.html", "//", "/static", "/static/", "/SOURCES", "/index.html.gz",
        "/../index.html", "/index.htmlx", "/~", "/v1/models"}) {
    EXPECT_FALSE(find_web_asset(path).has_value()) << path;
  }
}

TEST(WebAssets, ThePageNamesOnlyFilesThatAreThere) {
  const std::string page(find_web_asset("/")->body);
  const std::regex reference("(?:src|href)=\"\\./([^\"]+)\"");
  size_t references = 0;
  for (std::sregex_iterator at(page.begin(), page.end(), reference), end; at != end;
       ++at, ++references) {
    const std::string path = "/" + (*at)[1].str();
    const auto asset = find_web_asset(path);
    ASSERT_TRUE(asset.has_value()) << path;
    EXPECT_EQ(path.starts_with("/static/"), asset->cache_control != "no-cache") << path;
  }
  EXPECT_GE(references, 4U);  // script, style, icon, boot.js
}

TEST(WebAssets, ThePageKeepsThePolicyByItself) {
  const std::string page(find_web_asset("/")->body);
  const std::string_view policy = kContentSecurityPolicy;
  const std::string own(policy.substr(0, policy.find("; frame-ancestors")));
  EXPECT_THAT(page, HasSubstr("content=\"" + own + "\""));
  EXPECT_THAT(page, Not(HasSubstr("<style")));
  EXPECT_THAT(page, Not(HasSubstr(" style=")));
  EXPECT_THAT(page, Not(HasSubstr("http://")));
  EXPECT_THAT(page, Not(HasSubstr("https://")));
  EXPECT_FALSE(std::regex_search(page, std::regex("<script[^>]*>[^<]")));
}

TEST(WebAssets, TheWholePageIsSmall) {
  size_t bytes = 0;
  for (const auto& [path, asset] : embedded_assets()) bytes += asset.body.size();
  EXPECT_LT(bytes, 1'500'000U);
}

}  // namespace
}  // namespace fathom::server
