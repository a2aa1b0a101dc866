// FATHOM_CHECK: aborts with place, condition and values when it fails, costs nothing when it holds.
#include "base/check.h"

#include <gtest/gtest.h>

#include <string>

namespace fathom {
namespace {

std::string counted(int& calls) {
  ++calls;
  return "message";
}

TEST(Check, HoldsSilentlyAndDoesNotFormatItsMessage) {
  int calls = 0;
  FATHOM_CHECK(1 + 1 == 2) << counted(calls);
  FATHOM_CHECK_EQ(2, 2) << counted(calls);
  EXPECT_EQ(calls, 0);
}

TEST(Check, EvaluatesAHoldingConditionOnce) {
  int n = 0;
  FATHOM_CHECK(++n == 1);
  EXPECT_EQ(n, 1);
  FATHOM_CHECK_EQ(++n, 2);
  EXPECT_EQ(n, 2);
}

TEST(Check, IsOneStatementUnderIfAndElse) {
  bool reached = false;
  if (reached)
    FATHOM_CHECK(false) << "not taken";
  else
    reached = true;
  EXPECT_TRUE(reached);
}

TEST(CheckDeathTest, PrintsPlaceConditionAndMessage) {
  const int rank = 9;
  EXPECT_DEATH(FATHOM_CHECK(rank < 8) << "rank of w",
               "check_test\\.cc:[0-9]+: check failed: rank < 8.*rank of w");
}

TEST(CheckDeathTest, PrintsBothValues) {
  const int rows = 3, columns = 4;
  EXPECT_DEATH(FATHOM_CHECK_EQ(rows, columns) << "square", "3 vs 4.*square");
}

TEST(CheckDeathTest, EachComparisonFailsOnTheRightSide) {
  FATHOM_CHECK_NE(1, 2);
  FATHOM_CHECK_LE(1, 1);
  FATHOM_CHECK_LT(1, 2);
  FATHOM_CHECK_GE(1, 1);
  FATHOM_CHECK_GT(2, 1);
  EXPECT_DEATH(FATHOM_CHECK_NE(5, 5), "5 vs 5");
  EXPECT_DEATH(FATHOM_CHECK_LE(2, 1), "2 vs 1");
  EXPECT_DEATH(FATHOM_CHECK_LT(1, 1), "1 vs 1");
  EXPECT_DEATH(FATHOM_CHECK_GE(1, 2), "1 vs 2");
  EXPECT_DEATH(FATHOM_CHECK_GT(1, 1), "1 vs 1");
}

}  // namespace
}  // namespace fathom
