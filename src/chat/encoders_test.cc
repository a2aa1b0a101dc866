// The families without a published rendering in golden.json: expected prompts derived by hand from
// the published templates and model cards, which each test names; and what all families share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/limits.h"
#include "chat/chat.h"

namespace fathom {
namespace encoders_test {

using ::testing::HasSubstr;
using F = ChatFamily;

ChatMessage message(std::string role, std::string content) {
  return {.role = std::move(role), .content = std::move(content)};
}

std::string render(F family, const std::vector<ChatMessage>& messages,
                   const RenderOptions& options = {}) {
  const Result<std::string> prompt = render_chat(family, messages, options);
  return prompt.has_value() ? *prompt : "ERROR: " + prompt.error().message;
}

std::vector<ChatMessage> parse(std::string_view json) {
  auto messages = parse_messages(json, "test.json");
  EXPECT_TRUE(messages.has_value()) << messages.error().message;
  return std::move(messages).value();
}

// The conversation of llama.cpp's tests/test-chat-template.cpp, whose expected texts for
// DeepSeek-V2 and deepseek-coder-33b-instruct are the ones below, less the begin token.
const std::vector<ChatMessage> kChat = {message("system", "You are a helpful assistant"),
                                        message("user", "Hello"),
                                        message("assistant", "Hi there"),
                                        message("user", "Who are you"),
                                        message("assistant", "   I am an assistant   "),
                                        message("user", "Another question")};

// A question, two calls, their results and an answer.
constexpr std::string_view kToolChat = R"([
  {"role": "user", "content": "Weather?"},
  {"role": "assistant", "content": null, "tool_calls": [
    {"type": "function", "function": {"name": "f", "arguments": "{\"c\": 1}"}},
    {"type": "function", "function": {"name": "g", "arguments": "{}"}}]},
  {"role": "tool", "content": "18"}, {"role": "tool", "content": "22"},
  {"role": "assistant", "content": "Warm."}])";

// Source: tokenizer_config.json of deepseek-llm-7b-chat and DeepSeek-V2-Lite-Chat.
TEST(Encoders, DeepseekLlmAndV2) {
  const std::string expected =
      "<｜begin▁of▁sentence｜>You are a helpful assistant\n\nUser: Hello\n\nAssistant: Hi there"
      "<｜end▁of▁sentence｜>User: Who are you\n\nAssistant:    I am an assistant   "
      "<｜end▁of▁sentence｜>User: Another question\n\nAssistant:";
  EXPECT_EQ(render(F::kDeepseekLlm, kChat), expected);
  EXPECT_EQ(render(F::kDeepseekV2, kChat), expected);
  EXPECT_EQ(render(F::kDeepseekV2, {message("tool", "x"), message("user", "y")},
                   {.add_generation_prompt = false}),
            "<｜begin▁of▁sentence｜>User: y\n\n");
}

// Source: tokenizer_config.json of deepseek-coder-33b-instruct.
TEST(Encoders, DeepseekCoder) {
  EXPECT_EQ(render(F::kDeepseekCoder, kChat),
            "<｜begin▁of▁sentence｜>You are a helpful assistant### Instruction:\nHello\n"
            "### Response:\nHi there\n<|EOT|>\n### Instruction:\nWho are you\n### Response:\n"
            "   I am an assistant   \n<|EOT|>\n### Instruction:\nAnother question\n"
            "### Response:\n");
  EXPECT_EQ(
      render(F::kDeepseekCoder, {message("user", "Sort.")}),
      "<｜begin▁of▁sentence｜>You are an AI programming assistant, utilizing the Deepseek Coder "
      "model, developed by Deepseek Company, and you only answer questions related to computer "
      "science. For politically sensitive questions, security and privacy issues, and other "
      "non-computer science questions, you will refuse to answer\n"
      "### Instruction:\nSort.\n### Response:\n");
}

