// The document against the code: requests that the readers take, and bodies that the formatters
// make, must fit its schemas; what its schemas exclude, the readers refuse.
#include "server/api/openapi.h"

#include <set>

#include "server/api/anthropic_request.h"
#include "server/api/anthropic_response.h"
#include "server/api/chat_response.h"
#include "server/api/completions_request.h"
#include "server/api/completions_response.h"
#include "server/api/misc.h"
#include "server/api/responses_response.h"
#include "server/api/test_support.h"

namespace fathom::server::api {
namespace openapi_test {

using nlohmann::ordered_json;
using test::tokens_of;

const ordered_json& document() {
  static const ordered_json parsed = ordered_json::parse(openapi_body("0.1.0"));
  return parsed;
}

bool has_type(const ordered_json& v, const std::string& type) {
  if (type == "null") return v.is_null();
  if (type == "boolean") return v.is_boolean();
  if (type == "integer") return v.is_number_integer();
  if (type == "number") return v.is_number();
  if (type == "string") return v.is_string();
  if (type == "array") return v.is_array();
  return type == "object" && v.is_object();
}

// What of JSON schema the document uses. "" if `value` fits, else where and why not.
std::string misfit(const ordered_json& value, const ordered_json& schema, const std::string& path) {
  if (schema.contains("$ref")) {
    const std::string name = schema["$ref"].get<std::string>().substr(21);
    return misfit(value, document()["components"]["schemas"].at(name), path);
  }
  for (const char* key : {"anyOf", "oneOf"}) {
    if (!schema.contains(key)) continue;
    std::string last;
    for (const ordered_json& choice : schema[key])
      if ((last = misfit(value, choice, path)).empty()) return "";
    return last;
  }
  if (schema.contains("type")) {
    const ordered_json& type = schema["type"];
    bool ok = type.is_string() && has_type(value, type);
    if (type.is_array())
      for (const ordered_json& t : type) ok = ok || has_type(value, t);
    if (!ok) return path + " is " + value.dump() + ", not of type " + type.dump();
  }
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end())
    return path + " is " + value.dump() + ", not among " + schema["enum"].dump();
  if (value.is_number() && ((schema.contains("minimum") && value < schema["minimum"]) ||
                            (schema.contains("maximum") && value > schema["maximum"])))
    return path + " is out of range";
  if (value.is_string() && schema.contains("minLength") &&
      value.get_ref<const std::string&>().size() < schema["minLength"])
    return path + " is too short";
  if (value.is_array()) {
    if ((schema.contains("minItems") && value.size() < schema["minItems"]) ||
        (schema.contains("maxItems") && value.size() > schema["maxItems"]))
      return path + " has a wrong number of entries";
    for (std::size_t i = 0; schema.contains("items") && i < value.size(); ++i) {
      std::string inner = misfit(value[i], schema["items"], path + "[" + std::to_string(i) + "]");
      if (!inner.empty()) return inner;
    }
  }
  if (!value.is_object()) return "";
  for (const ordered_json& name : schema.value("required", ordered_json::array()))
    if (!value.contains(name.get<std::string>())) return path + " lacks " + name.dump();
  for (const auto& [name, member] : value.items()) {
    const bool known = schema.contains("properties") && schema["properties"].contains(name);
    std::string inner;
    if (known) inner = misfit(member, schema["properties"][name], path + "." + name);
    if (!known && schema.contains("additionalProperties"))
      inner = misfit(member, schema["additionalProperties"], path + "." + name);
    if (!inner.empty()) return inner;
  }
  return "";
}

std::string misfit(const std::string& body, const std::string& component) {
  return misfit(ordered_json::parse(body), document()["components"]["schemas"].at(component),
                component);
}

// Every field that a body has must be in its schema, so that none is left undocumented.
void expect_documented(const std::string& body, const std::string& component) {
  const ordered_json& schema = document()["components"]["schemas"].at(component);
  const ordered_json parsed = ordered_json::parse(body);
  for (const auto& [name, member] : parsed.items())
    EXPECT_TRUE(schema["properties"].contains(name)) << component << "." << name;
  EXPECT_EQ(misfit(body, component), "");
}

void collect_refs(const ordered_json& v, std::set<std::string>& out) {
  if (v.is_object() && v.contains("$ref")) out.insert(v["$ref"].get<std::string>());
  if (v.is_structured())
    for (const ordered_json& member : v) collect_refs(member, out);
}

TEST(OpenApiTest, EveryReferenceLeadsSomewhere) {
  std::set<std::string> refs;
  collect_refs(document(), refs);
  EXPECT_GT(refs.size(), 20U);
  for (const std::string& ref : refs) {
    ASSERT_TRUE(ref.starts_with("#/components/schemas/")) << ref;
    EXPECT_TRUE(document()["components"]["schemas"].contains(ref.substr(21))) << ref;
  }
}

TEST(OpenApiTest, EveryRouteIsThereOnce) {
  std::set<std::string> seen;
  for (const ApiRoute& route : api_routes()) {
    EXPECT_TRUE(seen.insert(std::string(route.method) + " " + std::string(route.path)).second)
        << route.path;
    const auto& op = document()["paths"].at(std::string(route.path)).at(std::string(route.method));
    EXPECT_EQ(op.contains("requestBody"), !route.request.empty()) << route.path;
    EXPECT_EQ(op["responses"].contains("401"), !route.open) << route.path;
  }
}

TEST(OpenApiTest, FieldsComeFromTheTables) {
  const auto& chat = document()["components"]["schemas"]["ChatRequest"];
  EXPECT_EQ(chat["required"].dump(), R"(["model","messages"])");
  EXPECT_EQ(chat["properties"].size(), chat_fields().size());
  EXPECT_EQ(
      chat["properties"]["temperature"].dump(),
      R"({"type":["number","null"],"minimum":0,"maximum":2,"description":"0 takes the likeliest token. Ignored by DeepSeek's hybrid models while they think"})");
}

TEST(OpenApiTest, ResponsesOutsideTheBackgroundHaveNoEventsAndNoEnd) {
  const ordered_json& paths = document()["paths"];
  EXPECT_TRUE(paths["/v1/responses/{response}"]["get"]["responses"].contains("400"));
  EXPECT_TRUE(paths["/v1/responses/{response}/cancel"]["post"]["responses"].contains("400"));
  EXPECT_FALSE(paths["/v1/responses/{response}"]["delete"]["responses"].contains("400"));
}

struct Body {
  const char* component;
  const char* body;
  bool fits;
};
void PrintTo(const Body& b, std::ostream* out) { *out << b.body; }

class OpenApiRequest : public ::testing::TestWithParam<Body> {};

bool is_taken(const Body& b) {
  const std::string_view c = b.component;
  if (c == "ChatRequest") return parse_chat_request(b.body).has_value();
  if (c == "CompletionRequest") return parse_completion_request(b.body).has_value();
  if (c == "ResponsesRequest") return parse_responses_request(b.body).has_value();
  if (c == "AnthropicRequest") return parse_anthropic_request(b.body).has_value();
  if (c == "AnthropicCountRequest") return parse_count_tokens_request(b.body).has_value();
  if (c == "TokenizeRequest") return parse_tokenize_request(b.body).has_value();
  if (c == "DetokenizeRequest") return parse_detokenize_request(b.body).has_value();
  return parse_embeddings_request(b.body).has_value();
}

TEST_P(OpenApiRequest, ReaderAndSchemaAgree) {
  const Body& b = GetParam();
  EXPECT_EQ(is_taken(b), b.fits);
  EXPECT_EQ(misfit(b.body, b.component).empty(), b.fits) << misfit(b.body, b.component);
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, OpenApiRequest,
    ::testing::Values(
        Body{"ChatRequest",
             R"({"model":"m","messages":[{"role":"user","content":"a"}],"stop":["x"],"n":2,
                 "temperature":1,"stream":true,"stream_options":{"include_usage":true},
                 "thinking":{"type":"enabled"},"tools":[{"type":"function","function":{"name":"f"}}],
                 "tool_choice":"auto","logprobs":true,"top_logprobs":1,"seed":null})",
             true},
        Body{"ChatRequest", R"({"messages":[{"role":"user","content":"a"}]})", false},
        Body{"ChatRequest", R"({"model":"m","messages":[]})", false},
        Body{"ChatRequest", R"({"model":"m","messages":[{"role":"x","content":"a"}]})", false},
        Body{"ChatRequest",
             R"({"model":"m","messages":[{"role":"user","content":"a"}],"temperature":2.5})",
             false},
        Body{"ChatRequest",
             R"({"model":"m","messages":[{"role":"user","content":"a"}],"stop":[""]})", false},
        Body{"ChatRequest",
             R"({"model":"m","messages":[{"role":"user","content":"a"}],"thinking":{"type":"x"}})",
             false},
        Body{"CompletionRequest", R"({"model":"m","prompt":[[1,2],[3]]})", true},
        Body{"CompletionRequest", R"({"model":"m","prompt":{"a":1}})", false},
        Body{"ResponsesRequest", R"({"model":"m","input":"a","text":{"format":{"type":"text"}}})",
             true},
        Body{"ResponsesRequest", R"({"model":"m","input":5})", false},
        Body{"AnthropicCountRequest",
             R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]})",
             true},
        Body{"AnthropicCountRequest", R"({"model":"m","messages":[{"role":"user","content":1}]})",
             false},
        Body{"AnthropicRequest",
             R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]})", true},
        Body{"AnthropicRequest", R"({"model":"m","messages":[{"role":"user","content":"a"}]})",
             false},
        Body{"AnthropicRequest",
             R"({"model":"m","max_tokens":null,"messages":[{"role":"user","content":"a"}]})",
             false},
        Body{"TokenizeRequest", R"({"model":"m","prompt":"a"})", true},
        Body{"TokenizeRequest", R"({"model":"m","prompt":5})", false},
        Body{"DetokenizeRequest", R"({"model":"m","tokens":[1]})", true},
        Body{"DetokenizeRequest", R"({"model":"m","tokens":[-1]})", false},
        Body{"EmbeddingsRequest", R"({"model":"m","input":["a"]})", true},
        Body{"EmbeddingsRequest", R"({"model":"m","input":7})", false}));

