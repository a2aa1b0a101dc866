// Result, Status and the FATHOM_TRY macros: what they hold, what they pass on, when they abort.
#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace fathom {
namespace {

Result<int> parse_digit(char c) {
  if (c < '0' || c > '9') return invalid_argument(std::string("'") + c + "' is not a digit");
  return c - '0';
}

// Counts how often it is asked, so that a macro that evaluates twice is seen.
Status count_and_fail_at(int& calls, int failing_call) {
  if (++calls == failing_call) return resource_limit("call " + std::to_string(calls));
  return {};
}

Result<std::string> sum_of(char a, char b) {
  FATHOM_TRY(const int x, parse_digit(a));
  FATHOM_TRY(const int y, parse_digit(b));
  return std::to_string(x + y);
}

Status run_three(int& calls, int failing_call) {
  FATHOM_TRY_STATUS(count_and_fail_at(calls, failing_call));
  FATHOM_TRY_STATUS(count_and_fail_at(calls, failing_call));
  FATHOM_TRY_STATUS(count_and_fail_at(calls, failing_call));
  return {};
}

TEST(Result, HoldsAValue) {
  const Result<int> r = parse_digit('7');
  ASSERT_TRUE(r);
  EXPECT_TRUE(r.has_value());
  EXPECT_EQ(*r, 7);
  EXPECT_EQ(r.value(), 7);
}

TEST(Result, HoldsAnError) {
  const Result<int> r = parse_digit('x');
  ASSERT_FALSE(r);
  EXPECT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(r.error().message, "'x' is not a digit");
}

TEST(Result, EachErrorHelperHasItsOwnCode) {
  EXPECT_EQ(invalid_argument("a").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(not_found("a").code, ErrorCode::kNotFound);
  EXPECT_EQ(resource_limit("a").code, ErrorCode::kResourceLimit);
  EXPECT_EQ(internal_error("a").code, ErrorCode::kInternal);
  EXPECT_EQ(not_found("the message").message, "the message");
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> r = std::make_unique<int>(5);
  ASSERT_TRUE(r);
  const std::unique_ptr<int> out = *std::move(r);
  ASSERT_NE(out, nullptr);
  EXPECT_EQ(*out, 5);
}

TEST(Result, ArrowReachesTheValueItself) {
  Result<std::vector<int>> r = std::vector<int>{1, 2};
  r->push_back(3);
  EXPECT_EQ(r->size(), 3u);
  EXPECT_EQ((*r)[2], 3);
}

TEST(Result, StatusIsSuccessByDefault) {
  const Status ok;
  EXPECT_TRUE(ok);
  const Status failed = not_found("gone");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "gone");
}

TEST(Result, TryDeclaresOrReturnsTheFirstError) {
  const auto ok = sum_of('4', '5');
  ASSERT_TRUE(ok);
  EXPECT_EQ(*ok, "9");
  const auto first = sum_of('a', 'b');
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().message, "'a' is not a digit");
  const auto second = sum_of('1', 'b');
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message, "'b' is not a digit");
  EXPECT_EQ(second.error().code, ErrorCode::kInvalidArgument);
}

TEST(Result, TryStatusEvaluatesOnceAndStopsAtTheError) {
  int calls = 0;
  EXPECT_TRUE(run_three(calls, 0));
  EXPECT_EQ(calls, 3);
  calls = 0;
  const Status failed = run_three(calls, 2);
  EXPECT_EQ(calls, 2);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "call 2");
  EXPECT_EQ(failed.error().code, ErrorCode::kResourceLimit);
}

TEST(Result, TryMovesMoveOnlyValues) {
  const auto source = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(3); };
  const auto user = [&]() -> Result<int> {
    FATHOM_TRY(const std::unique_ptr<int> p, source());
    return *p;
  };
  const auto r = user();
  ASSERT_TRUE(r);
  EXPECT_EQ(*r, 3);
}

TEST(ResultDeathTest, TheValueOfAnErrorAbortsWithItsMessage) {
  const Result<int> r = invalid_argument("config.json: no such thing");
  EXPECT_DEATH((void)*r, "has_value.*config\\.json: no such thing");
  EXPECT_DEATH((void)r.value(), "config\\.json: no such thing");
}

}  // namespace
}  // namespace fathom