// Source: README of DeepSeek-V2.5-1210, "chat template" and "Function calling".
TEST(Encoders, DeepseekV25) {
  EXPECT_EQ(
      render(F::kDeepseekV25, kChat),
      "<｜begin▁of▁sentence｜>You are a helpful assistant<｜User｜>Hello<｜Assistant｜>Hi there"
      "<｜end▁of▁sentence｜><｜User｜>Who are you<｜Assistant｜>   I am an assistant   "
      "<｜end▁of▁sentence｜><｜User｜>Another question<｜Assistant｜>");
  const std::string tools = R"([{"type": "function", "function": {"name": "get_current_weather",
      "description": "Get the current weather in a given location", "parameters": {"type": "object",
      "properties": {"unit": {"type": "string", "enum": ["celsius"]}}, "required": []}}},
      {"type": "function", "function": {"name": "b"}}])";
  const std::string tool_text =
      "\n\n## Tools\n\n### Function\n\nYou have the following functions available:\n\n"
      "- `get_current_weather`:\n```json\n{\n    \"name\": \"get_current_weather\",\n"
      "    \"description\": \"Get the current weather in a given location\",\n"
      "    \"parameters\": {\n        \"type\": \"object\",\n        \"properties\": {\n"
      "            \"unit\": {\n                \"type\": \"string\",\n"
      "                \"enum\": [\n                    \"celsius\"\n                ]\n"
      "            }\n        },\n        \"required\": []\n    }\n}\n```\n"
      "- `b`:\n```json\n{\n    \"name\": \"b\"\n}\n```";
  EXPECT_EQ(render(F::kDeepseekV25, {message("user", "Hi")}, {.tools_json = tools}),
            "<｜begin▁of▁sentence｜>You are a helpful Assistant." + tool_text +
                "<｜User｜>Hi<｜Assistant｜>");
  EXPECT_EQ(render(F::kDeepseekV25, {message("system", "S"), message("user", "Hi")},
                   {.tools_json = tools}),
            "<｜begin▁of▁sentence｜>S" + tool_text + "<｜User｜>Hi<｜Assistant｜>");
}

// Source: chat_template of DeepSeek-V3-0324.
TEST(Encoders, DeepseekV3_0324) {
  EXPECT_EQ(
      render(F::kDeepseekV3_0324, kChat),
      "<｜begin▁of▁sentence｜>You are a helpful assistant<｜User｜>Hello<｜Assistant｜>Hi there"
      "<｜end▁of▁sentence｜><｜User｜>Who are you<｜Assistant｜>   I am an assistant   "
      "<｜end▁of▁sentence｜><｜User｜>Another question<｜Assistant｜>");
  EXPECT_EQ(
      render(F::kDeepseekV3_0324, parse(kToolChat)),
      "<｜begin▁of▁sentence｜><｜User｜>Weather?<｜Assistant｜><｜tool▁calls▁begin｜>"
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"c\": 1}\n```<｜tool▁call▁end｜>\n"
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜>"
      "<｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>18"
      "<｜tool▁output▁end｜>\n<｜tool▁output▁begin｜>22<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
      "Warm.<｜end▁of▁sentence｜><｜Assistant｜>");
}

// Each list of results has its own begin and end.
TEST(Encoders, DeepseekV3_0324TwoRoundsOfCalls) {
  const auto messages = parse(R"([{"role": "tool", "content": "1"},
      {"role": "assistant", "content": "go", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
      {"role": "tool", "content": "2"}])");
  EXPECT_EQ(
      render(F::kDeepseekV3_0324, messages),
      "<｜begin▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>1<｜tool▁output▁end｜>"
      "<｜tool▁outputs▁end｜>go<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n"
      "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
      "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>2<｜tool▁output▁end｜><"
      "｜tool▁outputs▁end｜>");
}

// Source: chat_template of DeepSeek-R1-0528 and DeepSeek-R1-0528-Qwen3-8B.
TEST(Encoders, DeepseekR1_0528) {
  const auto thought = parse(R"([{"role": "user", "content": "1+1"},
      {"role": "assistant", "content": "<think>\ntwo\n</think>\n\n2"},
      {"role": "user", "content": "2+2"}])");
  const std::string expected =
      "<｜begin▁of▁sentence｜><｜User｜>1+1<｜Assistant｜>\n\n2<｜end▁of▁sentence｜><｜User｜>2+2"
      "<｜Assistant｜>";
  EXPECT_EQ(render(F::kDeepseekR1_0528, thought), expected);
  EXPECT_EQ(render(F::kDeepseekR1_0528, thought, {.add_generation_prompt = false}), expected);
  EXPECT_EQ(render(F::kDeepseekR1_0528, thought, {.thinking = false}),
            expected + "<think>\n\n</think>\n\n");
  EXPECT_EQ(render(F::kDeepseekR1_0528, parse(kToolChat)),
            render(F::kDeepseekV3_0324, parse(kToolChat)));
}

