#include "server/api/chat_request.h"

#include "server/api/test_support.h"

namespace fathom::server::api {
namespace chat_request_test {

using nlohmann::ordered_json;
using test::message_of;
using ::testing::HasSubstr;

// A valid body with `patch` merged over it (null removes).
std::string body_with(const std::string& patch) {
  ordered_json body =
      ordered_json::parse(R"({"model":"nano","messages":[{"role":"user","content":"Hi"}]})");
  body.merge_patch(ordered_json::parse(patch));
  return body.dump();
}

ApiResult<ChatRequest> parse(const std::string& patch) {
  return parse_chat_request(body_with(patch));
}

// One wrong field: what is sent, and what must be said about it.
struct Refusal {
  const char* patch;
  const char* param;
  const char* message;
};

void PrintTo(const Refusal& r, std::ostream* out) { *out << r.patch; }

class ChatRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(ChatRefusal, NamesFieldValueAndExpectation) {
  const auto result = parse(GetParam().patch);
  ASSERT_FALSE(result.has_value()) << GetParam().patch;
  EXPECT_EQ(result.error().status, 400);
  EXPECT_EQ(result.error().type, "invalid_request_error");
  EXPECT_EQ(result.error().code, "invalid_request_error");
  EXPECT_EQ(result.error().param, GetParam().param);
  EXPECT_EQ(result.error().message, GetParam().message);
}

constexpr Refusal kRefusals[] = {
    {R"({"model":null})", "model", "model is missing, expected a string"},
    {R"({"model":7})", "model", "model is 7, expected a string"},
    {R"({"model":""})", "model", "model is \"\", expected a string of 1 to 256 bytes"},
    {R"({"messages":null})", "messages", "messages is missing, expected a list"},
    {R"({"messages":"Hi"})", "messages", "messages is \"Hi\", expected a list"},
    {R"({"messages":[]})", "messages",
     "messages is a list of 0, expected a list of 1 to 100000 entries"},
    {R"({"messages":["Hi"]})", "messages", "messages[0] is \"Hi\", expected an object"},
    {R"({"messages":[{"content":"Hi"}]})", "messages",
     "messages[0].role is missing, expected a string"},
    {R"({"messages":[{"role":"developer","content":"Hi"}]})", "messages",
     "messages[0].role is \"developer\", expected \"system\", which means the same here"},
    {R"({"messages":[{"role":"bot","content":"Hi"}]})", "messages",
     "messages[0].role is \"bot\", expected one of: system,user,assistant,tool,latest_reminder"},
    {R"({"messages":[{"role":"user"}]})", "messages",
     "messages[0].content is missing, expected a string"},
    {R"({"messages":[{"role":"assistant","content":null}]})", "messages",
     "messages[0].content is null, expected a string"},
    {R"({"messages":[{"role":"user","content":5}]})", "messages",
     "messages[0].content is 5, expected a string, null or a list of text parts"},
    {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages",
     "messages[0].content[0].type is \"image_url\", expected \"text\": the model reads text"},
    {R"({"messages":[{"role":"user","content":"a","prefix":true}]})", "messages",
     "messages[0].prefix is true, expected false in all but a last message of the assistant with "
     "content"},
    {R"({"messages":[{"role":"user","content":"a","tool_calls":[{"id":"c","type":"function",
        "function":{"name":"f","arguments":"{}"}}]}]})",
     "messages",
     "messages[0].tool_calls is given, expected nothing in a message of another role than "
     "assistant"},
    {R"({"thinking":"on"})", "thinking", "thinking is \"on\", expected an object"},
    {R"({"thinking":{}})", "thinking.type",
     "thinking.type is missing, expected one of: enabled,disabled"},
    {R"({"thinking":{"type":"yes"}})", "thinking.type",
     "thinking.type is \"yes\", expected one of: enabled,disabled"},
    {R"({"reasoning_effort":"huge"})", "reasoning_effort",
     "reasoning_effort is \"huge\", expected one of: "
     "none,minimal,low,medium,high,xhigh,max,ultra"},
    {R"({"max_tokens":0})", "max_tokens",
     "max_tokens is 0, expected an integer from 1 to 134217728"},
    {R"({"max_tokens":1.5})", "max_tokens",
     "max_tokens is 1.5, expected an integer from 1 to 134217728"},
    {R"({"max_completion_tokens":-1})", "max_completion_tokens",
     "max_completion_tokens is -1, expected an integer from 1 to 134217728"},
    {R"({"max_tokens":1,"max_completion_tokens":2})", "max_completion_tokens",
     "max_completion_tokens is 2 and max_tokens is 1: they mean the same, expected one of them"},
    {R"({"temperature":2.1})", "temperature", "temperature is 2.1, expected a number from 0 to 2"},
    {R"({"temperature":-0.1})", "temperature",
     "temperature is -0.1, expected a number from 0 to 2"},
    {R"({"temperature":"1"})", "temperature",
     "temperature is \"1\", expected a number from 0 to 2"},
    {R"({"top_p":1.1})", "top_p", "top_p is 1.1, expected a number from 0 to 1"},
    {R"({"top_k":-1})", "top_k", "top_k is -1, expected an integer from 0 to 16777216"},
    {R"({"min_p":2})", "min_p", "min_p is 2, expected a number from 0 to 1"},
    {R"({"repetition_penalty":0})", "repetition_penalty",
     "repetition_penalty is 0, expected a number from 0.01 to 100"},
    {R"({"presence_penalty":-3})", "presence_penalty",
     "presence_penalty is -3, expected a number from -2 to 2"},
    {R"({"frequency_penalty":3})", "frequency_penalty",
     "frequency_penalty is 3, expected a number from -2 to 2"},
    {R"({"seed":1.25})", "seed", "seed is 1.25, expected an integer"},
    {R"({"n":0})", "n", "n is 0, expected an integer from 1 to 8"},
    {R"({"n":9})", "n", "n is 9, expected an integer from 1 to 8"},
    {R"({"stream":"yes"})", "stream", "stream is \"yes\", expected true or false"},
    {R"({"stream_options":{"include_usage":true}})", "stream_options",
     "stream_options is given, but stream is not true: expected both or neither"},
    {R"({"stream":true,"stream_options":{"include_usage":1}})", "stream_options.include_usage",
     "stream_options.include_usage is 1, expected true or false"},
    {R"({"stop":7})", "stop", "stop is 7, expected a string or a list of at most 16 strings"},
    {R"({"stop":""})", "stop", "stop is \"\", expected a string of 1 to 1024 bytes"},
    {R"({"stop":["a",""]})", "stop[1]", "stop[1] is \"\", expected a string of 1 to 1024 bytes"},
    {R"({"stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]})",
     "stop", "stop is a list of 17, expected a list of at most 16 strings"},
    {R"({"logit_bias":[]})", "logit_bias", "logit_bias is a list of 0, expected an object"},
    {R"({"logit_bias":{"x":1}})", "logit_bias", "logit_bias has the key \"x\", expected token ids"},
    {R"({"logit_bias":{"5":101}})", "logit_bias.5",
     "logit_bias.5 is 101, expected a number from -100 to 100"},
    {R"({"logprobs":1})", "logprobs", "logprobs is 1, expected true or false"},
    {R"({"top_logprobs":2})", "top_logprobs",
     "top_logprobs is 2, but logprobs is not true: expected both"},
    {R"({"logprobs":true,"top_logprobs":21})", "top_logprobs",
     "top_logprobs is 21, expected an integer from 0 to 20"},
    {R"({"stop_token_ids":[-1]})", "stop_token_ids[0]",
     "stop_token_ids[0] is -1, expected a token id"},
    {R"({"response_format":"json"})", "response_format",
     "response_format is \"json\", expected an object"},
    {R"({"response_format":{"type":"xml"}})", "response_format.type",
     "response_format.type is \"xml\", expected one of: text,json_object,json_schema"},
    {R"({"response_format":{"type":"json_object"}})", "response_format",
     "response_format.type is \"json_object\", but no message contains the word \"json\": say in "
     "the prompt that you want JSON"},
    {R"({"response_format":{"type":"json_schema"}})", "response_format.json_schema",
     "response_format.json_schema is missing, expected an object with name and schema"},
    {R"({"response_format":{"type":"json_schema","json_schema":{"name":"a b","schema":{}}}})",
     "response_format.json_schema.name",
     "response_format.json_schema.name is \"a b\", expected 1 to 64 letters, digits, _ or -"},
    {R"({"response_format":{"type":"json_schema","json_schema":{"name":"a"}}})",
     "response_format.json_schema.schema",
     "response_format.json_schema.schema is missing, expected an object"},
    {R"({"tools":{}})", "tools", "tools is {}, expected a list"},
    {R"({"tools":[{"type":"retrieval"}]})", "tools[0].type",
     "tools[0].type is \"retrieval\", expected one of: function"},
    {R"({"tools":[{"type":"function"}]})", "tools[0].function",
     "tools[0].function is missing, expected an object"},
    {R"({"tools":[{"type":"function","function":{"name":"a.b"}}]})", "tools[0].function.name",
     "tools[0].function.name is \"a.b\", expected 1 to 64 letters, digits, _ or -"},
    {R"({"tools":[{"type":"function","function":{"name":"a","parameters":[]}}]})",
     "tools[0].function.parameters",
     "tools[0].function.parameters is a list of 0, expected an object"},
    {R"({"tools":[{"type":"function","function":{"name":"a"}},
                  {"type":"function","function":{"name":"a"}}]})",
     "tools[1].function.name",
     "tools[1].function.name is \"a\", which another tool has too, expected different names"},
    {R"({"tools":[{"type":"function","function":{"name":"a","strict":true,
        "parameters":{"type":"object","properties":{}}}}]})",
     "tools[0].function.parameters.additionalProperties",
     "tools[0].function.parameters.additionalProperties is missing, expected false in every object "
     "of a strict schema"},
    {R"({"tools":[{"type":"function","function":{"name":"a","strict":true,
        "parameters":{"type":"object","additionalProperties":true}}}]})",
     "tools[0].function.parameters.additionalProperties",
     "tools[0].function.parameters.additionalProperties is true, expected false in every object of "
     "a strict schema"},
    {R"({"tools":[{"type":"function","function":{"name":"a","strict":true,"parameters":
        {"type":"object","additionalProperties":false,"properties":{"x":{"type":"string"}},
         "required":[]}}}]})",
     "tools[0].function.parameters.required",
     "tools[0].function.parameters.required leaves out \"x\", expected every property in a strict "
     "schema"},
    {R"({"tools":[{"type":"function","function":{"name":"a","strict":true,"parameters":
        {"type":"object","additionalProperties":false,"required":["x"],"properties":
         {"x":{"type":"string","format":"date"}}}}}]})",
     "tools[0].function.parameters.properties.x.format",
     "tools[0].function.parameters.properties.x.format is \"date\", expected one of: email, "
     "hostname, ipv4, ipv6, uuid"},
    {R"({"tool_choice":"required"})", "tool_choice",
     "tool_choice is \"required\", but there are no tools, expected at least one"},
    {R"({"tool_choice":"any"})", "tool_choice",
     "tool_choice is \"any\", expected \"none\", \"auto\", \"required\" or {\"type\": "
     "\"function\", \"function\": {\"name\": …}}"},
    {R"({"tool_choice":{"type":"function","function":{"name":"f"}}})", "tool_choice",
     "tool_choice names the function \"f\", expected one of tools"},
    {R"({"tool_choice":{"type":"function"}})", "tool_choice.function",
     "tool_choice.function is missing, expected an object"},
    {R"({"parallel_tool_calls":"no"})", "parallel_tool_calls",
     "parallel_tool_calls is \"no\", expected true or false"},
    {R"({"user_id":5})", "user_id", "user_id is 5, expected a string"},
    {R"({"ignore_eos":1})", "ignore_eos", "ignore_eos is 1, expected true or false"},
};

