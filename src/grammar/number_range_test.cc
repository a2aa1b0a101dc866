#include "grammar/number_range.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "grammar/grammar_test_support.h"

namespace fathom::grammar {
namespace {

TEST(Decimal, ParsesAndCompares) {
  const std::pair<const char*, const char*> rows[] = {
      {"0", "0"},         {"-0", "0"},         {"-0.0", "0"},     {"1.50", "1.5"}, {"1e3", "1000"},
      {"12e-3", "0.012"}, {"1.25E+1", "12.5"}, {"-100e-2", "-1"}, {"007", "7"},    {"0.5e1", "5"}};
  for (const auto& [text, expected] : rows) {
    const auto d = parse_decimal(text);
    ASSERT_TRUE(d) << text;
    EXPECT_EQ(to_text(*d), expected) << text;
  }
  EXPECT_FALSE(parse_decimal("1e100"));
  EXPECT_FALSE(parse_decimal("1e-999999999999"));
  const char* const ascending[] = {"-100",  "-12.5", "-12", "-1.01", "-1", "0",
                                   "0.009", "0.01",  "1",   "1.5",   "10"};
  for (std::size_t i = 0; i + 1 < std::size(ascending); ++i) {
    EXPECT_LT(compare(*parse_decimal(ascending[i]), *parse_decimal(ascending[i + 1])), 0)
        << ascending[i];
    EXPECT_GT(compare(*parse_decimal(ascending[i + 1]), *parse_decimal(ascending[i])), 0);
  }
}

TEST(NumberRange, IntegersExhaustively) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 60; ++i) {
    const int low = static_cast<int>(random() % 300) - 150;
    const int high = low + static_cast<int>(random() % 200);
    const bool open_low = random() % 2 == 0;
    const bool open_high = random() % 2 == 0;
    const int multiple = random() % 3 == 0 ? 1 + static_cast<int>(random() % 9) : 1;
    const std::string schema =
        fmt::format(R"({{"type":"integer","{}":{},"{}":{},"multipleOf":{}}})",
                    open_low ? "exclusiveMinimum" : "minimum", low,
                    open_high ? "exclusiveMaximum" : "maximum", high, multiple);
    const auto grammar = compile_json_schema(schema);
    bool any = false;
    for (int n = -400; n <= 400; ++n) {
      const bool expected = (open_low ? n > low : n >= low) && (open_high ? n < high : n <= high) &&
                            n % multiple == 0;
      any = any || expected;
      if (!grammar) continue;
      ASSERT_EQ(test::takes(*grammar, std::to_string(n)), expected) << schema << " " << n;
    }
    ASSERT_EQ(grammar.has_value(), any) << schema;
  }
}

TEST(NumberRange, OneSidedIntegers) {
  const auto from = test::schema_grammar(R"({"type":"integer","minimum":-25})");
  const auto to = test::schema_grammar(R"({"type":"integer","exclusiveMaximum":1000})");
  for (int64_t n : {-1000, -26, -25, -24, -3, 0, 5, 24, 26, 999, 1000, 12345}) {
    EXPECT_EQ(test::takes(from, std::to_string(n)), n >= -25) << n;
    EXPECT_EQ(test::takes(to, std::to_string(n)), n < 1000) << n;
  }
  for (const auto& grammar : {from, to}) {
    for (const char* bad : {"-0", "00", "01", "-01", "1.0", "1e1", "", "-"})
      EXPECT_FALSE(test::takes(grammar, bad)) << bad;
  }
}

TEST(NumberRange, FractionsAgreeWithDoubles) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 60; ++i) {
    const double low = (static_cast<int>(random() % 4000) - 2000) / 16.0;
    const double high = low + static_cast<int>(random() % 1000) / 16.0;
    const bool open_low = random() % 2 == 0;
    const bool open_high = random() % 2 == 0 && high > low;
    if (high == low && open_low) continue;
    const std::string schema = fmt::format(R"({{"type":"number","{}":{},"{}":{}}})",
                                           open_low ? "exclusiveMinimum" : "minimum", low,
                                           open_high ? "exclusiveMaximum" : "maximum", high);
    const auto grammar = test::schema_grammar(schema);
    for (int k = 0; k < 300; ++k) {
      const double n = random() % 4 == 0 ? (random() % 2 == 0 ? low : high)
                                         : low - 3 + static_cast<int>(random() % 6000) / 64.0;
      std::string text = fmt::format("{}", n);
      if (random() % 2 == 0 && text.find('.') != std::string::npos) text += "0";
      if (text == "-0" || text.find('e') != std::string::npos) continue;
      const bool expected = (open_low ? n > low : n >= low) && (open_high ? n < high : n <= high);
      ASSERT_EQ(test::takes(grammar, text), expected) << schema << " " << text;
    }
  }
}

}  // namespace
}  // namespace fathom::grammar
