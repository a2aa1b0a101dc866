// Rope tables against values computed by hand from the formulas of tests/golden/data/NOTES.md §1,
// and every spelling and error of the fields they come from.
#include "model/rope.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fathom {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

RopeTable table(const std::string& config, int64_t dims) {
  const json value = json::parse(config);
  const auto r = read_rope(JsonReader(value, "config.json"), dims);
  EXPECT_TRUE(r) << config << ": " << r.error().message;
  return r ? *r : RopeTable{};
}

std::string refusal(const std::string& config) {
  const json value = json::parse(config);
  const auto r = read_rope(JsonReader(value, "config.json"), 16);
  return r ? "" : r.error().message;
}

void expect_near(const RopeTable& t, const std::vector<double>& expected) {
  ASSERT_EQ(t.inverse_frequencies.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(t.inverse_frequencies[i], expected[i], 1e-12 * expected[i]) << i;
}

TEST(Rope, DefaultFrequencies) {
  const std::vector<double> powers_of_ten = {1, 0.1, 0.01, 0.001};
  for (const char* config : {"{}", R"({"rope_theta":10000})", R"({"rope_scaling":null})",
                             R"({"rope_parameters":{"rope_theta":10000,"rope_type":"default"}})",
                             R"({"rope_theta":500,"rope_parameters":{"rope_theta":10000}})",
                             R"({"rope_theta":10000,"rope_scaling":{"type":"default"}})"}) {
    SCOPED_TRACE(config);
    const RopeTable t = table(config, 8);
    expect_near(t, powers_of_ten);
    EXPECT_EQ(t.attention_factor, 1);
    EXPECT_EQ(t.mla_scale_factor, 1);
  }
  expect_near(table(R"({"rope_theta":1000000})", 6), {1, 0.01, 0.0001});
  expect_near(table("{}", 2), {1});
}

TEST(Rope, DivisorsDivideEachItsOwn) {
  expect_near(table(R"({"rope_scaling":{"rope_type":"frequency_divisors",
                        "frequency_divisors":[1,2,4.0,8]}})",
                    8),
              {1, 0.05, 0.0025, 0.000125});
  for (const char* list : {"null", "[]", "[1,2,3,4,5,6,7]", "[1,2,3,4,5,6,7,0]", "8",
                           R"([1,2,3,4,5,6,7,"8"])", "[1,2,3,4,5,6,7,-8]"}) {
    EXPECT_THAT(refusal(fmt::format(R"({{"rope_scaling":{{"rope_type":"frequency_divisors",
                                         "frequency_divisors":{}}}}})",
                                    list)),
                AllOf(HasSubstr("frequency_divisors"), HasSubstr("expected 8 numbers above 0")))
        << list;
  }
}

TEST(Rope, LinearDividesAll) {
  for (const char* config : {R"({"rope_scaling":{"type":"linear","factor":4.0}})",
                             R"({"rope_scaling":{"rope_type":"linear","factor":4}})",
                             R"({"rope_parameters":{"rope_type":"linear","factor":4}})"}) {
    SCOPED_TRACE(config);
    const RopeTable t = table(config, 8);
    expect_near(t, {0.25, 0.025, 0.0025, 0.00025});
    EXPECT_EQ(t.attention_factor, 1);
  }
}

// Wavelengths 2π · {1, 10, 100, 1000} against 1000/4 = 250 and 1000/1: two stay, the third is
// interpolated with s = (1000 / (200π) − 1) / 3, the last is divided by 8.
TEST(Rope, Llama3) {
  const double s = (1000 / (200 * M_PI) - 1) / 3;
  const std::vector<double> expected = {1, 0.1, (1 - s) * 0.01 / 8 + s * 0.01, 0.001 / 8};
  EXPECT_NEAR(expected[2], 0.002975352506846947, 1e-15);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const std::string config = std::string("{\"") + key +
                               R"(":{"rope_type":"llama3","factor":8,"low_freq_factor":1,)"
                               R"("high_freq_factor":4,"original_max_position_embeddings":1000}})";
    const RopeTable t = table(config, 8);
    expect_near(t, expected);
    EXPECT_EQ(t.attention_factor, 1);
  }
}