INSTANTIATE_TEST_SUITE_P(Fields, ChatRefusal, ::testing::ValuesIn(kRefusals));

TEST(ChatRequestTest, DefaultsOfTheSmallestBody) {
  auto r = parse("{}");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->model, "nano");
  ASSERT_EQ(r->messages.size(), 1U);
  EXPECT_EQ(r->messages[0].content, "Hi");
  EXPECT_EQ(r->thinking, std::nullopt);
  EXPECT_EQ(r->effort, std::nullopt);
  EXPECT_EQ(r->max_tokens, std::nullopt);
  EXPECT_EQ(r->sampling.temperature, std::nullopt);
  EXPECT_EQ(r->sampling.seed, std::nullopt);
  EXPECT_EQ(r->top_logprobs, -1);
  EXPECT_EQ(r->choices, 1);
  EXPECT_TRUE(r->parallel_tool_calls);
  EXPECT_FALSE(r->stream || r->include_usage || r->continue_final_message || r->ignore_eos);
  EXPECT_EQ(r->format.kind, ResponseFormat::Kind::kText);
  EXPECT_EQ(r->tool_choice.kind, ToolChoice::Kind::kAuto);
}

TEST(ChatRequestTest, NullIsAbsentAndUnknownFieldsAreIgnored) {
  const std::string body =
      R"({"model":"m","messages":[{"role":"user","content":"Hi"}],"temperature":null,"stop":null,
          "tools":null,"tool_choice":null,"response_format":null,"stream_options":null,"n":null,
          "seed":null,"logprobs":null,"top_logprobs":null,"thinking":null,"user":null,
          "store":true,"service_tier":"auto","metadata":{"a":"b"}})";
  auto r = parse_chat_request(body);
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->choices, 1);
}

