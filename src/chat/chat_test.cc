// Reading messages, naming and recognising families, and Python's spelling of JSON.
#include "chat/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "chat/python_text.h"

namespace fathom {
namespace chat_test {

using ::testing::HasSubstr;
using F = ChatFamily;

std::string error_of(std::string_view json) {
  const auto messages = parse_messages(json, "m.json");
  return messages.has_value() ? "no error" : messages.error().message;
}

TEST(ParseMessages, ReadsEveryField) {
  const auto messages = parse_messages(
      R"([{"role": "user", "name": "eve", "content": [{"type": "text", "text": "a"},
                                                      {"type": "text", "text": "b"}]},
          {"role": "assistant", "reasoning_content": "r", "prefix": true, "tool_calls": [
             {"id": "i", "type": "function", "function": {"name": "f", "arguments": " {} "}},
             {"function": {"name": "g", "arguments": {"z": 1, "a": null}}}]},
          {"role": "tool", "tool_call_id": "i", "content": "", "unknown": [1]},
          {"role": "developer", "tools": [{"a": 1}], "response_format": {"b": []}, "task": "t",
           "wo_eos": true},
          {"role": "user", "tools": [], "response_format": false, "task": null, "wo_eos": 0,
           "tool_calls": [{"function": {"id": "j", "name": "h", "arguments": "x"}}]}])",
      "m.json");
  ASSERT_TRUE(messages.has_value()) << messages.error().message;
  const ChatMessage& user = (*messages)[0];
  EXPECT_EQ(user.content, "ab");
  EXPECT_EQ(user.name, "eve");
  EXPECT_FALSE(user.content_absent);
  const ChatMessage& assistant = (*messages)[1];
  EXPECT_TRUE(assistant.content_absent);
  EXPECT_EQ(assistant.reasoning_content, "r");
  EXPECT_TRUE(assistant.prefix);
  ASSERT_EQ(assistant.tool_calls->size(), 2U);
  EXPECT_EQ(assistant.tool_calls->at(0).arguments, " {} ");
  EXPECT_FALSE(assistant.tool_calls->at(0).arguments_is_object);
  EXPECT_EQ(assistant.tool_calls->at(1).type, "");
  EXPECT_EQ(assistant.tool_calls->at(1).arguments, "{\"z\": 1, \"a\": null}");
  EXPECT_TRUE(assistant.tool_calls->at(1).arguments_is_object);
  EXPECT_EQ((*messages)[2].tool_call_id, "i");
  EXPECT_EQ((*messages)[2].content, "");
  EXPECT_EQ(user.part_begins, std::vector<std::size_t>{1});
  const ChatMessage& developer = (*messages)[3];
  EXPECT_EQ(developer.tools_json, "[{\"a\": 1}]");
  EXPECT_EQ(developer.response_schema_json, "{\"b\": []}");
  EXPECT_EQ(developer.task, "t");
  EXPECT_TRUE(developer.without_end);
  const ChatMessage& plain = (*messages)[4];
  EXPECT_EQ(plain.tools_json + plain.response_schema_json, "");
  EXPECT_FALSE(plain.task.has_value() || plain.without_end);
  EXPECT_EQ(plain.tool_calls->at(0).id, "j");
}

TEST(ParseMessages, OfTheApiHaveNoFieldsBeyondOpenAis) {
  const auto list = parse_ordered_json(
      R"([{"role": "system", "tools": 5, "response_format": {"a": 1}, "task": 7, "wo_eos": 1}])",
      "x");
  const auto messages = messages_of_json(*list, "messages");
  ASSERT_TRUE(messages.has_value()) << messages.error().message;
  EXPECT_EQ((*messages)[0].tools_json + (*messages)[0].response_schema_json, "");
  EXPECT_FALSE((*messages)[0].task.has_value() || (*messages)[0].without_end);
}

