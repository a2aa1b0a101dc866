// Whatever a schema's masks allow is valid by the schema: random walks over hand-written and random
// schemas, judged by a validator that shares nothing with the compiler.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "grammar/grammar_test_support.h"
#include "grammar/schema_test_support.h"

namespace fathom {
namespace {

using nlohmann::json;

void expect_valid_walks(const std::string& schema, std::mt19937_64& random, int walks) {
  SCOPED_TRACE(schema);
  const auto grammar = compile_json_schema(schema);
  ASSERT_TRUE(grammar) << grammar.error().message;
  const test::SchemaValidator validator(json::parse(schema));
  for (int i = 0; i < walks; ++i) {
    const std::string text =
        test::random_walk(*grammar, random, static_cast<int>(random() % 120), i == 0);
    if (::testing::Test::HasFailure()) return;
    const json value = json::parse(text, nullptr, false);
    ASSERT_FALSE(value.is_discarded()) << text;
    ASSERT_EQ(validator.problem(value), "") << text;
  }
}

const char* const kSchemas[] = {
    R"({"type":"object"})",
    R"({"type":"array"})",
    R"(true)",
    R"({})",
    R"({"type":["string","null"]})",
    R"({"type":"boolean"})",
    R"({"type":"number"})",
    R"({"type":"integer"})",
    R"({"type":"string","nullable":true})",
    R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false})",
    R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"null"}},"required":["b"],"additionalProperties":false})",
    R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"additionalProperties":true})",
    R"({"type":"object","properties":{"a":{"type":"string"},"ab":{"type":"integer"}},"required":["a"],"additionalProperties":{"type":"boolean"}})",
    R"({"type":"object","additionalProperties":{"type":"array","items":{"type":"integer","minimum":0,"maximum":9}}})",
    R"({"type":"object","required":["x","y"]})",
    R"({"type":"object","patternProperties":{"^x-":{"type":"integer"},"y$":{"type":"integer","minimum":5}},"additionalProperties":false})",
    R"({"type":"object","properties":{"x-a":{"maximum":3}},"patternProperties":{"^x-":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
    R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"minProperties":1,"maxProperties":2,"additionalProperties":false})",
    R"({"type":"object","maxProperties":0})",
    R"({"properties":{"quote\"d":{"const":"a\"b\\c\n\u0001"},"ключ":{"enum":["да","нет",null,1.5,[1,{"k":[]}],{"a":1,"b":{}}]}},"required":["quote\"d","ключ"]})",
    R"({"enum":["a","ab","abc","b",1,10,100,-1,1.0,2.5,true,null]})",
    R"({"const":{"x":[1,2,{"y":"z"}],"e":[],"o":{}}})",
    R"({"type":"array","items":{"type":"string","maxLength":3},"minItems":1,"maxItems":4})",
    R"({"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"items":{"type":"null"},"minItems":1})",
    R"({"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"minItems":2})",
    R"({"type":"array","prefixItems":[{"type":"string"}],"items":false})",
    R"({"type":"array","items":{"type":"integer"},"minItems":3})",
    R"({"type":"array","maxItems":0})",
    R"({"type":"string","minLength":2,"maxLength":5})",
    R"({"type":"string","minLength":3})",
    R"({"type":"string","maxLength":0})",
    R"({"type":"string","pattern":"^[A-Z]{2}-\\d{3,5}$"})",
    R"({"type":"string","pattern":"foo|^bar$"})",
    R"({"type":"string","pattern":"^(a|b)*c?$","minLength":2,"maxLength":6})",
    R"({"type":"string","pattern":"^[^a-z\"\\\\]+$","maxLength":8})",
    R"({"type":"string","pattern":"^\\w+\\s\\W\\S\\D$"})",
    R"({"type":"string","pattern":"^.{1,4}$"})",
    R"({"type":"string","format":"date"})",
    R"({"type":"string","format":"time"})",
    R"({"type":"string","format":"date-time"})",
    R"({"type":"string","format":"email"})",
    R"({"type":"string","format":"hostname"})",
    R"({"type":"string","format":"ipv4"})",
    R"({"type":"string","format":"ipv6"})",
    R"({"type":"string","format":"uuid"})",
    R"({"type":"string","format":"uri"})",
    R"({"type":"string","format":"uuid","pattern":"^0"})",
    R"({"type":"integer","minimum":-17,"maximum":123})",
    R"({"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":10})",
    R"({"type":"integer","minimum":1000})",
    R"({"type":"integer","maximum":-5,"multipleOf":5})",
    R"({"type":"integer","multipleOf":7,"minimum":100,"maximum":200})",
    R"({"type":"number","minimum":0,"maximum":1})",
    R"({"type":"number","exclusiveMinimum":-0.5,"maximum":0.25})",
    R"({"type":"number","exclusiveMinimum":0})",
    R"({"type":"number","minimum":-2.75,"exclusiveMaximum":-1.5})",
    R"({"type":"number","minimum":5.5,"maximum":5.5})",
    R"({"type":"number","multipleOf":3,"minimum":0,"maximum":99})",
    R"({"type":"integer","minimum":0.5,"maximum":1.5})",
    R"({"anyOf":[{"type":"string"},{"type":"integer"}]})",
    R"({"anyOf":[{"type":"object","properties":{"kind":{"const":"a"},"v":{"type":"integer"}},"required":["kind","v"]},{"type":"object","properties":{"kind":{"const":"b"},"v":{"type":"string"}},"required":["kind","v"]}]})",
    R"({"oneOf":[{"type":"object","properties":{"kind":{"const":"a"}},"required":["kind"]},{"type":"object","properties":{"kind":{"const":"b"},"v":{"type":"string"}},"required":["kind","v"]},{"type":"null"}]})",
    R"({"oneOf":[{"type":"integer","maximum":5},{"type":"integer","exclusiveMinimum":5}]})",
    R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"string"},"a":{"maximum":3}},"required":["b"]}]})",
    R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]})",
    R"({"allOf":[{"anyOf":[{"type":"string"},{"type":"integer"}]},{"anyOf":[{"type":"integer","minimum":3},{"type":"null"}]}]})",
    R"({"allOf":[{"enum":["a","b","c"]},{"enum":["b","c","d"]},{"pattern":"^[bd]$"}]})",
    R"({"enum":[1,2,3,4,5,6],"multipleOf":2,"maximum":5})",
    R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["value","next"],"additionalProperties":false}}})",
    R"({"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#"}},"name":{"type":"string"}},"required":["name"],"additionalProperties":false})",
    R"({"$defs":{"e":{"anyOf":[{"type":"number"},{"type":"array","prefixItems":[{"enum":["+","-"]},{"$ref":"#/$defs/e"},{"$ref":"#/$defs/e"}],"minItems":3,"items":false}]}},"$ref":"#/$defs/e"})",
    R"({"properties":{"a":{"$ref":"#/$defs/a~1b","description":"x"}},"required":["a"],"$defs":{"a/b":{"type":"string","format":"ipv4"}}})",
    R"({"type":"object","properties":{"steps":{"type":"array","items":{"type":"object","properties":{"explanation":{"type":"string"},"output":{"type":"string"}},"required":["explanation","output"],"additionalProperties":false}},"final_answer":{"type":"string"}},"required":["steps","final_answer"],"additionalProperties":false})",
};