TEST(ChatRequestTest, AllSamplingFields) {
  auto r = parse(R"({"temperature":0,"top_p":0.5,"top_k":7,"min_p":0.25,"repetition_penalty":1.5,
      "presence_penalty":-2,"frequency_penalty":2,"seed":-3,"logit_bias":{"5":-100,"12":1.5}})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->sampling.temperature, 0);
  EXPECT_EQ(r->sampling.top_p, 0.5);
  EXPECT_EQ(r->sampling.top_k, 7);
  EXPECT_EQ(r->sampling.min_p, 0.25);
  EXPECT_EQ(r->sampling.repetition_penalty, 1.5);
  EXPECT_EQ(r->sampling.presence_penalty, -2);
  EXPECT_EQ(r->sampling.frequency_penalty, 2);
  EXPECT_EQ(r->sampling.seed, -3);
  EXPECT_EQ(r->sampling.logit_bias, (std::vector<std::pair<int32_t, float>>{{5, -100}, {12, 1.5}}));
}

TEST(ChatRequestTest, IntegersMayComeAsFloats) {
  auto r = parse(R"({"max_tokens":16.0,"n":2.0})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->max_tokens, 16);
  EXPECT_EQ(r->choices, 2);
}

TEST(ChatRequestTest, IntegersBeyond64BitsAreShownAsSent) {
  EXPECT_EQ(
      message_of(parse_chat_request(R"({"model":"m","messages":[{"role":"user","content":"a"}],)"
                                    R"("max_tokens":123456789012345678901234567890})")),
      "max_tokens is 123456789012345678901234567890, expected an integer from 1 to "
      "134217728");
}

TEST(ChatRequestTest, EffortIsMappedAsDeepSeekDoes) {
  const std::pair<const char*, Effort> cases[] = {
      {"minimal", Effort::kLow}, {"low", Effort::kLow},    {"medium", Effort::kHigh},
      {"high", Effort::kHigh},   {"xhigh", Effort::kHigh}, {"max", Effort::kMax},
      {"ultra", Effort::kMax}};
  for (const auto& [name, effort] : cases) {
    auto r = parse(std::string(R"({"reasoning_effort":")") + name + "\"}");
    ASSERT_TRUE(r.has_value()) << message_of(r);
    EXPECT_EQ(r->effort, effort) << name;
    EXPECT_EQ(r->thinking, std::nullopt) << name;
  }
  auto none = parse(R"({"reasoning_effort":"none"})");
  EXPECT_EQ(none->thinking, false);
  auto both = parse(R"({"reasoning_effort":"none","thinking":{"type":"enabled"}})");
  EXPECT_EQ(both->thinking, true);
}

TEST(ChatRequestTest, MaxTokensByEitherName) {
  EXPECT_EQ(parse(R"({"max_tokens":5})")->max_tokens, 5);
  EXPECT_EQ(parse(R"({"max_completion_tokens":6})")->max_tokens, 6);
  EXPECT_EQ(parse(R"({"max_tokens":7,"max_completion_tokens":7})")->max_tokens, 7);
}

TEST(ChatRequestTest, StopIsAStringOrAList) {
  EXPECT_EQ(parse(R"({"stop":"END"})")->stops, std::vector<std::string>{"END"});
  EXPECT_EQ(parse(R"({"stop":["a","。"]})")->stops, (std::vector<std::string>{"a", "。"}));
  EXPECT_TRUE(parse(R"({"stop":[]})")->stops.empty());
}

TEST(ChatRequestTest, UserIdGoesBeforeUserAndHasALimit) {
  EXPECT_EQ(parse(R"({"user_id":"a","user":"b"})")->user_id, "a");
  EXPECT_EQ(parse(R"({"user":"b"})")->user_id, "b");
  const std::string longest(512, 'x');
  EXPECT_EQ(parse(R"({"user_id":")" + longest + "\"}")->user_id, longest);
  EXPECT_EQ(message_of(parse(R"({"user_id":")" + longest + "x\"}")),
            "user_id is a string of 513 bytes, expected a string of at most 512 bytes");
}