// Source: chat_template of DeepSeek-R1 (February 2025).
TEST(Encoders, DeepseekR1) {
  EXPECT_EQ(
      render(F::kDeepseekR1, parse(kToolChat)),
      "<｜begin▁of▁sentence｜><｜User｜>Weather?<｜Assistant｜><｜tool▁calls▁begin｜>"
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"c\": 1}\n```<｜tool▁call▁end｜>\n"
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜>"
      "<｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>18"
      "<｜tool▁output▁end｜><｜tool▁output▁begin｜>22<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
      "Warm.<｜end▁of▁sentence｜><｜Assistant｜><think>\n");
  EXPECT_EQ(render(F::kDeepseekR1, parse(R"([{"role": "system", "content": "a"},
      {"role": "system", "content": "b"}, {"role": "user", "content": "c"},
      {"role": "assistant", "content": "x</think>\ny"}])"),
                   {.thinking = false}),
            "<｜begin▁of▁sentence｜>a\n\nb<｜User｜>c<｜Assistant｜>\ny<｜end▁of▁sentence｜>"
            "<｜Assistant｜><think>\n\n</think>\n\n");
}

// Source: README of DeepSeek-V3.1, section ToolCall; ms-swift's test of it has the same text for
// two tools, of which the second has no parameters.
TEST(Encoders, DeepseekV31DescribesTools) {
  const std::string tools = R"([{"type": "function", "function": {"name": "convert",
      "description": "Convert °C", "parameters": {"type": "object", "required": ["t"]}}},
      {"type": "function", "function": {"name": "get_current_date", "description": "Today",
      "parameters": {}}}])";
  const std::string expected =
      "\n\n## Tools\nYou have access to the following tools:\n\n"
      "### convert\nDescription: Convert °C\n\n"
      "Parameters: {\"type\": \"object\", \"required\": [\"t\"]}\n\n"
      "### get_current_date\nDescription: Today\n\nParameters: {}\n\n"
      "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments"
      "<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n\n"
      "Where:\n"
      "- `tool_call_name` must be an exact match to one of the available tools\n"
      "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters "
      "Schema\n"
      "- For multiple tool calls, chain them directly without separators or spaces";
  for (const F family : {F::kDeepseekV31, F::kDeepseekV31Terminus}) {
    EXPECT_EQ(render(family, {message("user", "Hi")}, {.tools_json = tools}),
              "<｜begin▁of▁sentence｜>" + expected + "<｜User｜>Hi<｜Assistant｜></think>");
    EXPECT_EQ(
        render(family, {message("user", "Hi"), message("system", "S")}, {.tools_json = tools}),
        "<｜begin▁of▁sentence｜>S" + expected + "<｜User｜>Hi<｜Assistant｜></think>");
    EXPECT_EQ(render(family, {message("user", "Hi")}, {.tools_json = "[]"}),
              "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>");
  }
}

// What the published rendering of V3.1 has no case of: a thought after tool results stays.
TEST(Encoders, DeepseekV31KeepsThoughtsAfterToolResults) {
  EXPECT_EQ(render(F::kDeepseekV31, parse(R"([{"role": "user", "content": "q"},
                {"role": "assistant", "content": "a</think>b"}, {"role": "tool", "content": "1"},
                {"role": "assistant", "content": "a</think>b"}])")),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜></think>b<｜end▁of▁sentence｜>"
            "<｜tool▁output▁begin｜>1<｜tool▁output▁end｜>a</think>b<｜end▁of▁sentence｜>");
}