TEST(ParseMessages, ErrorsNameFileFieldSeenAndExpected) {
  EXPECT_EQ(error_of("{}"), "m.json: the top is {}, expected a list of messages");
  EXPECT_EQ(error_of("[3]"), "m.json: [0] is 3, expected an object");
  EXPECT_EQ(error_of("[{}]"), "m.json: [0].role is missing, expected a string");
  EXPECT_EQ(error_of(R"([{"role": null}])"), "m.json: [0].role is null, expected a string");
  EXPECT_EQ(error_of(R"([{"role": "user", "content": 5}])"),
            "m.json: [0].content is 5, expected a string, null or a list of text parts");
  EXPECT_EQ(
      error_of(R"([{"role": "user", "content": ["x"]}])"),
      "m.json: [0].content[0] is \"x\", expected an object {\"type\": \"text\", \"text\": …}");
  EXPECT_EQ(
      error_of(R"([{"role": "user", "content": [{"type": "image_url"}]}])"),
      "m.json: [0].content[0].type is \"image_url\", expected \"text\": the model reads text");
  EXPECT_EQ(error_of(R"([{"role": "user", "content": [{"type": "text"}]}])"),
            "m.json: [0].content[0].text is missing, expected a string");
  EXPECT_EQ(error_of(R"([{"role": "a", "reasoning_content": []}])"),
            "m.json: [0].reasoning_content is [], expected a string or null");
  EXPECT_EQ(error_of(R"([{"role": "a", "prefix": "yes"}])"),
            "m.json: [0].prefix is \"yes\", expected true or false");
  EXPECT_EQ(error_of(R"([{"role": "a", "tool_calls": {}}])"),
            "m.json: [0].tool_calls is {}, expected a list or null");
  EXPECT_EQ(error_of(R"([{"role": "a", "tool_calls": [null]}])"),
            "m.json: [0].tool_calls[0] is null, expected an object");
  EXPECT_EQ(error_of(R"([{"role": "a", "tool_calls": [{"function": "f"}]}])"),
            "m.json: [0].tool_calls[0].function is \"f\", expected an object");
  EXPECT_EQ(error_of(R"([{"role": "a", "tool_calls": [{"function": {"name": "f"}}]}])"),
            "m.json: [0].tool_calls[0].function.arguments is missing, expected a string of JSON or "
            "an object");
  EXPECT_EQ(error_of(R"([{"role": "a", "tool_call_id": 1}])"),
            "m.json: [0].tool_call_id is 1, expected a string or null");
}