TEST(ChatRequestTest, PartsOfContentAreJoined) {
  auto r = parse(R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},
                     {"type":"text","text":"b"}]}]})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->messages[0].content, "ab");
}

TEST(ChatRequestTest, PrefixContinuesTheLastMessage) {
  auto r = parse(R"({"messages":[{"role":"user","content":"a"},
                     {"role":"assistant","content":"b","prefix":true}]})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_TRUE(r->continue_final_message);
}

TEST(ChatRequestTest, StreamOptionsWithAStream) {
  auto r = parse(R"({"stream":true,"stream_options":{"include_usage":true}})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_TRUE(r->stream && r->include_usage);
}

TEST(ChatRequestTest, ToolsKeepTheirOrderAndText) {
  auto r = parse(R"({"tools":[{"type":"function","function":{"name":"get","description":"Gets.",
      "strict":true,"parameters":{"type":"object","properties":{"b":{"type":"string","format":"uuid"}},
      "required":["b"],"additionalProperties":false}}}],
      "tool_choice":{"type":"function","function":{"name":"get"}},"parallel_tool_calls":false})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  ASSERT_EQ(r->tools.size(), 1U);
  EXPECT_EQ(r->tools[0].name, "get");
  EXPECT_EQ(r->tools[0].description, "Gets.");
  EXPECT_TRUE(r->tools[0].strict);
  EXPECT_EQ(r->tools[0].parameters,
            R"({"type": "object", "properties": {"b": {"type": "string", "format": "uuid"}}, )"
            R"("required": ["b"], "additionalProperties": false})");
  EXPECT_THAT(r->tools_json, HasSubstr(R"("name": "get", "description": "Gets.", "strict": true)"));
  EXPECT_EQ(r->tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_EQ(r->tool_choice.name, "get");
  EXPECT_FALSE(r->parallel_tool_calls);
}