// What the published renderings of Qwen3 have no case of.
TEST(Encoders, Qwen3KeepsThoughtsAfterTheLastQuestionOnly) {
  const RenderOptions bare{.add_generation_prompt = false};
  // Without a question nothing comes after it.
  EXPECT_EQ(render(F::kQwen3, parse(R"([{"role": "assistant", "content": "a</think>b"}])"), bare),
            "<|im_start|>assistant\nb<|im_end|>\n");
  // A tool result sent as a user message is no question.
  EXPECT_EQ(render(F::kQwen3, parse(R"([{"role": "user", "content": "q"},
                {"role": "assistant", "content": "c", "reasoning_content": "r"},
                {"role": "user", "content": "<tool_response>1</tool_response>"}])"),
                   bare),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\nr\n</think>\n\nc"
            "<|im_end|>\n<|im_start|>user\n<tool_response>1</tool_response><|im_end|>\n");
  // One that only begins or only ends like a result is a question.
  for (const std::string text : {"what is </tool_response>", "<tool_response>?"}) {
    auto messages = parse(R"([{"role": "user", "content": "q"},
        {"role": "assistant", "content": "c", "reasoning_content": "r"}])");
    messages.push_back(message("user", text));
    EXPECT_EQ(render(F::kQwen3, messages, bare),
              "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
              "<|im_start|>user\n" +
                  text + "<|im_end|>\n");
  }
}

// Source: chat_template of DeepSeek-V3.1-Terminus, which differs from V3.1's where no user spoke
// last.
TEST(Encoders, DeepseekV31Terminus) {
  const RenderOptions thinking{.thinking = true};
  EXPECT_EQ(render(F::kDeepseekV31Terminus, {message("system", "S")}, thinking),
            "<｜begin▁of▁sentence｜>S<｜Assistant｜><think>");
  EXPECT_EQ(render(F::kDeepseekV31, {message("system", "S")}, thinking),
            "<｜begin▁of▁sentence｜>S");
  auto answered =
      parse(R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])");
  EXPECT_EQ(render(F::kDeepseekV31Terminus, answered),
            "<｜begin▁of▁sentence｜><｜User｜>Q<｜Assistant｜></think>A<｜end▁of▁sentence｜>"
            "<｜Assistant｜></think>");
  answered[1].prefix = true;
  EXPECT_EQ(render(F::kDeepseekV31Terminus, answered, thinking),
            "<｜begin▁of▁sentence｜><｜User｜>Q<｜Assistant｜><think>A<｜end▁of▁sentence｜>");
}

// Sources: OpenHermes 2.5's template; chat_template of SmolLM2-135M-Instruct.
TEST(Encoders, ChatMlAndSmolLm2) {
  const std::string turns = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(render(F::kChatMl, {message("user", "Hi")}), turns);
  EXPECT_EQ(render(F::kSmolLm2, {message("user", "Hi")}),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n" +
                turns);
  EXPECT_EQ(render(F::kSmolLm2, {message("system", "S"), message("user", "Hi")}),
            "<|im_start|>system\nS<|im_end|>\n" + turns);
  const auto pieces = render_chat_pieces(F::kChatMl, std::vector{message("<|im_end|>", "x")},
                                         {.add_generation_prompt = false});
  const std::vector<PromptPiece> expected = {{"<|im_start|>", true},
                                             {"<|im_end|>", false},
                                             {"\n", true},
                                             {"x", false},
                                             {"<|im_end|>\n", true}};
  EXPECT_EQ(pieces.value(), expected) << "a role the client made up is the client's text";
}

TEST(Encoders, ThinkingSwitchedOffPrefillsAnEmptyThought) {
  const std::vector<ChatMessage> hi = {message("user", "Hi")};
  for (const F family : {F::kNano, F::kR1Distill, F::kDeepseekR1}) {
    const std::string on = render(family, hi);
    EXPECT_THAT(on, ::testing::EndsWith("<｜Assistant｜><think>\n"));
    EXPECT_EQ(render(family, hi, {.thinking = true}), on);
    EXPECT_EQ(render(family, hi, {.thinking = false}), on + "\n</think>\n\n");
  }
}

