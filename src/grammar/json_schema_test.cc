// What single keywords allow and refuse, and the errors of schemas that cannot be enforced. Whole
// answers are schema_walk_test.cc's business.
#include "grammar/json_schema.h"

#include <gtest/gtest.h>

#include "grammar/grammar_test_support.h"

namespace fathom {
namespace {

using test::schema_grammar;
using test::takes;

struct Row {
  const char* schema;
  std::vector<const char*> good;
  std::vector<const char*> bad;
};

void expect_rows(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    const auto grammar = compile_json_schema(row.schema);
    ASSERT_TRUE(grammar) << grammar.error().message << " for " << row.schema;
    for (const char* text : row.good)
      EXPECT_TRUE(takes(*grammar, text)) << row.schema << " " << text;
    for (const char* text : row.bad)
      EXPECT_FALSE(takes(*grammar, text)) << row.schema << " " << text;
  }
}

TEST(JsonObject, AnyObjectAndNothingElse) {
  const auto grammar = *compile_json_object();
  for (const char* good :
       {"{}", "{ }", "\n\n{}", "{\"a\":1}", "{\"a\": [1, 2.5e3, {\"b\": null}], \"c\": \"d\"}",
        "{\n  \"a\": true,\n  \"b\": [\n    1,\n    2\n  ]\n}", "{\"\":-0.5E-7}"}) {
    EXPECT_TRUE(takes(grammar, good)) << good;
  }
  for (const char* bad : {"", "[]", "1", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":01}",
                          "{} ", "{\"a\":1 }x", "{a:1}", "{'a':1}", "{\"a\":+1}", "{\"a\":1.}",
                          "{\"a\":.5}", "{\"a\":NaN}", "{\"a\":1e999}"}) {
    EXPECT_FALSE(takes(grammar, bad)) << bad;
  }
}

TEST(JsonObject, WhiteSpaceIsBounded) {
  const auto grammar = *compile_json_object();
  const std::string indent(40, ' ');
  EXPECT_TRUE(takes(grammar, "{\n" + indent + "\"a\":1\n}"));
  EXPECT_FALSE(takes(grammar, "{\n" + indent + " \"a\":1\n}"));
  EXPECT_TRUE(takes(grammar, "{\n\t\t\"a\":1\n\t}"));
  for (const char* bad : {"{  }", "{\n\n}", "{\"a\" :1}", "{\"a\":  1}", "{\"a\":\n1}",
                          "{\"a\":1 ,\"b\":2}", "\n\n\n{}", "  {}", "{\r\n}"}) {
    EXPECT_FALSE(takes(grammar, bad)) << bad;
  }
  const auto compact = *compile_json_object({.compact = true});
  EXPECT_TRUE(takes(compact, "{\"a\":[1,2],\"b\":{}}"));
  for (const char* bad : {" {}", "{ }", "{\"a\": 1}", "{\"a\":[1, 2]}"})
    EXPECT_FALSE(takes(compact, bad));
}

TEST(JsonSchema, Objects) {
  expect_rows({
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},"required":["b"],"additionalProperties":false})",
       {"{\"b\":1}", "{\"a\":1,\"b\":2}", "{\"b\":1, \"c\":2}", "{\"a\":1,\"b\":2,\"c\":3}"},
       {"{}", "{\"a\":1}", "{\"b\":1,\"a\":2}", "{\"b\":1,\"b\":2}", "{\"b\":1,\"d\":2}",
        "{\"b\":1,}", "{,\"b\":1}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}}})",
       {"{}", "{\"a\":1}"},
       {"{\"b\":1}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":true})",
       {"{}", "{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":[]}", "{\"aa\":\"\",\"\":0}"},
       {"{\"a\":\"x\"}", "{\"b\":1,\"a\":2}", "{\"\\u0061\":\"x\"}"}},
      {R"({"properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"null"}})",
       {"{\"b\":null,\"c\":null}"},
       {"{\"b\":1}", "1"}},
      {R"({"required":["z"],"properties":{"a":{}}})", {"{\"z\":[]}", "{\"a\":1,\"z\":2}"}, {"{}"}},
      {R"({"patternProperties":{"^i":{"type":"integer"},"s$":{"type":"string"}}})",
       {"{}", "{\"id\":1}", "{\"as\":\"\"}"},
       {"{\"id\":\"\"}", "{\"is\":1}", "{\"is\":\"\"}", "{\"x\":1}"}},
      {R"({"properties":{"i1":{"minimum":5}},"patternProperties":{"^i":{"type":"integer"}},"additionalProperties":{"type":"null"}})",
       {"{\"i1\":5}", "{\"i2\":1}", "{\"i1\":9,\"x\":null}"},
       {"{\"i1\":4}", "{\"i1\":5.5}", "{\"x\":1}"}},
      {R"({"type":"object","properties":{"a":{},"b":{}},"minProperties":1})",
       {"{\"a\":1}", "{\"b\":1}"},
       {"{}"}},
      {R"({"type":"object","properties":{"a":false,"b":{}}})", {"{\"b\":1}"}, {"{\"a\":1}"}},
  });
}