// d 16, theta 10^4, original context 1024: corr(32) = 1.414 and corr(1) = 4.424, so the ramp goes
// from 1 to 5 and ramp = {0, 0, 1/4, 1/2, 3/4, 1, 1, 1}.
TEST(Rope, Yarn) {
  const RopeTable t = table(R"({"rope_scaling":{"type":"yarn","factor":4,)"
                            R"("original_max_position_embeddings":1024}})",
                            16);
  const double r = std::sqrt(0.1);  // 10^4 to the power −2/16
  expect_near(t, {1, r, 0.1 * (0.25 / 4 + 0.75), 0.1 * r * (0.5 / 4 + 0.5),
                  0.01 * (0.75 / 4 + 0.25), 0.01 * r / 4, 0.001 / 4, 0.001 * r / 4});
  EXPECT_NEAR(t.attention_factor, 1.138629436111989, 1e-12);  // 0.1 ln 4 + 1
}

TEST(Rope, YarnFieldsAndDefaults) {
  const auto yarn = [](const std::string& rest, const std::string& top = "") {
    return table(
        fmt::format(R"({{{}"rope_scaling":{{"rope_type":"yarn","factor":4{}}}}})", top, rest), 16);
  };
  const auto same = [](const RopeTable& a, const RopeTable& b) {
    return a.inverse_frequencies == b.inverse_frequencies &&
           a.attention_factor == b.attention_factor;
  };
  const std::string original = R"(,"original_max_position_embeddings":1024)";
  const RopeTable plain = yarn(original);
  EXPECT_TRUE(same(plain, yarn(original + R"(,"beta_fast":32,"beta_slow":1,"truncate":true)")));
  EXPECT_TRUE(same(plain, yarn(original + R"(,"beta_fast":0,"beta_slow":0)")));
  EXPECT_TRUE(same(plain, yarn(original + R"(,"beta_fast":null)")));
  EXPECT_FALSE(same(plain, yarn(original + R"(,"beta_fast":8)")));
  EXPECT_FALSE(same(plain, yarn(original + R"(,"beta_slow":4)")));
  // Without the original context it is the model's own.
  EXPECT_TRUE(same(plain, yarn("", R"("max_position_embeddings":1024,)")));
  EXPECT_TRUE(same(yarn(""), yarn(R"(,"original_max_position_embeddings":2048)")));
  // Not truncated: the ramp goes from 1.4139… to 4.4242…
  const RopeTable exact = yarn(original + R"(,"truncate":false)");
  EXPECT_NEAR(exact.inverse_frequencies[2], 0.08539863663460479, 1e-13);
  EXPECT_NEAR(exact.inverse_frequencies[4], 0.0035569715211294347, 1e-13);
  // Both ends of the ramp at 0 (corr(1) = -0.04 for a context of 6): no division by zero.
  const RopeTable step = yarn(R"(,"original_max_position_embeddings":6)");
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(step.inverse_frequencies[i],
                std::pow(10.0, -0.5 * static_cast<double>(i)) / (i == 0 ? 1 : 4), 1e-15);
  }
  // Ends in the wrong order, from betas in the wrong order: some finite table.
  for (const double f : yarn(R"(,"beta_fast":1,"beta_slow":1000000)").inverse_frequencies)
    EXPECT_TRUE(std::isfinite(f) && f > 0) << f;
}

double yarn_attention(const std::string& rest) {
  return table(R"({"rope_scaling":{"type":"yarn","factor":40,)"
               R"("original_max_position_embeddings":4096)" +
                   rest + "}}",
               16)
      .attention_factor;
}

