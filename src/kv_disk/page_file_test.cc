// Tests of one page as a file: what comes back is what was written, or nothing.
#include "kv_disk/page_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "kv_disk/test_support.h"

namespace fathom::kv_disk {
namespace page_file_test {

using test::key_of;
using test::TestPage;
using test::text_of;
using testing::HasSubstr;

class PageFileTest : public testing::Test {
 protected:
  PageFileTest() : file_{directory_ / "tenant/model/", "page"} {
    std::filesystem::create_directories(file_.directory);
  }
  void write(const TestPage& page) {
    const Status written = write_page(file_, key_, page.page, {.tv_sec = 1234, .tv_nsec = 0});
    ASSERT_TRUE(written) << written.error().message;
  }
  PageRead read(TestPage& page) { return *read_page(file_, key_, page.page); }

  test::TemporaryDirectory directory_;
  const PageFile file_;
  const SecretKey key_ = key_of(1);
};

TEST_F(PageFileTest, ComesBackAsItWas) {
  for (const std::size_t bytes : {0u, 1u, 15u, 4096u, 262'144u, 262'145u, 1'000'003u}) {
    const TestPage page(5, bytes);
    write(page);
    TestPage again = page.blank();
    EXPECT_EQ(read(again), PageRead::kRead);
    EXPECT_EQ(again.memory, page.memory);
    EXPECT_EQ(static_cast<int64_t>(text_of(file_.path()).size()), page_file_bytes(page.page));
  }
  struct stat info{};
  ASSERT_EQ(::stat(file_.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(info.st_mtim.tv_sec, 1234);
}

TEST_F(PageFileTest, ShowsNothingOfThePage) {
  TestPage page(5, 5000);
  const std::string words = "the client's own words";
  std::copy_n(reinterpret_cast<const std::byte*>(words.data()), words.size(),
              page.memory.begin() + 100);
  write(page);
  const std::string first = text_of(file_.path());
  EXPECT_EQ(first.find(words), std::string::npos);
  for (const int32_t token : page.page.tokens) {
    const std::string_view bytes(reinterpret_cast<const char*>(&token), 4);
    EXPECT_EQ(first.find(bytes), std::string::npos);
  }
  // Nor that two are the same.
  write(page);
  EXPECT_NE(text_of(file_.path()).substr(32), first.substr(32));
}

TEST_F(PageFileTest, MissingIsNoError) {
  TestPage page(5, 100);
  EXPECT_EQ(read(page), PageRead::kMissing);
  EXPECT_EQ(*read_page({directory_ / "no/where/", "page"}, key_, page.page), PageRead::kMissing);
}

TEST_F(PageFileTest, CutOffAtAnyByteItIsDamaged) {
  const TestPage page(5, 200);
  write(page);
  const std::string whole = text_of(file_.path());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    test::put_text(file_.path(), whole.substr(0, size));
    TestPage again = page.blank();
    EXPECT_EQ(read(again), PageRead::kDamaged) << size;
  }
  test::put_text(file_.path(), whole + "x");
  TestPage again = page.blank();
  EXPECT_EQ(read(again), PageRead::kDamaged) << "longer";
}

TEST_F(PageFileTest, WithAnyBitChangedItIsDamaged) {
  const TestPage page(5, 40);
  write(page);
  const std::string whole = text_of(file_.path());
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string changed = whole;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
    test::put_text(file_.path(), changed);
    TestPage again = page.blank();
    EXPECT_EQ(read(again), PageRead::kDamaged) << bit;
  }
}

TEST_F(PageFileTest, AnotherKeyPageOrPlaceDoesNotFit) {
  const TestPage page(5, 300);
  write(page);
  TestPage again = page.blank();
  EXPECT_EQ(*read_page(file_, key_of(2), again.page), PageRead::kDamaged);
  // Under the name of another page, for instance if two names collided.
  TestPage other(6, 300);
  EXPECT_EQ(read(other), PageRead::kDamaged);
  TestPage behind(5, 300, page.page.id);
  EXPECT_EQ(read(behind), PageRead::kDamaged);
  TestPage generated(5, 300);
  generated.page.prompt_tokens = 0;
  EXPECT_EQ(read(generated), PageRead::kDamaged);
  for (const PageFile& elsewhere :
       {PageFile{directory_ / "tenant/model2/", "page"},
        PageFile{directory_ / "other/model/", "page"}, PageFile{file_.directory, "page2"}}) {
    std::filesystem::create_directories(elsewhere.directory);
    std::filesystem::copy_file(file_.path(), elsewhere.path());
    EXPECT_EQ(*read_page(elsewhere, key_, again.page), PageRead::kDamaged) << elsewhere.path();
  }
  EXPECT_EQ(read(again), PageRead::kRead);
}

TEST_F(PageFileTest, AFailedWriteLeavesNothingAndTheOldPage) {
  const TestPage page(5, 300);
  write(page);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const TestPage large(5, 100'000);
  for (const rlim_t most : {rlim_t{0}, rlim_t{10}, rlim_t{50'000}}) {
    const rlimit limit{most, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Status written = write_page(file_, key_, large.page, {});
    ::setrlimit(RLIMIT_FSIZE, &before);
    ASSERT_FALSE(written);
    EXPECT_THAT(written.error().message, HasSubstr("cannot write: File too large"));
    EXPECT_FALSE(std::filesystem::exists(file_.directory + std::string(kUnfinished)));
  }
  TestPage again = page.blank();
  EXPECT_EQ(read(again), PageRead::kRead);
  EXPECT_EQ(again.memory, page.memory);
}

TEST_F(PageFileTest, WhatACrashLeftUnfinishedIsInNobodysWay) {
  test::put_text(file_.directory + std::string(kUnfinished), "half a pa");
  const TestPage page(5, 300);
  write(page);
  TestPage again = page.blank();
  EXPECT_EQ(read(again), PageRead::kRead);
}

TEST_F(PageFileTest, SymbolicLinksAreNotFollowed) {
  const TestPage page(5, 300);
  write(page);
  std::filesystem::rename(file_.path(), directory_ / "elsewhere");
  std::filesystem::create_symlink(directory_ / "elsewhere", file_.path());
  TestPage again = page.blank();
  EXPECT_FALSE(read_page(file_, key_, again.page));
}

}  // namespace page_file_test
}  // namespace fathom::kv_disk
