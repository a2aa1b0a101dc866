// Tests of the tier over files: what survives a restart, a crash and a full disk, what goes first,
// and that nothing of an erased tenant is left.
#include "kv_disk/disk_tier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "kv_disk/test_support.h"

namespace fathom::kv_disk {
namespace disk_tier_test {

using namespace std::chrono_literals;
using test::key_of;
using test::page_files;
using test::TestPage;
using testing::HasSubstr;

constexpr std::size_t kBytes = 5000;
constexpr int64_t kOnDisk = 8192;  // of such a page

class DiskTierTest : public testing::Test {
 protected:
  std::unique_ptr<DiskTier> open(std::string identity = "model", uint8_t key = 1,
                                 int64_t max_bytes = 1 << 20) {
    auto tier = DiskTier::open({.directory = directory_ / "kv",
                                .max_bytes = max_bytes,
                                .key = key_of(key),
                                .identity = std::move(identity),
                                .rest = 50ms});
    EXPECT_TRUE(tier) << tier.error().message;
    EXPECT_TRUE((*tier)->flush(10s));
    return *std::move(tier);
  }
  // A sequence of pages, each behind the one before.
  static std::vector<TestPage> chain(int32_t first, int64_t count) {
    std::vector<TestPage> out;
    for (int64_t i = 0; i < count; ++i) {
      out.emplace_back(first + static_cast<int32_t>(100 * i), kBytes,
                       out.empty() ? PageId{} : out.back().page.id, i);
    }
    return out;
  }
  static void store(DiskTier& tier, const std::vector<TestPage>& pages,
                    std::string_view tenant = "t") {
    for (const TestPage& page : pages) EXPECT_TRUE(tier.store(tenant, page.page));
    EXPECT_TRUE(tier.flush(10s));
    std::multiset<int32_t> expected, released;
    for (const TestPage& page : pages) expected.insert(page.page.page);
    for (const int32_t page : tier.released()) released.insert(page);
    EXPECT_EQ(released, expected);
  }
  // How many of these pages come back, and as they were.
  static int64_t load(DiskTier& tier, const std::vector<TestPage>& pages,
                      std::string_view tenant = "t") {
    std::vector<TestPage> blank;
    std::vector<PageTier::Page> wanted;
    for (const TestPage& page : pages) blank.push_back(page.blank());
    for (const TestPage& page : blank) wanted.push_back(page.page);
    tier.load(7, tenant, wanted);
    std::vector<PageTier::Loaded> done;
    for (int i = 0; i < 100 && done.empty(); ++i) {
      tier.wait_loaded(100ms);
      done = tier.loaded();
    }
    if (done.size() != 1 || done[0].ticket != 7) {
      ADD_FAILURE() << done.size() << " loads";
      return -1;
    }
    for (int64_t i = 0; i < done[0].pages; ++i) {
      const auto at = static_cast<std::size_t>(i);
      EXPECT_EQ(blank[at].memory, pages[at].memory) << i;
    }
    return done[0].pages;
  }
  std::vector<std::filesystem::path> files() const { return page_files(directory_ / "kv"); }

