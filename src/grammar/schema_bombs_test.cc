// Schemas made to take time or memory: each is compiled or refused quickly, and what is compiled
// can be followed.
#include <gtest/gtest.h>

#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>

#include "grammar/grammar_test_support.h"

namespace fathom {
namespace {

using nlohmann::json;

// Of a release build. Sanitizers and debug builds take many times longer.
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr double kMaxMs = 600;
#else
constexpr double kMaxMs = 5000;
#endif

std::string repeated(std::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

std::string pattern(const std::string& regex) {
  return json({{"type", "string"}, {"pattern", regex}}).dump();
}

std::vector<std::string> pattern_bombs() {
  std::vector<std::string> out;
  for (const char* regex : {"(a|b)*a(a|b){12}",
                            "(a|b)*a(a|b){20}",
                            "(a|b)*a(a|b){200}",
                            "^(a|b)*a(a|b){30}$",
                            "(a+)+$",
                            "((a*)*)*$",
                            "^(([a-z])+.)+[A-Z]([a-z])+$",
                            "(x+x+)+y",
                            "(a?){500}a{500}",
                            "((a{100}){100}){100}",
                            "(((a{50}){50}){50}){50}",
                            "a{16384}",
                            "a{16385}",
                            "(a{128}){128}",
                            "((()*)*)*",
                            "(){16384}",
                            "((){1000}){1000}",
                            "(a|a|a|a)*{3}",
                            "[a-z]{0,8000}x",
                            "^.{5000}.*.{5000}$",
                            ".*.*.*.*.*.*.*.*x",
                            "(.*a){12}",
                            "(.*a){200}",
                            "^(.{1,100},){50}$",
                            "([a-c]|[b-d]|[c-e]){1000}",
                            "(a|ab|abc|abcd)*(b|bc|bcd)*{2}",
                            "[^a]{0,4000}a[^a]{4000}",
                            "(a{0,100}){0,100}",
                            "^(a{0,90}b{0,90}){0,90}$",
                            "\\d{1,4000}\\.\\d{1,4000}",
                            "a{1,}{1,}",
                            "(a|b|c|d|e|f|g|h)*(abcdefgh){30}"}) {
    out.push_back(pattern(regex));
  }
  out.push_back(pattern(repeated("(", 30000) + "a" + repeated(")", 30000)));
  out.push_back(pattern(repeated("(", 1000) + "a" + repeated(")", 1000)));
  out.push_back(pattern(repeated("(?:", 99) + "a" + repeated(")*", 99)));
  out.push_back(pattern(repeated("(a|", 90) + "b" + repeated(")", 90)));
  out.push_back(pattern(repeated("a?", 2000)));
  out.push_back(pattern(repeated("[a-z]*", 600)));
  out.push_back(pattern(repeated("(a*)*", 500)));
  out.push_back(pattern(repeated("a|", 2000)));
  out.push_back(pattern("[" + repeated("ab-yz", 800) + "]*x"));
  out.push_back(pattern(repeated("\\W\\D", 900)));
  std::string classes;
  for (int i = 0; i < 340; ++i) classes += "[\\u{" + std::to_string(1000 + 2 * i) + "}x]*";
  out.push_back(pattern(classes));
  json many = {{"type", "object"}, {"properties", json::object()}};
  for (int i = 0; i < 400; ++i)
    many["properties"]["p" + std::to_string(i)] = {
        {"pattern", "^(a|b)*" + std::to_string(i) + "(a|b){8}$"}};
  out.push_back(many.dump());
  json all = {{"allOf", json::array()}};
  for (int i = 1; i < 60; ++i)
    all["allOf"].push_back({{"pattern", "^(a{" + std::to_string(i) + "})*$"}});
  out.push_back(all.dump());
  json keys = {{"patternProperties", json::object()}};
  for (int i = 0; i < 6; ++i)
    keys["patternProperties"]["(a|b)*" + std::to_string(i) + "(a|b){7}"] = true;
  out.push_back(keys.dump());
  return out;
}

std::vector<std::string> schema_bombs() {
  std::vector<std::string> out;
  out.push_back(repeated("[", 30000) + repeated("]", 30000));
  out.push_back(repeated(R"({"items":)", 30000) + "{}" + repeated("}", 30000));
  out.push_back(repeated(R"({"items":)", 120) + "{}" + repeated("}", 120));
  out.push_back(repeated(R"({"anyOf":[)", 60) + "{}" + repeated("]}", 60));
  out.push_back(repeated(R"({"not":)", 100) + "{}" + repeated("}", 100));
  out.push_back(R"({"enum":[)" + repeated("[", 100) + repeated("]", 100) + "]}");
  out.push_back(R"({"maxLength":16384,"minLength":16384})");
  out.push_back(R"({"maxItems":16384,"minItems":16384,"items":{"type":"string"}})");
  out.push_back(R"({"minItems":16384,"items":{"minItems":16384,"items":{"minItems":16384}}})");
  const auto properties = [](int count, const std::function<json(int)>& make) {
    json s = {{"type", "object"}, {"properties", json::object()}};
    for (int i = 0; i < count; ++i) s["properties"]["p" + std::to_string(i)] = make(i);
    return s;
  };
  out.push_back(properties(5000, [](int) { return json::object(); }).dump());
  out.push_back(properties(5000, [](int i) { return json({{"maxLength", i}}); }).dump());
  out.push_back(properties(300, [](int i) { return json({{"maxLength", 16000 + i}}); }).dump());
  out.push_back(properties(300, [](int i) {
                  return json({{"maximum", i + 0.123}, {"minimum", -i}});
                }).dump());
  out.push_back(properties(300, [](int i) {
                  return json({{"multipleOf", 1000 - i}, {"type", "integer"}});
                }).dump());
  json open = properties(3000, [](int) { return json::object(); });
  open["additionalProperties"] = true;
  out.push_back(open.dump());
  json required = {{"required", json::array()}};
  for (int i = 0; i < 20000; ++i) required["required"].push_back("r" + std::to_string(i));
  out.push_back(required.dump());
  json values = {{"enum", json::array()}};
  for (int i = 0; i < 50000; ++i) values["enum"].push_back(i * 7919);
  out.push_back(values.dump());
  out.push_back(json({{"const", std::string(900000, 'x')}}).dump());
  // anyOfs that multiply: 2^n and n^n.
  for (const int n : {8, 9, 20, 100, 1000}) {
    json s = {{"allOf", json::array()}};
    for (int i = 0; i < n; ++i) {
      s["allOf"].push_back({{"anyOf", json::array({{{"minimum", i}}, {{"maximum", 1000 + i}}})}});
    }
    out.push_back(s.dump());
  }
  // References: chains, rings, trees and sets that grow.
  for (const int n : {100, 5000}) {
    json chain = {{"$ref", "#/$defs/d0"}, {"$defs", json::object()}};
    json ring = chain, doubling = chain, sets = chain;
    for (int i = 0; i < n; ++i) {
      const std::string next = "#/$defs/d" + std::to_string(i + 1);
      const std::string name = "d" + std::to_string(i);
      chain["$defs"][name] = {{"$ref", next}};
      ring["$defs"][name] = {{"$ref", "#/$defs/d" + std::to_string((i + 1) % n)}};
      doubling["$defs"][name] = {
          {"anyOf", json::array({{{"$ref", next}}, {{"items", {{"$ref", next}}}}})}};
      sets["$defs"][name] = {
          {"allOf",
           json::array({{{"$ref", next}},
                        {{"items", {{"$ref", "#/$defs/d" + std::to_string((i * 7 + 3) % n)}}}}})}};
    }
    for (json* s : {&chain, &doubling, &sets})
      (*s)["$defs"]["d" + std::to_string(n)] = {{"type", "array"}};
    for (const json* s : {&chain, &ring, &doubling, &sets}) out.push_back(s->dump());
  }
  // Merging recursive objects: every pair, triple, … of definitions is a rule of its own.
  for (const int n : {6, 30}) {
    json s = {{"$ref", "#/$defs/d0"}, {"$defs", json::object()}};
    for (int i = 0; i < n; ++i) {
      json one = {{"type", "object"}, {"properties", json::object()}};
      for (int k = 0; k < 3; ++k) {
        one["properties"]["p" + std::to_string(k)] = {
            {"allOf", json::array({{{"$ref", "#/$defs/d" + std::to_string((i * 2 + k) % n)}},
                                   {{"$ref", "#/$defs/d" + std::to_string((i * 3 + 1) % n)}}})}};
      }
      s["$defs"]["d" + std::to_string(i)] = one;
    }
    out.push_back(s.dump());
  }
  json one_of = {{"oneOf", json::array()}};
  for (int i = 0; i < 2000; ++i) one_of["oneOf"].push_back({{"const", i}});
  out.push_back(one_of.dump());
  json nested_one_of = {{"type", "integer"}};
  for (int depth = 0; depth < 20; ++depth) {
    json options = json::array();
    for (int i = 0; i < 20; ++i)
      options.push_back(
          {{"type", "object"},
           {"required", {"k"}},
           {"properties", {{"k", {{"const", i}}}, {"v", i == 0 ? nested_one_of : json(true)}}}});
    nested_one_of = {{"oneOf", options}};
  }
  out.push_back(nested_one_of.dump());
  return out;
}

// Of this thread: what else the machine does mostly stays out of it.
double cpu_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

// On an idle core each takes less than 100 ms; the bound leaves room for one that is shared.
TEST(SchemaBombs, AreCompiledOrRefusedQuickly) {
  std::vector<std::string> bombs = pattern_bombs();
  for (std::string& bomb : schema_bombs()) bombs.push_back(std::move(bomb));
  EXPECT_GE(bombs.size(), 60U);
  int compiled = 0;
  for (const std::string& bomb : bombs) {
    SCOPED_TRACE(bomb.substr(0, 150));
    // The best of three: this machine may do other things.
    double best_ms = 1e9;
    std::shared_ptr<const Grammar> grammar;
    std::string error;
    for (int run = 0; run < 3 && best_ms > kMaxMs; ++run) {
      const double begin = cpu_ms();
      auto made = compile_json_schema(bomb);
      best_ms = std::min(best_ms, cpu_ms() - begin);
      grammar = made ? *made : nullptr;
      error = made ? "" : made.error().message;
    }
    EXPECT_LE(best_ms, kMaxMs) << error;
    EXPECT_LT(error.size(), 1000U) << error;
    if (grammar == nullptr) continue;
    ++compiled;
    EXPECT_LT(grammar->memory_bytes(), 32 << 20);
    std::mt19937_64 random(1);
    Matcher m = test::nano_matcher(grammar);
    for (int i = 0; i < 5; ++i) {
      const auto tokens = test::allowed(test::mask_of(m, *test::nano_masker()));
      ASSERT_FALSE(tokens.empty());
      ASSERT_TRUE(m.accept(tokens[random() % tokens.size()]));
      if (m.stopped()) break;
    }
  }
  EXPECT_GT(compiled, 20);
}

}  // namespace
}  // namespace fathom