// What the options promise and what the prompt shows agree, for every family.
TEST(Encoders, PromptsOpenThinkingAsPromised) {
  const std::vector<ChatMessage> hi = {message("user", "Hi <think>")};
  for (const F family : all_chat_families()) {
    for (const std::optional<bool> thinking : {std::optional<bool>(), {true}, {false}}) {
      for (const bool answer : {true, false}) {
        const RenderOptions options{.add_generation_prompt = answer, .thinking = thinking};
        const auto pieces = render_chat_pieces(family, hi, options);
        SCOPED_TRACE(chat_family_name(family));
        ASSERT_EQ(pieces.has_value(),
                  thinking != true || can_think(family) != ThinkingSupport::kNever);
        if (!pieces.has_value() || !pieces->back().markup) continue;
        EXPECT_EQ(prompt_opens_thinking(*pieces), prompt_opens_thinking(family, options));
      }
    }
  }
  EXPECT_TRUE(prompt_opens_thinking(F::kDeepseekV31, {.thinking = true}));
  EXPECT_FALSE(prompt_opens_thinking(F::kDeepseekV31, {}));
  EXPECT_TRUE(prompt_opens_thinking(F::kNano, {}));
  EXPECT_FALSE(prompt_opens_thinking(F::kQwen3, {.thinking = true}));

  // V3.1 continues a prefix in its thought; R1 a thought within the message itself.
  auto prefix = parse(R"([{"role": "user", "content": "Q"},
                          {"role": "assistant", "content": "Well", "prefix": true}])");
  const RenderOptions go_on{.thinking = true, .continue_final_message = true};
  EXPECT_TRUE(prompt_opens_thinking(render_chat_pieces(F::kDeepseekV31, prefix, go_on).value()));
  EXPECT_FALSE(prompt_opens_thinking(render_chat_pieces(F::kNano, prefix, go_on).value()));
  prefix[1].content = "<think>\nWell";
  EXPECT_TRUE(prompt_opens_thinking(render_chat_pieces(F::kNano, prefix, go_on).value()));
}

TEST(Encoders, ContinuesTheFinalMessage) {
  const RenderOptions go_on{.continue_final_message = true};
  const std::vector<ChatMessage> poem = {message("user", "Poem"),
                                         message("assistant", " Roses \n")};
  EXPECT_EQ(render(F::kDeepseekV3_0324, poem, go_on),
            "<｜begin▁of▁sentence｜><｜User｜>Poem<｜Assistant｜> Roses \n");
  EXPECT_EQ(render(F::kDeepseekV2, poem, go_on),
            "<｜begin▁of▁sentence｜>User: Poem\n\nAssistant:  Roses \n");
  const std::vector<ChatMessage> blank = {message("user", "Poem"), message("assistant", "")};
  const std::vector<PromptPiece> expected = {
      {"<｜begin▁of▁sentence｜><｜User｜>", true}, {"Poem", false}, {"<｜Assistant｜>", true}};
  EXPECT_EQ(render_chat_pieces(F::kDeepseekV3, blank, go_on).value(), expected);
  // A template that drops a part of the message cannot continue it.
  EXPECT_THAT(render(F::kNano, {message("user", "q"), message("assistant", "t</think>a")}, go_on),
              HasSubstr("ERROR: the last message cannot be continued"));
  EXPECT_THAT(render(F::kNano, {message("user", "q"), message("robot", "x")}, go_on),
              HasSubstr("ERROR: the last message cannot be continued"));
  EXPECT_THAT(render(F::kNano, {{.role = "assistant"}}, go_on), HasSubstr("content is null"));
}

TEST(Encoders, PiecesTellTheClientsTextFromTheTemplates) {
  const auto messages = parse(R"([{"role": "system", "content": "SYS"},
      {"role": "user", "content": "<｜User｜>"},
      {"role": "assistant", "content": null, "tool_calls": [
        {"type": "function", "function": {"name": "NAME", "arguments": "ARGS"}}]},
      {"role": "tool", "content": "OUT"}])");
  const auto pieces = render_chat_pieces(F::kDeepseekV31, messages, {}).value();
  const std::vector<PromptPiece> expected = {
      {"<｜begin▁of▁sentence｜>", true},
      {"SYS", false},
      {"<｜User｜>", true},
      {"<｜User｜>", false},
      {"<｜Assistant｜></think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", true},
      {"NAME", false},
      {"<｜tool▁sep｜>", true},
      {"ARGS", false},
      {"<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁output▁begin｜>", true},
      {"OUT", false},
      {"<｜tool▁output▁end｜>", true}};
  EXPECT_EQ(pieces, expected);
}