AnswerSpec spec() {
  return {.tokenizer = test::tokenizer("qwen3"),
          .family = ChatFamily::kQwen3,
          .parse_tools = true,
          .top_logprobs = 1,
          .prompt_tokens = 3};
}

constexpr std::string_view kText =
    "<think>\nhm\n</think>\n\nok\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";

ResponseMeta meta() { return {"id-1", "r", 1700000000, "m", "fp_0"}; }

TEST(OpenApiTest, BodiesFitTheirSchemas) {
  AnswerAssembler a(spec());
  a.push(tokens_of(*spec().tokenizer, kText));
  a.finish(FinishReason::kStop);
  const Answer* answers[] = {&a.answer()};
  expect_documented(chat_body(meta(), answers, spec().tokenizer.get()), "ChatCompletion");
  const CompletionChoice choices[] = {{&a.answer(), ""}};
  expect_documented(completion_body(meta(), choices, 1, spec().tokenizer.get()), "Completion");
  expect_documented(openai_error_body(bad_request("a", "b")), "Error");
  expect_documented(anthropic_error_body(bad_request("a", "b"), "r"), "AnthropicError");
  expect_documented(balance_body(), "Balance");
  const auto model = test::served("nano", ChatFamily::kNano);
  expect_documented(model_body(*model), "Model");
  const std::shared_ptr<const ServedModel> models[] = {model};
  expect_documented(models_body(models), "ModelList");
  auto tokenize = parse_tokenize_request(R"({"model":"m","prompt":"a","return_token_strs":true})");
  expect_documented(*tokenize_body(*tokenize, *model), "Tokens");
  expect_documented(*detokenize_body({"m", {5}}, *model), "Text");
}

