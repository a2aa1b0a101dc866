#include "chat/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace fathom {
namespace stop_strings_test {

// What comes out of `text` fed in pieces cut at random, and whether it stopped.
std::pair<std::string, bool> run(const std::vector<std::string>& stops, std::string_view text,
                                 std::mt19937& rng) {
  StopStrings s(stops);
  std::string out;
  while (!text.empty()) {
    const std::size_t n = std::min<std::size_t>(1 + rng() % 3, text.size());
    out += s.feed(text.substr(0, n));
    text.remove_prefix(n);
  }
  if (!s.stopped()) out += s.finish();
  return {out, s.stopped()};
}

TEST(StopStringsTest, CutsAtTheFirstMatchHoweverTheTextIsSplit) {
  std::mt19937 rng(1);
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(run({"END"}, "abcENDdef", rng), std::pair(std::string("abc"), true));
    EXPECT_EQ(run({"END", "c"}, "abcENDdef", rng), std::pair(std::string("ab"), true));
    EXPECT_EQ(run({"aab"}, "aaaab", rng), std::pair(std::string("aa"), true));
    EXPECT_EQ(run({"END"}, "abcEN", rng), std::pair(std::string("abcEN"), false));
    EXPECT_EQ(run({""}, "abc", rng), std::pair(std::string("abc"), false));
    EXPECT_EQ(run({"。\n"}, "好。好。\n坏", rng), std::pair(std::string("好。好"), true));
  }
}

TEST(StopStringsTest, SaysWhichStringCame) {
  StopStrings s({"END", "c"});
  EXPECT_EQ(s.stopped_by(), "");
  s.feed("abEN");
  s.feed("cEND");
  EXPECT_EQ(s.stopped_by(), "c");
}

TEST(StopStringsTest, HoldsBackOnlyWhatMayBeAStop) {
  StopStrings s({"STOP"});
  EXPECT_EQ(s.feed("go ST"), "go ");
  EXPECT_EQ(s.feed("AY"), "STAY");
  EXPECT_EQ(s.feed("STOP later"), "");
  EXPECT_TRUE(s.stopped());
  EXPECT_EQ(s.feed("more"), "");
}

}  // namespace stop_strings_test
}  // namespace fathom