  test::TemporaryDirectory directory_;
};

TEST_F(DiskTierTest, AnotherTierFindsThePages) {
  const auto pages = chain(1, 5);
  {
    const auto tier = open();
    EXPECT_EQ(load(*tier, pages), 0);
    store(*tier, pages);
    EXPECT_EQ(load(*tier, pages), 5);
    EXPECT_EQ(tier->stats().pages_written, 5);
    EXPECT_EQ(tier->stats().bytes, 5 * kOnDisk);
    EXPECT_EQ(tier->stats().query_tokens, 40);
    EXPECT_EQ(tier->stats().hit_tokens, 20);
  }
  const auto tier = open();
  EXPECT_EQ(load(*tier, pages), 5);
  EXPECT_EQ(tier->stats().bytes, 5 * kOnDisk);
  EXPECT_EQ(tier->stats().other_bytes, 0);
  auto longer = chain(1, 7);
  EXPECT_EQ(load(*tier, longer), 5);
  longer[2] = TestPage(900, kBytes, longer[1].page.id, 2);
  EXPECT_EQ(load(*tier, longer), 2) << "what is behind another page is another page";
}

TEST_F(DiskTierTest, TiersSideBySideShareWhatTheyKeep) {
  const auto a = open(), b = open();
  const auto pages = chain(1, 4);
  store(*a, pages);
  EXPECT_EQ(load(*b, pages), 4);
  const auto before = std::filesystem::last_write_time(files()[0]);
  store(*b, pages);
  EXPECT_EQ(b->stats().pages_written, 0) << "it is there";
  EXPECT_GT(std::filesystem::last_write_time(files()[0]), before);
  EXPECT_EQ(files().size(), 4u);
}

TEST_F(DiskTierTest, TenantsModelsAndKeysAreApart) {
  const auto pages = chain(1, 3);
  store(*open(), pages);
  EXPECT_EQ(load(*open(), pages, "u"), 0);
  const auto other_model = open("other");
  EXPECT_EQ(load(*other_model, pages), 0);
  EXPECT_EQ(other_model->stats().other_bytes, 3 * kOnDisk);
  const auto other_key = open("model", 2);
  EXPECT_EQ(load(*other_key, pages), 0);
  EXPECT_EQ(other_key->stats().other_bytes, 3 * kOnDisk);
  store(*other_key, pages);
  EXPECT_EQ(load(*other_key, pages), 3);
  EXPECT_EQ(load(*open(), pages), 3) << "nobody touched them";
}

// Names, tokens and bytes: nothing can be read off the directory.
TEST_F(DiskTierTest, NothingStandsThereInClear) {
  std::vector<TestPage> pages = chain(1'000'000, 2);
  const std::string words = "what the client said";
  std::copy_n(reinterpret_cast<const std::byte*>(words.data()), words.size(),
              pages[0].memory.begin());
  store(*open("a model's name"), pages, "a tenant's name");
  std::string all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "kv")) {
    all += entry.path().string();
    if (entry.is_regular_file()) all += test::text_of(entry.path());
    const auto others = std::filesystem::perms::group_all | std::filesystem::perms::others_all;
    EXPECT_EQ(entry.status().permissions() & others, std::filesystem::perms::none) << entry.path();
  }
  for (const std::string_view secret : {"client", "tenant", "model"})
    EXPECT_EQ(all.find(secret), std::string::npos) << secret;
  for (const int32_t token : pages[0].page.tokens)
    EXPECT_EQ(all.find({reinterpret_cast<const char*>(&token), 4}), std::string::npos);
  const auto key = key_of(1);
  EXPECT_EQ(all.find({reinterpret_cast<const char*>(key.bytes().data()), 32}), std::string::npos);
}

TEST_F(DiskTierTest, ADamagedPageIsDroppedAndWrittenAgain) {
  const auto pages = chain(1, 3);
  const auto tier = open();
  store(*tier, pages);
  std::set<std::filesystem::path> seen;
  for (const auto& path : files()) {
    const std::string whole = test::text_of(path);
    test::put_text(path, whole.substr(0, whole.size() / 2));
    EXPECT_LT(load(*tier, pages), 3);
    EXPECT_TRUE(tier->flush(10s));
    EXPECT_FALSE(std::filesystem::exists(path));
    store(*tier, pages);
    EXPECT_EQ(load(*tier, pages), 3);
    seen.insert(path);
    EXPECT_EQ(tier->stats().pages_damaged, static_cast<int64_t>(seen.size()));
    EXPECT_EQ(tier->stats().errors, 0);
  }
  EXPECT_EQ(seen.size(), 3u);
}

TEST_F(DiskTierTest, TheBoundHoldsAndWhatWasNotUsedForLongestGoes) {
  const auto tier = open("model", 1, 10 * kOnDisk);
  const auto a = chain(1, 4), b = chain(2, 4), c = chain(3, 4);
  store(*tier, a);
  store(*tier, b);
  store(*tier, a);  // used again
  store(*tier, c);
  EXPECT_LE(tier->stats().bytes, 10 * kOnDisk);
  EXPECT_LE(files().size(), 10u);
  EXPECT_EQ(load(*tier, a), 4);
  EXPECT_EQ(load(*tier, c), 4);
  EXPECT_EQ(load(*tier, b), 2) << "its end goes before its beginning";
  // Of all models and tiers together, and files found at the start count.
  const auto other = open("other", 1, 10 * kOnDisk);
  store(*tier, c);
  store(*other, chain(4, 9));
  EXPECT_EQ(load(*other, chain(4, 9)), 9);
  EXPECT_LE(files().size(), 10u);
  EXPECT_EQ(load(*tier, c), 1) << "its beginning is the newest of the others";
  // What can never fit is not written, and moves nothing out.
  std::vector<TestPage> huge;
  huge.emplace_back(9, 20 * kOnDisk);
  store(*other, huge);
  EXPECT_EQ(other->stats().pages_skipped, 1);
  EXPECT_EQ(load(*other, chain(4, 9)), 9);
}