TEST(OpenApiTest, ChunksFitTheirSchema) {
  AnswerAssembler a(spec());
  ChatStream s(meta(), {.include_usage = true, .logprobs = true}, spec().tokenizer);
  std::vector<SseEvent> events = s.deltas(0, a.push(tokens_of(*spec().tokenizer, kText)));
  a.finish(FinishReason::kStop);
  for (SseEvent& e : s.finish(0, a.answer())) events.push_back(e);
  for (SseEvent& e : s.end()) events.push_back(e);
  for (std::size_t i = 0; i + 1 < events.size(); ++i)
    expect_documented(events[i].data, "ChatCompletionChunk");
}

TEST(OpenApiTest, ResponsesAndMessagesFitTheirSchemas) {
  auto request = parse_responses_request(R"({"model":"m","input":"a","metadata":{"a":"b"}})");
  ResponsesStream r(meta(), *request, spec().tokenizer);
  AnthropicStream m(meta());
  AnswerAssembler a(spec());
  r.begin();
  expect_documented(r.body(), "Response");
  m.begin(a.answer().usage);
  const auto deltas = a.push(tokens_of(*spec().tokenizer, kText));
  r.deltas(deltas);
  m.deltas(deltas);
  a.finish(FinishReason::kStop);
  r.finish(a.answer());
  m.finish(a.answer());
  expect_documented(r.body(), "Response");
  expect_documented(m.body(), "AnthropicAnswer");
  r.fail(service_error(internal_error("x")));
  expect_documented(r.body(), "Response");
}

}  // namespace openapi_test
}  // namespace fathom::server::api