TEST(Rope, YarnAttentionFactor) {
  const double g1 = 0.1 * std::log(40.0) + 1;
  const double g707 = 0.0707 * std::log(40.0) + 1;
  EXPECT_NEAR(yarn_attention(""), g1, 1e-12);
  EXPECT_EQ(yarn_attention(R"(,"attention_factor":0.5)"), 0.5);
  EXPECT_EQ(yarn_attention(R"(,"attention_factor":0.5,"mscale":1,"mscale_all_dim":0.707)"), 0.5);
  EXPECT_NEAR(yarn_attention(R"(,"mscale":1.0,"mscale_all_dim":0.707)"), g1 / g707, 1e-12);
  EXPECT_EQ(yarn_attention(R"(,"mscale":0.707,"mscale_all_dim":0.707)"), 1);
  // Only one of the two, or zero: as if neither stood there.
  EXPECT_NEAR(yarn_attention(R"(,"mscale":0.707)"), g1, 1e-12);
  EXPECT_NEAR(yarn_attention(R"(,"mscale_all_dim":0.707)"), g1, 1e-12);
  EXPECT_NEAR(yarn_attention(R"(,"mscale":0,"mscale_all_dim":1)"), g1, 1e-12);
  EXPECT_NEAR(yarn_attention(R"(,"attn_factor":0.5)"), 0.5 * g1, 1e-12);
  // Nothing is stretched: no magnitude.
  EXPECT_EQ(table(R"({"rope_scaling":{"type":"yarn","factor":1}})", 16).attention_factor, 1);
  EXPECT_EQ(table(R"({"rope_scaling":{"type":"yarn","factor":0.5}})", 16).attention_factor, 1);
}

// The published config of DeepSeek-R1-0528-Qwen3-8B.
TEST(Rope, AttnFactorOfR1Qwen3GivesOne) {
  const RopeTable t = table(R"({"max_position_embeddings":131072,"rope_theta":1000000,)"
                            R"("rope_scaling":{"rope_type":"yarn","factor":4.0,)"
                            R"("original_max_position_embeddings":32768,)"
                            R"("attn_factor":0.8782488562869419}})",
                            128);
  EXPECT_NEAR(t.attention_factor, 1, 1e-12);
  EXPECT_EQ(t.inverse_frequencies[0], 1);
  EXPECT_EQ(t.inverse_frequencies.size(), 64u);
}

TEST(Rope, MlaScaleFactor) {
  const auto factor = [](const std::string& rest) {
    return table(R"({"rope_scaling":{"type":"yarn","factor":40)" + rest + "}}", 16)
        .mla_scale_factor;
  };
  const double g = 0.1 * std::log(40.0) + 1;
  EXPECT_NEAR(factor(R"(,"mscale":1.0,"mscale_all_dim":1.0)"), g * g, 1e-12);
  EXPECT_NEAR(factor(R"(,"mscale_all_dim":1.0)"), g * g, 1e-12);
  EXPECT_NEAR(factor(R"(,"mscale":1.0,"mscale_all_dim":0.707)"),
              std::pow(0.0707 * std::log(40.0) + 1, 2), 1e-12);
  EXPECT_EQ(factor(R"(,"mscale":1.0)"), 1);
  EXPECT_EQ(factor(R"(,"mscale_all_dim":0)"), 1);
}

TEST(Rope, SpellingsOfTheType) {
  // rope_type counts before type, rope_parameters before rope_scaling.
  expect_near(table(R"({"rope_scaling":{"type":"yarn","rope_type":"linear","factor":2}})", 2),
              {0.5});
  expect_near(table(R"({"rope_scaling":{"type":"linear","rope_type":null,"factor":2}})", 2), {0.5});
  expect_near(table(R"({"rope_scaling":{"type":"linear","factor":2},)"
                    R"("rope_parameters":{"rope_type":"linear","factor":4}})",
                    2),
              {0.25});
  expect_near(table(R"({"rope_scaling":{"factor":2}})", 2), {1});  // no type: default
}