TEST(JsonSchema, Arrays) {
  expect_rows({
      {R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2})",
       {"[true]", "[true, false]", "[\n  true\n]"},
       {"[]", "[true,true,true]", "[1]", "[true,]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}]})",
       {"[]", "[1]", "[1,\"a\"]"},
       {"[1,\"a\",2]", "[\"a\"]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"}})",
       {"[]", "[1]", "[1,null,null,null]"},
       {"[null]", "[1,1]"}},
      {R"({"type":"array","uniqueItems":true,"maxItems":1})", {"[]", "[1]"}, {"[1,1]"}},
      {R"({"items":{"type":"integer"},"minItems":2})", {"[1,2]", "[1,2,3,4]"}, {"[1]", "{}"}},
  });
}

TEST(JsonSchema, Scalars) {
  expect_rows({
      {R"({"enum":["a","ab",1,10,null,[1],{"k":"v"}]})",
       {"\"a\"", "\"ab\"", "1", "10", "null", "[1]", "[ 1 ]", "{\"k\": \"v\"}"},
       {"\"b\"", "\"\"", "100", "[]", "[2]"}},
      {R"({"const":1.0})", {"1"}, {"2"}},
      {R"({"enum":["a",1,2.5,true],"type":["string","integer"]})", {"\"a\"", "1"}, {"2.5", "true"}},
      {R"({"type":"string","nullable":true})", {"null", "\"\""}, {"1"}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"\"ab\"", "\"漢字\"", "\"a\\nb\"", "\"\\ud83d\\ude00x\""},
       {"\"a\"", "\"abcd\"", "\"漢字漢字\"", "\"\\n\""}},
      {R"({"type":"string","pattern":"^a\"?\\n$"})",
       {"\"a\\n\"", "\"a\\\"\\n\""},
       {"\"a\"", "\"a\n\"", "\"a\\u000a\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-29\"", "\"2023-12-31\"", "\"2000-02-29\""},
       {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"23-01-01\""}},
      {R"({"type":"string","format":"unheard-of"})", {"\"x\""}, {"1"}},
      {R"({"type":["integer","null"],"minimum":3})", {"3", "null", "1000"}, {"2", "-3", "3.0"}},
      {R"({"minimum":3})", {"3", "3.5"}, {"2.9", "\"a\""}},
      {R"({"type":"integer","multipleOf":25,"minimum":0,"maximum":100})",
       {"0", "25", "100"},
       {"5", "125"}},
      {R"({"type":"number","multipleOf":1})", {"5"}, {"5.5"}},
      {R"({"type":"integer","minimum":123456789012345678901234567890,"maximum":123456789012345678901234567899})",
       {"123456789012345678901234567895"},
       {"123456789012345678901234567889", "1"}},
  });
}

TEST(JsonSchema, Combinations) {
  expect_rows({
      {R"({"allOf":[{"type":"integer","minimum":3},{"maximum":5}]})", {"3", "5"}, {"2", "6"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},"allOf":[{"properties":{"b":{"type":"null"}},"required":["b"]}]})",
       {"{\"b\":null}", "{\"a\":1,\"b\":null}"},
       {"{\"a\":1}"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"null"}],"enum":[1,null,"a"]})",
       {"1", "null"},
       {"\"a\""}},
      {R"({"oneOf":[{"type":"integer"},{"type":"string"}]})", {"1", "\"\""}, {"null"}},
      {R"({"$ref":"#/$defs/%61","$defs":{"a":{"type":"null"}}})", {"null"}, {"1"}},
      {R"({"definitions":{"a":{"type":"null","not":{}},"b":{"type":"integer"}},"$ref":"#/definitions/b"})",
       {"1"},
       {}},
      {R"({"$defs":{"p":{"type":"integer","minimum":1}},"properties":{"x":{"$ref":"#/$defs/p","maximum":3}},"required":["x"]})",
       {"{\"x\":3}"},
       {"{\"x\":0}", "{\"x\":4}"}},
      {R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", {"null"}, {"1"}},
      {R"({"type":"array","items":{"$ref":"#"}})", {"[]", "[[],[[]]]"}, {"[1]"}},
  });
}

TEST(JsonSchema, AnnotationsAndUnknownNamesSayNothing) {
  expect_rows(
      {{R"({"$schema":"x","$id":"y","$comment":"c","title":"t","description":"d","default":1,"examples":[1],"deprecated":true,"readOnly":true,"x-order":3,"type":"null","then":{"type":"string"},"unevaluatedProperties":true})",
        {"null"},
        {"1"}}});
}