TEST(ChatRequestTest, TooManyTools) {
  ordered_json tools = ordered_json::array();
  for (int i = 0; i < 129; ++i)
    tools.push_back({{"type", "function"}, {"function", {{"name", "f" + std::to_string(i)}}}});
  EXPECT_EQ(message_of(parse(ordered_json({{"tools", tools}}).dump())),
            "tools is a list of 129, expected a list of at most 128 entries");
}

TEST(ChatRequestTest, StrictSchemasAreCheckedInside) {
  const std::string head = R"({"tools":[{"type":"function","function":{"name":"a","strict":true,
      "parameters":{"type":"object","additionalProperties":false,"required":["x"],"properties":{"x":)";
  EXPECT_THAT(message_of(parse(head + R"({"type":"array","items":{"type":"object"}}}}}}]})")),
              HasSubstr("parameters.properties.x.items.additionalProperties is missing"));
  EXPECT_THAT(message_of(parse(head + R"({"anyOf":[{"type":"null"},{"type":"object"}]}}}}}]})")),
              HasSubstr("parameters.properties.x.anyOf[1].additionalProperties is missing"));
}

TEST(ChatRequestTest, ErrorsAreShortWhateverIsSent) {
  const std::string name(100'000, 'x');
  const auto result = parse(R"({"tools":[{"type":"function","function":{"name":"a","strict":true,
      "parameters":{"type":"object","additionalProperties":false,"required":[")" +
                            name + R"("],"properties":{")" + name + R"(":{"type":"object"}}}}}]})");
  ASSERT_FALSE(result.has_value());
  EXPECT_LT(result.error().message.size(), 2100U);
  EXPECT_LT(result.error().param.size(), 300U);
}