TEST(Rope, ErrorsNameTheField) {
  const struct {
    const char* config;
    std::vector<std::string> named;
  } cases[] = {
      {R"({"rope_theta":"10000"})",
       {"config.json: rope_theta is \"10000\"", "a number from 1.0001"}},
      {R"({"rope_theta":0})", {"rope_theta is 0", "from 1.0001"}},
      {R"({"rope_theta":1})", {"rope_theta is 1", "from 1.0001"}},
      {R"({"rope_theta":-10000})", {"rope_theta is -10000", "from 1.0001"}},
      {R"({"rope_theta":1e30})", {"rope_theta is 1e+30", "from 1.0001"}},
      {R"({"rope_parameters":{"rope_theta":0}})", {"rope_parameters.rope_theta is 0"}},
      {R"({"rope_scaling":4})", {"rope_scaling is 4", "expected an object"}},
      {R"({"rope_parameters":[]})", {"rope_parameters is []", "expected an object"}},
      {R"({"rope_scaling":{"type":"dynamic","factor":2}})",
       {"rope_scaling.type is \"dynamic\"", "default, linear, llama3 or yarn"}},
      {R"({"rope_scaling":{"rope_type":"longrope"}})",
       {"rope_scaling.rope_type is \"longrope\"", "default, linear, llama3 or yarn"}},
      {R"({"rope_parameters":{"rope_type":"Yarn"}})", {"rope_parameters.rope_type is \"Yarn\""}},
      {R"({"rope_scaling":{"type":4}})", {"rope_scaling.type is 4", "a string"}},
      {R"({"rope_scaling":{"rope_type":["yarn"]}})", {"rope_scaling.rope_type is", "a string"}},
      {R"({"rope_scaling":{"type":"linear"}})", {"rope_scaling.factor is missing", "a number"}},
      {R"({"rope_scaling":{"type":"linear","factor":0}})",
       {"rope_scaling.factor is 0", "from 1e-06"}},
      {R"({"rope_scaling":{"type":"linear","factor":-2}})", {"rope_scaling.factor is -2"}},
      {R"({"rope_scaling":{"type":"linear","factor":"2"}})", {"rope_scaling.factor is \"2\""}},
      {R"({"rope_scaling":{"type":"llama3"}})", {"rope_scaling.factor is missing"}},
      {R"({"rope_scaling":{"type":"llama3","factor":8}})", {"low_freq_factor is missing"}},
      {R"({"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1}})",
       {"high_freq_factor is missing"}},
      {R"({"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}})",
       {"original_max_position_embeddings is missing"}},
      {R"({"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,)"
       R"("original_max_position_embeddings":8192}})",
       {"high_freq_factor is 4", "above low_freq_factor"}},
      {R"({"rope_scaling":{"type":"yarn"}})", {"rope_scaling.factor is missing"}},
      {R"({"rope_scaling":{"type":"yarn","factor":1e7}})", {"rope_scaling.factor is"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":0}})",
       {"original_max_position_embeddings is 0", "an integer from 1"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"beta_fast":-1}})", {"beta_fast is -1"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"beta_slow":"1"}})", {"beta_slow is \"1\""}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"truncate":1}})", {"truncate is 1"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"mscale":-1}})", {"mscale is -1"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"mscale_all_dim":1e9}})",
       {"mscale_all_dim is"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"attention_factor":[]}})",
       {"attention_factor is []"}},
      {R"({"rope_scaling":{"type":"yarn","factor":4,"attn_factor":"x"}})",
       {"attn_factor is \"x\""}},
      {R"({"max_position_embeddings":0,"rope_scaling":{"type":"yarn","factor":4}})",
       {"config.json: max_position_embeddings is 0"}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal(c.config);
    EXPECT_THAT(message, AllOf(HasSubstr("config.json: "), HasSubstr("expected"))) << c.config;
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.config;
  }
}

}  // namespace
}  // namespace fathom