TEST_F(DiskTierTest, ManyTiersAtOnceKeepTheBound) {
  constexpr int kTiers = 4;
  std::vector<std::thread> threads;
  for (int t = 0; t < kTiers; ++t) {
    threads.emplace_back([&, t] {
      const auto tier = open(t % 2 == 0 ? "a" : "b", 1, 12 * kOnDisk);
      for (int32_t round = 0; round < 15; ++round) {
        const auto pages = chain(1 + (round + t) % 5, 5);
        store(*tier, pages);
        EXPECT_LE(tier->stats().bytes, 12 * kOnDisk);
        EXPECT_GE(load(*tier, pages), 0);
        const DiskSpace space = *DiskSpace::open(directory_ / "kv", 0, "");
        const DiskSpace::Lock lock(space);
        EXPECT_LE(files().size(), 12u);
      }
      EXPECT_EQ(tier->stats().errors, 0) << tier->stats().last_error;
      EXPECT_EQ(tier->stats().pages_damaged, 0);
    });
  }
  for (auto& thread : threads) thread.join();
  const auto tier = open("a", 1, 12 * kOnDisk);
  EXPECT_EQ(tier->stats().bytes, static_cast<int64_t>(files().size()) * kOnDisk);
}

TEST_F(DiskTierTest, AfterAKillAtAnyMomentOnlyWholePagesAreThere) {
  const auto pages = chain(1, 40);
  int64_t least = 40, most = 0;
  for (int round = 0; round < 25; ++round) {
    std::filesystem::remove_all(directory_ / "kv");
    const pid_t child = ::fork();
    if (child == 0) {
      auto tier = DiskTier::open({.directory = directory_ / "kv",
                                  .max_bytes = 20 * kOnDisk,
                                  .key = key_of(1),
                                  .identity = "model"});
      for (const TestPage& page : pages) (*tier)->store("t", page.page);
      (*tier)->flush(10s);
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(1000 + 400 * round));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    const auto tier = open("model", 1, 20 * kOnDisk);
    const auto there = static_cast<int64_t>(files().size());
    EXPECT_EQ(tier->stats().bytes, there * kOnDisk);
    least = std::min(least, there);
    most = std::max(most, there);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "kv"))
      EXPECT_NE(entry.path().filename(), kUnfinished);
    EXPECT_GE(load(*tier, pages), std::min<int64_t>(there, 0));
    EXPECT_EQ(tier->stats().pages_damaged, 0);
    store(*tier, chain(2, 3));
    EXPECT_EQ(load(*tier, chain(2, 3)), 3);
  }
  EXPECT_LT(least, most) << "they were all killed at the same point";
}