TEST(JsonSchema, WhatCannotBeEnforcedIsNamed) {
  const std::pair<const char*, const char*> rows[] = {
      {R"_({"properties":{"x":{"type":"string","pattern":"a(?=b)"}}})_", "$.properties.x.pattern"},
      {R"({"properties":{"x":{"pattern":"(a)\\1"}}})", "$.properties.x.pattern"},
      {R"({"properties":{"x y":{"pattern":"\\bword"}}})", "$.properties[\"x y\"].pattern"},
      {R"({"pattern":"\\p{L}"})", "\\p"},
      {R"({"pattern":"a{2"})", "lone {"},
      {R"({"pattern":"[z-a]"})", "range"},
      {R"({"pattern":"(a"})", "unmatched ("},
      {R"_({"pattern":"a)"})_", "unmatched )"},
      {R"({"pattern":"a**"})", "two quantifiers"},
      {R"({"not":{"type":"string"}})", "$.not"},
      {R"({"properties":{"a":{"if":{}}}})", "$.properties.a.if"},
      {R"({"contains":{}})", "$.contains"},
      {R"({"propertyNames":{"pattern":"a"}})", "$.propertyNames"},
      {R"({"dependentRequired":{}})", "$.dependentRequired"},
      {R"({"unevaluatedProperties":false})", "$.unevaluatedProperties"},
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"number","multipleOf":0.01})", "$.multipleOf"},
      {R"({"format":"regex"})", "$.format"},
      {R"({"type":"text"})", "$.type"},
      {R"({"type":[]  ,"enum":3})", "$.enum"},
      {R"({"minLength":-1})", "$.minLength"},
      {R"({"minLength":1.5})", "$.minLength"},
      {R"({"maxLength":1000000})", "$.maxLength"},
      {R"({"minimum":"1"})", "$.minimum"},
      {R"({"minimum":1e300})", "$.minimum"},
      {R"({"type":"number","exclusiveMinimum":0.12345678901234567})", "exclusive bound"},
      {R"({"$ref":"http://example.com/x"})", "$.$ref"},
      {R"({"$ref":"#/$defs/none"})", "$.$ref"},
      {R"({"properties":{"a":3}})", "$.properties.a"},
      {R"({"required":["a",1]})", "$.required"},
      {R"({"items":[{}]})", "$.items"},
      {R"({"anyOf":[]})", "$.anyOf"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "$.oneOf"},
      {R"({"oneOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]})", "$.oneOf"},
      {R"({"type":"object","properties":{"a":{},"b":{},"c":{}},"minProperties":2})",
       "minProperties"},
      {R"({"type":"object","maxProperties":2})", "maxProperties"},
      {R"({"enum":[{"a":1}],"required":["a"]})", "enum"},
      {R"([])", "schema"},
      {R"({"type":"string",})", "JSON"},
      {R"({"type":"string","type":"null"})", "twice"},
      {R"(false)", "no finite text"},
      {R"({"enum":[]})", "no finite text"},
      {R"({"$ref":"#"})", "no finite text"},
      {R"({"type":"integer","minimum":3,"maximum":2})", "no finite text"},
      {R"({"type":"string","minLength":3,"pattern":"^ab?$"})", "no finite text"},
      {R"({"properties":{"a":{"$ref":"#"}},"required":["a"]})", "no finite text"},
      {R"({"allOf":[{"type":"string"},{"type":"integer"}]})", "no finite text"},
  };
  for (const auto& [schema, expected] : rows) {
    const auto grammar = compile_json_schema(schema);
    ASSERT_FALSE(grammar) << schema;
    EXPECT_NE(grammar.error().message.find(expected), std::string::npos)
        << schema << ": " << grammar.error().message;
    EXPECT_TRUE(grammar.error().message.starts_with("JSON schema: ")) << grammar.error().message;
  }
}

TEST(JsonSchema, AThousandEnumValuesAndProperties) {
  std::string values, properties;
  for (int i = 0; i < 1000; ++i) {
    values += (i == 0 ? "\"v" : ",\"v") + std::to_string(i) + "\"";
    properties += (i == 0 ? "\"p" : ",\"p") + std::to_string(i) + "\":{\"type\":\"integer\"}";
  }
  const auto many_values = schema_grammar("{\"enum\":[" + values + "]}");
  EXPECT_TRUE(takes(many_values, "\"v999\""));
  EXPECT_FALSE(takes(many_values, "\"v1000\""));
  const auto many_keys =
      schema_grammar("{\"type\":\"object\",\"properties\":{" + properties + "}}");
  EXPECT_TRUE(takes(many_keys, "{\"p0\":1,\"p500\":2,\"p999\":3}"));
  EXPECT_FALSE(takes(many_keys, "{\"p500\":2,\"p0\":1}"));
}

}  // namespace
}  // namespace fathom