TEST(ParseMessages, RefusesHostileJson) {
  EXPECT_THAT(error_of(""), HasSubstr("m.json: not valid JSON"));
  EXPECT_THAT(error_of("[{\"role\": \"user\", \"content\": \"\xC3(\"}]"),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(R"([{"role": "user", "content": "\ud800"}])"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(R"([{"role": "user", "role": "system"}])"), HasSubstr("twice"));
  EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("nested deeper than 64 levels"));
  std::string many = "[";
  for (int i = 0; i < 300'000; ++i) many += "{\"role\":\"user\"},";
  many.back() = ']';
  EXPECT_EQ(error_of(many), "m.json: 300000 messages, the limit is 100000");
  std::string more = "[";
  for (int i = 0; i < limits::kMaxRequestJsonValues; ++i) more += "0,";
  more.back() = ']';
  EXPECT_THAT(error_of(more), HasSubstr("more than 2000000 values"));
  const std::string big = "\"" + std::string(limits::kMaxPromptBytes, 'x') + "\"";
  EXPECT_THAT(error_of(big), HasSubstr("bytes of JSON, the limit is"));
}

TEST(ChatFamilies, NamesGoBothWays) {
  EXPECT_EQ(all_chat_families().size(), 17U);
  for (const F family : all_chat_families())
    EXPECT_EQ(chat_family_from_name(chat_family_name(family)).value(), family);
  const auto unknown = chat_family_from_name("gpt\n");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_THAT(unknown.error().message, HasSubstr("chat family \"gpt\\n\" is unknown"));
  EXPECT_THAT(
      unknown.error().message,
      HasSubstr("deepseek_v31_terminus, deepseek_v32, deepseek_v4, deepseek_r1_distill, qwen3"));
}

TEST(ChatFamilies, AreRecognisedByThePublishedTemplates) {
  const std::string folder = FATHOM_SOURCE_DIR "/tests/golden/data/chat_templates/";
  const auto detect = [&](const std::string& file) {
    return detect_chat_family(read_file(folder + file, 1 << 20).value(), "deepseek_v3");
  };
  EXPECT_EQ(detect("deepseek_v3.jinja"), F::kDeepseekV3);
  EXPECT_EQ(detect("deepseek_v31.jinja"), F::kDeepseekV31);
  EXPECT_EQ(detect("deepseek_r1_distill.jinja"), F::kR1Distill);
  EXPECT_EQ(detect("qwen3.jinja"), F::kQwen3);
  const auto nano = read_json_file(FATHOM_SOURCE_DIR "/models/nano/tokenizer_config.json").value();
  EXPECT_EQ(detect_chat_family(nano["chat_template"].get<std::string>(), "deepseek_v3"), F::kNano);
}

// The phrases by which the other published templates differ, in their own words.
TEST(ChatFamilies, AreRecognisedByTheirPhrases) {
  const std::string calls = "{{'<｜tool▁calls▁begin｜>'}}";
  const std::string joined = "is_first_sp=true";
  const std::string answer = "{{'<｜Assistant｜>'}}";
  const auto detect = [](const std::string& text, std::string_view type = "deepseek_v3") {
    return detect_chat_family(text, type);
  };
  EXPECT_EQ(detect(calls + answer), F::kDeepseekV25);
  EXPECT_EQ(detect(joined + calls + answer), F::kDeepseekV3);
  EXPECT_EQ(detect(joined + calls + "{{'<｜User｜>' + message['content'] + '<｜Assistant｜>'}}"),
            F::kDeepseekV3_0324);
  EXPECT_EQ(
      detect(joined + calls + "split('</think>'){{'<｜User｜>' + content + '<｜Assistant｜>'}}"),
      F::kDeepseekR1_0528);
  EXPECT_EQ(detect(joined + calls + "split('</think>'){{'<｜Assistant｜><think>\\n'}}"),
            F::kDeepseekR1);
  EXPECT_EQ(detect("is_only_sys=false" + calls + "{{'<｜Assistant｜></think>'}}"),
            F::kDeepseekV31Terminus);
  EXPECT_EQ(detect(joined + calls + "{{'<｜Assistant｜><think></think>'}}"), F::kDeepseekV31);
  const std::string plain =
      "{{ 'User: ' + message['content'] + '\\n\\n' }}{{ 'Assistant: ' + message['content'] }}";
  EXPECT_EQ(detect(plain, "deepseek_v2"), F::kDeepseekV2);
  EXPECT_EQ(detect(plain, "llama"), F::kDeepseekLlm);
  EXPECT_EQ(detect("'### Instruction:\\n' '\\n<|EOT|>\\n'", "llama"), F::kDeepseekCoder);
  const std::string turn = "{{'<|im_start|>' + message['role'] + '\\n' + message['content']}}";
  EXPECT_EQ(detect(turn, "llama"), F::kChatMl);
  EXPECT_EQ(detect("messages[0] named SmolLM, trained by Hugging Face" + turn, "llama"),
            F::kSmolLm2);

  const std::string qwen3 = "enable_thinking <tool_response> last_query_index" + turn;
  EXPECT_EQ(detect(qwen3), F::kQwen3);
  EXPECT_EQ(detect("<function=" + qwen3), std::nullopt) << "Qwen3.5";
  EXPECT_EQ(detect("enable_thinking system named SmolLM, trained by Hugging Face" + turn),
            std::nullopt)
      << "SmolLM3";

  EXPECT_EQ(detect(""), std::nullopt);
  EXPECT_EQ(detect("{{ messages }}"), std::nullopt);
  EXPECT_EQ(detect("{{'system You are Qwen'}}" + turn), std::nullopt) << "another default";
  EXPECT_EQ(detect("<｜DSML｜>" + calls + answer), std::nullopt) << "neither of the two lists";
  EXPECT_EQ(detect(joined + calls + "split('</think>')" + answer), std::nullopt);
}

// V3.2 and V4 come without a template. V3.2-Exp, of the same architecture as V3.2, has one, and so
// have files whose makers wrote the encoders in Jinja.
TEST(ChatFamilies, AreRecognisedByTheirArchitecture) {
  EXPECT_EQ(detect_chat_family("", "deepseek_v32"), F::kDeepseekV32);
  EXPECT_EQ(detect_chat_family("", "deepseek_v32", "deepseek-v3"), F::kDeepseekV32);
  EXPECT_EQ(detect_chat_family("", "deepseek_v4"), F::kDeepseekV4);
  EXPECT_EQ(detect_chat_family("is_only_sys<｜tool▁calls▁begin｜>{{'<｜Assistant｜></think>'}}",
                               "deepseek_v32"),
            F::kDeepseekV31Terminus);
  EXPECT_EQ(detect_chat_family("<｜Assistant｜><｜DSML｜function_calls>", "deepseek_v32"),
            F::kDeepseekV32);
  EXPECT_EQ(detect_chat_family("'<' + dsml_token + 'tool_calls>' '｜DSML｜'", "deepseek_v4"),
            F::kDeepseekV4);
}

// GGUF files without a template, and what other pairs of architecture and tokenizer get: nothing.
TEST(ChatFamilies, AreRecognisedByTheirTokenizers) {
  EXPECT_EQ(detect_chat_family("", "llama", "deepseek-llm"), F::kDeepseekLlm);
  EXPECT_EQ(detect_chat_family("", "llama", "deepseek-coder"), F::kDeepseekCoder);
  EXPECT_EQ(detect_chat_family("", "llama", "smollm"), F::kSmolLm2);
  EXPECT_EQ(detect_chat_family("", "qwen2", "deepseek-r1-qwen"), F::kR1Distill);
  EXPECT_EQ(detect_chat_family("", "qwen3", "deepseek-r1-qwen"), F::kDeepseekR1_0528);
  EXPECT_EQ(detect_chat_family("", "qwen3", "qwen2"), F::kQwen3);
  EXPECT_EQ(detect_chat_family("", "deepseek_v2", "deepseek-llm"), F::kDeepseekV2);
  EXPECT_EQ(detect_chat_family("", "deepseek_v3", "deepseek-v3"), F::kDeepseekV3);
  EXPECT_EQ(detect_chat_family("", "qwen2", "qwen2"), std::nullopt);
  EXPECT_EQ(detect_chat_family("", "llama", "llama-bpe"), std::nullopt);
  EXPECT_EQ(detect_chat_family("", "deepseek_v3"), std::nullopt);
  EXPECT_EQ(detect_chat_family("{{ messages }}", "deepseek_v3", "deepseek-v3"), std::nullopt)
      << "a template that is there and fits none counts";
}

std::string dumps(std::string_view json, int indent = -1) {
  return chat::python_json(parse_ordered_json(json, "x").value(), indent);
}

// Expected: json.dumps(json.loads(text), ensure_ascii=False) of CPython 3.11.
TEST(PythonJson, SpellsAsPython) {
  EXPECT_EQ(dumps(R"({"z":[1,2.50],"a":{},"b":[],"c":null,"d":true})"),
            R"({"z": [1, 2.5], "a": {}, "b": [], "c": null, "d": true})");
  EXPECT_EQ(dumps(R"(["\u00e9\u4e2d\u2028\u007f", "\u0001\b\f\n\r\t\"\\\/"])"),
            "[\"é中\u2028\x7f\", \"\\u0001\\b\\f\\n\\r\\t\\\"\\\\/\"]");
  EXPECT_EQ(dumps("[1e5, 1e15, 1e16, 1.5e300, 0.0001, 0.00001, -0.0, 0.1, 1E2, 5e-324]"),
            "[100000.0, 1000000000000000.0, 1e+16, 1.5e+300, 0.0001, 1e-05, -0.0, 0.1, 100.0, "
            "5e-324]");
  EXPECT_EQ(dumps("[18446744073709551615, -9223372036854775808, 18446744073709551616, "
                  "-123456789012345678901234567890]"),
            "[18446744073709551615, -9223372036854775808, 18446744073709551616, "
            "-123456789012345678901234567890]");
  EXPECT_EQ(
      dumps(R"({"a":[1,{"b":2}],"c":[],"d":{}})", 2),
      "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": [],\n  \"d\": {}\n}");
}

TEST(PythonText, StripsUnicodeSpace) {
  EXPECT_EQ(chat::python_strip("\u3000\x1c \u00a0x\u200b y\u2003\n"), "x\u200b y");
  EXPECT_EQ(chat::python_strip(" \n\u0085"), "");
  EXPECT_EQ(chat::python_rstrip(" x \xE3\x80"), " x \xE3\x80") << "half a character is no space";
  EXPECT_EQ(chat::strip_leading_newlines("\n\n \nx"), " \nx");
  EXPECT_EQ(chat::strip_leading_newlines("\n\n"), "");
  EXPECT_EQ(chat::strip_trailing_newlines("x \n\n"), "x ");
  EXPECT_EQ(chat::strip_trailing_newlines("\n"), "");
}

}  // namespace chat_test
}  // namespace fathom