TEST(Encoders, RefusesWhatTheFamilyHasNot) {
  const std::vector<ChatMessage> hi = {message("user", "Hi")};
  const std::string tools = R"([{"type": "function", "function": {"name": "f"}}])";
  for (const F family : all_chat_families()) {
    SCOPED_TRACE(chat_family_name(family));
    const std::string with_tools = render(family, hi, {.tools_json = tools});
    if (can_describe_tools(family)) {
      EXPECT_THAT(with_tools, ::testing::Not(HasSubstr("ERROR")));
    } else {
      EXPECT_THAT(with_tools, HasSubstr("has no published form"));
    }
    EXPECT_THAT(render(family, {}), HasSubstr("no messages"));
    EXPECT_THAT(render(family, {message("user", "\xC3")}), HasSubstr("not valid UTF-8"));
    EXPECT_THAT(render(family, hi, {.tools_json = "[1]"}), HasSubstr("tools[0] is 1, expected"));
    EXPECT_THAT(render(family, hi, {.tools_json = "{}"}), HasSubstr("expected a list"));
    EXPECT_THAT(render(family, hi, {.tools_json = "["}), HasSubstr("not valid JSON"));
  }
  EXPECT_THAT(render(F::kDeepseekV31, hi, {.tools_json = R"([{"function": {"name": 1}}])"}),
              HasSubstr("tools[0].function.name is 1, expected a string"));
  EXPECT_THAT(render(F::kDeepseekV3, hi, {.thinking = true}), HasSubstr("does not think"));
}

TEST(Encoders, AbsentAndNullAreTwoThings) {
  const auto nothing = parse(R"([{"role": "assistant"}])");
  const auto null = parse(R"([{"role": "assistant", "content": null}])");
  const auto null_calls = parse(R"([{"role": "assistant", "content": null, "tool_calls": null}])");
  const RenderOptions bare{.add_generation_prompt = false};
  EXPECT_EQ(render(F::kDeepseekV3, nothing, bare),
            "ERROR: messages[0].content is missing, expected a string in a message with role "
            "\"assistant\"");
  EXPECT_EQ(render(F::kDeepseekV3, null, bare), "<｜begin▁of▁sentence｜>");
  EXPECT_THAT(render(F::kDeepseekV3, null_calls, bare), HasSubstr("tool_calls is null"));
  // The R1 distills print the system prompt, and Python prints null as None.
  const auto system = parse(R"([{"role": "system", "content": null}])");
  EXPECT_EQ(render(F::kR1Distill, system, bare), "<｜begin▁of▁sentence｜>None");
  EXPECT_EQ(render(F::kR1Distill, parse(R"([{"role": "system"}])"), bare),
            "<｜begin▁of▁sentence｜>");
}

TEST(Encoders, ArgumentsAsAnObjectAreQwen3sAlone) {
  const auto messages = parse(R"([{"role": "user", "content": "q"},
      {"role": "assistant", "content": "", "tool_calls": [{"type": "function",
       "function": {"name": "f", "arguments": {"b": 1.0, "a": "é"}}}]}])");
  EXPECT_THAT(render(F::kQwen3, messages), HasSubstr("\"arguments\": {\"b\": 1.0, \"a\": \"é\"}}"));
  EXPECT_THAT(render(F::kDeepseekV31, messages),
              HasSubstr("messages[1].tool_calls[0].function.arguments is an object"));
  const auto untyped = parse(R"([{"role": "assistant", "content": null, "tool_calls": [
      {"function": {"name": "f", "arguments": "{}"}}]}])");
  EXPECT_THAT(render(F::kDeepseekV3, untyped), HasSubstr("tool_calls[0].type is missing"));
  EXPECT_THAT(render(F::kDeepseekV31, untyped), HasSubstr("<｜tool▁sep｜>{}"));
}

TEST(Encoders, RefusesPromptsBeyondTheLimit) {
  std::vector<ChatMessage> big = {message("user", std::string(limits::kMaxPromptBytes, 'x'))};
  const auto at_limit = render_chat(F::kChatMl, big, {});
  ASSERT_FALSE(at_limit.has_value());
  EXPECT_EQ(at_limit.error().code, ErrorCode::kResourceLimit);
  const std::vector<ChatMessage> many(limits::kMaxMessages + 1, message("user", "x"));
  EXPECT_THAT(render(F::kChatMl, many), HasSubstr("100001 messages, the limit is 100000"));
}

}  // namespace encoders_test
}  // namespace fathom