TEST(SchemaWalk, HandWrittenSchemas) {
  std::mt19937_64 random(1);
  for (const char* schema : kSchemas) {
    expect_valid_walks(schema, random, 6);
    if (HasFailure()) return;
  }
}

// Random schemas. Most are satisfiable; those that are not are refused with an error.
class RandomSchema {
 public:
  explicit RandomSchema(uint64_t seed) : random_(seed) {}

  json make() {
    json root = schema(0);
    if (root.is_boolean()) root = json::object();
    root["$defs"] = {
        {"leaf", scalar()},
        {"list", {{"type", "array"}, {"items", {{"$ref", "#/$defs/tree"}}}, {"maxItems", 3}}},
        {"tree",
         {{"anyOf", json::array({{{"$ref", "#/$defs/leaf"}}, {{"$ref", "#/$defs/list"}}})}}}};
    return root;
  }

 private:
  uint64_t pick(uint64_t n) { return random_() % n; }
  bool chance(int percent) { return static_cast<int>(pick(100)) < percent; }
  std::string name() {
    static const char* const kNames[] = {"a",      "b",    "ab",  "abc", "id",
                                         "na\"me", "ключ", "x y", "",    "value"};
    return kNames[pick(10)];
  }

  json number() {
    json s = {{"type", chance(50) ? "integer" : "number"}};
    const int low = static_cast<int>(pick(2000)) - 1000;
    const bool fine = s["type"] == "number" && chance(50);
    if (chance(50))
      s[chance(50) ? "minimum" : "exclusiveMinimum"] = fine ? json(low / 8.0) : json(low);
    if (chance(50))
      s[chance(50) ? "maximum" : "exclusiveMaximum"] =
          fine ? json((low + 900) / 8.0) : json(low + static_cast<int>(pick(900)) + 2);
    if (chance(15)) s["multipleOf"] = 1 + pick(12);
    return s;
  }
  json string() {
    static const char* const kPatterns[] = {
        "^a",       "b$",      "^[a-f0-9]{2,6}$", "x|y+z",     "^(ab?)+$",
        "[0-9]{3}", "^[^x]*$", "^\\S+@\\S+$",     "^$|^[A-Z]", "(foo|bar){1,2}"};
    static const char* const kFormats[] = {"date", "time",  "date-time", "uuid", "ipv4",
                                           "ipv6", "email", "hostname",  "uri"};
    json s = {{"type", "string"}};
    if (chance(40)) {
      s["pattern"] = kPatterns[pick(10)];
    } else if (chance(40)) {
      s["format"] = kFormats[pick(9)];
      return s;
    }
    if (chance(30)) s["minLength"] = pick(4);
    if (chance(30)) s["maxLength"] = 4 + pick(10);
    return s;
  }
  json scalar() {
    switch (pick(6)) {
      case 0:
        return number();
      case 1:
        return string();
      case 2:
        return {{"type", json::array({"null", "boolean"})}};
      case 3:
        return {{"const", chance(50) ? json(name()) : json(static_cast<int>(pick(100)))}};
      case 4:
        return {{"enum", json::array({name(), static_cast<int>(pick(50)), nullptr, 0.5, name()})}};
      default:
        return {{"type", chance(50) ? "string" : "integer"}};
    }
  }
  json object(int depth) {
    json s = {{"type", "object"}, {"properties", json::object()}};
    json required = json::array();
    for (uint64_t i = pick(5); i > 0; --i) {
      const std::string key = name();
      s["properties"][key] = schema(depth + 1);
      if (chance(50)) required.push_back(key);
    }
    if (chance(10)) required.push_back("extra");
    std::sort(required.begin(), required.end());
    required.erase(std::unique(required.begin(), required.end()), required.end());
    s["required"] = required;
    if (chance(20)) s["patternProperties"] = {{"^p", schema(depth + 1)}};
    if (chance(60)) s["additionalProperties"] = chance(60) ? json(false) : schema(depth + 1);
    return s;
  }
  json array(int depth) {
    json s = {{"type", "array"}};
    if (chance(30)) s["prefixItems"] = json::array({schema(depth + 1), schema(depth + 1)});
    if (chance(80)) s["items"] = schema(depth + 1);
    if (chance(40)) s["minItems"] = pick(3);
    if (chance(40)) s["maxItems"] = 2 + pick(4);
    return s;
  }
  json schema(int depth) {
    if (depth > 3 || chance(30)) return scalar();
    switch (pick(7)) {
      case 0:
        return array(depth);
      case 1:
        return {{"anyOf", json::array({schema(depth + 1), schema(depth + 1)})}};
      case 2:
        return {{"$ref", chance(50) ? "#/$defs/leaf" : "#/$defs/tree"}};
      case 3:
        return {{"allOf", json::array({object(depth), object(depth)})}};
      case 4:
        return chance(80) ? json(true) : json::object();
      default:
        return object(depth);
    }
  }

  std::mt19937_64 random_;
};

TEST(SchemaWalk, RandomSchemas) {
  std::mt19937_64 random(2);
  int walked = 0;
  int refused = 0;
  for (uint64_t seed = 0; walked < 400; ++seed) {
    const std::string schema = RandomSchema(seed).make().dump();
    if (const auto grammar = compile_json_schema(schema); !grammar) {
      ++refused;
      ASSERT_NE(grammar.error().message.find("no finite text"), std::string::npos)
          << grammar.error().message << "\n"
          << schema;
      continue;
    }
    expect_valid_walks(schema, random, 3);
    if (HasFailure()) return;
    ++walked;
  }
  EXPECT_LT(refused, 100);
}

}  // namespace
}  // namespace fathom