TEST_F(DiskTierTest, AFullDiskCostsPagesAndNothingElse) {
  const auto tier = open();
  const auto a = chain(1, 2), b = chain(2, 2);
  store(*tier, a);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limit{1000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  for (const TestPage& page : b) tier->store("t", page.page);
  EXPECT_TRUE(tier->flush(10s));
  ::setrlimit(RLIMIT_FSIZE, &before);
  PageTierStats stats = tier->stats();
  EXPECT_EQ(stats.errors, 1) << "the second is not even tried";
  EXPECT_EQ(stats.pages_skipped, 1);
  EXPECT_THAT(stats.last_error, HasSubstr("File too large"));
  EXPECT_EQ(stats.bytes, 2 * kOnDisk);
  EXPECT_EQ(load(*tier, a), 2);
  EXPECT_EQ(load(*tier, b), 0);
  tier->released();
  std::this_thread::sleep_for(60ms);  // then it tries again
  store(*tier, b);
  EXPECT_EQ(load(*tier, b), 2);
}

TEST_F(DiskTierTest, ADirectoryThatGoesAwayIsNoEnd) {
  const auto tier = open();
  const auto pages = chain(1, 2);
  store(*tier, pages);
  std::filesystem::remove_all(directory_ / "kv");
  test::put_text(directory_ / "kv", "no directory");
  EXPECT_EQ(load(*tier, pages), 0);
  EXPECT_TRUE(tier->store("t", pages[0].page));
  EXPECT_TRUE(tier->flush(10s));
  EXPECT_EQ(tier->released().size(), 1u);
  EXPECT_GT(tier->stats().errors, 0);
  EXPECT_FALSE(tier->store("t", pages[0].page)) << "it rests";
  std::filesystem::remove(directory_ / "kv");
  std::filesystem::create_directory(directory_ / "kv");
  std::this_thread::sleep_for(60ms);
  store(*tier, pages);
  EXPECT_EQ(load(*tier, pages), 2);
}

TEST_F(DiskTierTest, TheQueueIsBounded) {
  const auto pages = chain(1, 40);
  auto opened = DiskTier::open({.directory = directory_ / "kv",
                                .max_bytes = 1 << 20,
                                .key = key_of(1),
                                .identity = "model",
                                .max_queued_pages = 3});
  DiskTier& tier = **opened;
  EXPECT_TRUE(tier.flush(10s));
  std::multiset<int32_t> taken;
  {
    // Another process writes for long.
    const DiskSpace space = *DiskSpace::open(directory_ / "kv", 0, "");
    const DiskSpace::Lock lock(space);
    for (const TestPage& page : pages)
      if (tier.store("t", page.page)) taken.insert(page.page.page);
    EXPECT_FALSE(tier.flush(20ms));
  }
  EXPECT_GE(taken.size(), 3u);
  EXPECT_LE(taken.size(), 4u);
  EXPECT_EQ(tier.stats().pages_skipped, 40 - static_cast<int64_t>(taken.size()));
  EXPECT_TRUE(tier.flush(10s));
  std::multiset<int32_t> released;
  for (const int32_t page : tier.released()) released.insert(page);
  EXPECT_EQ(released, taken);
}

TEST_F(DiskTierTest, WhatIsGivenUpIsReleasedAtOnce) {
  const auto tier = open();
  const auto pages = chain(1, 10);
  for (const TestPage& page : pages) EXPECT_TRUE(tier->store("t", page.page));
  tier->give_up_stores();
  // What was being written is done, all others never will be.
  const PageTierStats stats = tier->stats();
  EXPECT_EQ(stats.pages_skipped + stats.pages_written, 10);
  EXPECT_EQ(tier->released().size(), 10u);
}

TEST_F(DiskTierTest, ACancelledLoadIsNotToldOfAndWritesNoMore) {
  const auto tier = open();
  const auto pages = chain(1, 30);
  store(*tier, pages);
  for (int round = 0; round < 20; ++round) {
    std::vector<TestPage> blank;
    std::vector<PageTier::Page> wanted;
    for (const TestPage& page : pages) blank.push_back(page.blank());
    for (const TestPage& page : blank) wanted.push_back(page.page);
    tier->load(1, "t", wanted);
    if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
    tier->cancel_load(1);
    for (TestPage& page : blank) std::fill(page.memory.begin(), page.memory.end(), std::byte{9});
    EXPECT_EQ(load(*tier, chain(1, 2)), 2);
    for (const TestPage& page : blank)
      EXPECT_EQ(std::count(page.memory.begin(), page.memory.end(), std::byte{9}),
                static_cast<int64_t>(kBytes));
  }
}

TEST_F(DiskTierTest, AnErasedTenantIsGoneFromEveryModelAndVersion) {
  const auto pages = chain(1, 3);
  store(*open("an older version"), pages, "gone");
  const auto tier = open();
  store(*tier, pages, "gone");
  store(*tier, pages, "stays");
  const auto salt_of = [&](std::string_view tenant) {
    return directory_ / ("kv/" + tenant_directory(key_of(1), tenant) + "/salt");
  };
  // Somebody made a copy of the files, but has no salt.
  const std::string copied = directory_ / "copy", home = directory_ / "kv";
  std::filesystem::copy(home, copied, std::filesystem::copy_options::recursive);
  const std::string salt = test::text_of(salt_of("gone"));
  for (const TestPage& page : pages) EXPECT_TRUE(tier->store("gone", page.page));
  tier->erase_tenant("gone");
  EXPECT_EQ(load(*tier, pages, "gone"), 0) << "at once";
  EXPECT_TRUE(tier->flush(10s));
  EXPECT_EQ(tier->released().size(), 3u);
  EXPECT_EQ(files().size(), 3u);
  EXPECT_FALSE(std::filesystem::exists(directory_ / ("kv/" + tenant_directory(key_of(1), "gone"))));
  EXPECT_EQ(load(*tier, pages, "stays"), 3);
  EXPECT_EQ(tier->stats().bytes, 3 * kOnDisk);
  // The tenant may come again, with another salt, under which the old files are nothing.
  store(*tier, chain(5, 1), "gone");
  EXPECT_NE(test::text_of(salt_of("gone")), salt);
  const auto name = tenant_directory(key_of(1), "gone");
  for (const auto& path : page_files(copied + "/" + name)) {
    const std::string there = home + "/" + name + path.string().substr(copied.size() + 33);
    std::filesystem::create_directories(std::filesystem::path(there).parent_path());
    std::filesystem::copy_file(path, there);
  }
  EXPECT_EQ(load(*tier, pages, "gone"), 0);
  EXPECT_EQ(load(*tier, chain(5, 1), "gone"), 1);
}

TEST_F(DiskTierTest, ATenantIsErasedWithoutAnEngine) {
  const std::string kv = directory_ / "kv";
  EXPECT_TRUE(erase_tenant_files(kv, key_of(1), "t"));
  EXPECT_FALSE(std::filesystem::exists(kv));
  const auto pages = chain(1, 3);
  store(*open("a"), pages, "t");
  store(*open("b"), pages, "t");
  store(*open("b"), pages, "u");
  const auto running = open("b");
  EXPECT_EQ(load(*running, pages, "t"), 3);
  ASSERT_TRUE(erase_tenant_files(kv, key_of(1), "t"));
  EXPECT_EQ(load(*running, pages, "t"), 0) << "a salt that is gone is noticed";
  EXPECT_EQ(files().size(), 3u);
  store(*running, chain(4, 1), "t");
  EXPECT_EQ(load(*running, chain(4, 1), "t"), 1);
  EXPECT_EQ(running->stats().bytes, 4 * kOnDisk);
}

TEST_F(DiskTierTest, ADamagedSaltLosesItsTenantAlone) {
  const auto pages = chain(1, 3);
  store(*open(), pages, "t");
  store(*open(), pages, "u");
  const std::string salt = directory_ / ("kv/" + tenant_directory(key_of(1), "t") + "/salt");
  for (const std::string& text : {std::string(), std::string(10, 'x'), std::string(64, 'x')}) {
    test::put_text(salt, text);
    const auto tier = open();
    EXPECT_EQ(load(*tier, pages, "t"), 0);
    store(*tier, pages, "t");
    EXPECT_EQ(load(*tier, pages, "t"), 3);
    EXPECT_EQ(load(*tier, pages, "u"), 3);
  }
}

TEST_F(DiskTierTest, OtherFilesAreLeftAlone) {
  std::filesystem::create_directories(directory_ / "kv/photos");
  test::put_text(directory_ / "kv/photos/cat", std::string(100'000, 'c'));
  test::put_text(directory_ / "kv/readme", "mine");
  const auto tier = open("model", 1, 2 * kOnDisk);
  EXPECT_EQ(tier->stats().bytes, 0);
  store(*tier, chain(1, 5));
  tier->erase_tenant("t");
  EXPECT_TRUE(tier->flush(10s));
  EXPECT_EQ(test::text_of(directory_ / "kv/photos/cat").size(), 100'000u);
  EXPECT_EQ(test::text_of(directory_ / "kv/readme"), "mine");
}

TEST_F(DiskTierTest, WhereNothingCanBeMadeIsAnErrorThatNamesIt) {
  const auto tier = DiskTier::open({.directory = "/proc/kv", .max_bytes = 1, .key = key_of(1)});
  ASSERT_FALSE(tier);
  EXPECT_THAT(tier.error().message, HasSubstr("/proc/kv: cannot make"));
}

}  // namespace disk_tier_test
}  // namespace fathom::kv_disk