TEST(ChatRequestTest, JsonObjectWantsTheWordInAnySpelling) {
  auto r = parse(R"({"response_format":{"type":"json_object"},
                     "messages":[{"role":"user","content":"as JSON, please"}]})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->format.kind, ResponseFormat::Kind::kJsonObject);
}

TEST(ChatRequestTest, JsonSchemaIsKept) {
  auto r = parse(R"({"response_format":{"type":"json_schema","json_schema":
                     {"name":"s","strict":true,"schema":{"type":"object","z":1,"a":2}}}})");
  ASSERT_TRUE(r.has_value()) << message_of(r);
  EXPECT_EQ(r->format.kind, ResponseFormat::Kind::kJsonSchema);
  EXPECT_EQ(r->format.schema, R"({"type": "object", "z": 1, "a": 2})");
}

TEST(ChatRequestTest, JsonAndADemandedCallExcludeEachOther) {
  EXPECT_EQ(message_of(parse(R"({"response_format":{"type":"json_object"},"tool_choice":"required",
      "tools":[{"type":"function","function":{"name":"f"}}]})")),
            "response_format asks for JSON, but tool_choice for a call: expected one of the two");
}

TEST(ChatRequestTest, BodiesThatAreNoObject) {
  EXPECT_EQ(message_of(parse_chat_request("")),
            "the request body is empty, expected a JSON object");
  EXPECT_EQ(message_of(parse_chat_request("[1]")),
            "the request body is a list of 1, expected a JSON object");
  EXPECT_THAT(message_of(parse_chat_request("{\"model\":")), HasSubstr("not valid JSON"));
  EXPECT_THAT(message_of(parse_chat_request(R"({"model":"a","model":"b"})")),
              HasSubstr("the key stands twice"));
  EXPECT_THAT(message_of(parse_chat_request("{\"model\":\"\xff\"}")), HasSubstr("not valid JSON"));
}

}  // namespace chat_request_test
}  // namespace fathom::server::api
