// Calls of V3.2 and V4 from one end to the other: random texts that the grammar of a request allows
// are read as calls, and what is read is valid by the tool's schema.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "chat/output_parser.h"
#include "grammar/constraint.h"
#include "grammar/grammar_test_support.h"
#include "grammar/schema_test_support.h"
#include "server/api/constraint.h"
#include "tokenizer/test_support.h"

namespace fathom::server::api {
namespace dsml_calls_test {

using nlohmann::json;
using Kind = OutputEvent::Kind;

constexpr int kWalks = 40;  // of each schema, in each family, with each vocabulary
constexpr ChatFamily kFamilies[] = {ChatFamily::kDeepseekV32, ChatFamily::kDeepseekV4};

// Of tools that are strict; "" stands for one that is not.
const char* const kSchemas[] = {
    R"({"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14},"unit":{"enum":["C","F","C or F"]}},"required":["city","unit"],"additionalProperties":false})",
    R"({"type":"object","properties":{"a":{"type":["string","null"]},"b":{"anyOf":[{"type":"string","maxLength":4},{"type":"integer"},{"type":"array","items":{"type":"string"}}]},"c":{"type":"boolean"}},"additionalProperties":false})",
    R"({"type":"object","properties":{"id":{"type":"string","pattern":"^[A-Z<]{2}-\\d+/?$"},"on":{"type":"string","format":"date"},"note":{"type":"string","minLength":2,"maxLength":9}},"required":["id","on","note"],"additionalProperties":false})",
    R"({"type":"object","properties":{"node":{"$ref":"#/$defs/node"},"all":{"type":"array","items":{"$ref":"#/$defs/node"},"maxItems":2},"how":{"$ref":"#/$defs/how"}},"required":["node","how"],"additionalProperties":false,"$defs":{"how":{"type":"string","enum":["deep","wide\n"]},"node":{"type":"object","properties":{"v":{"type":"string"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}}})",
    R"({"type":"object","properties":{"a":{"type":"number"},"x":{}},"required":["x"],"patternProperties":{"^s_":{"type":"string"}},"additionalProperties":{"type":"boolean"}})",
    R"({"type":"object","properties":{},"additionalProperties":false})",
    "",
};

// Bytes, the tag's token as V3.2 and V4 have it, and the end; ids of nano's for the other.
constexpr int32_t kEnd = 1;
const std::shared_ptr<const TokenMasker>& tag_masker() {
  static const auto made = [] {
    TokenizerSpec spec = fathom::test::byte_spec({{"<", "/"}, {"\"", ">"}});
    const auto next = static_cast<int32_t>(spec.vocab.size());
    spec.added_tokens = {{.id = next, .content = "｜DSML｜"}, {.id = next + 1, .content = "</s>"}};
    return fathom::test::masker_of(*fathom::test::tokenizer_of(std::move(spec)));
  }();
  return made;
}

struct Vocabulary {
  std::shared_ptr<const TokenMasker> masker;
  int32_t end;
};

std::vector<Vocabulary> vocabularies() {
  return {{fathom::test::nano_masker(), kEnd},
          {tag_masker(), static_cast<int32_t>(tag_masker()->vocab_size() - 1)}};
}

// The allowed token behind which the fewest bytes are missing.
int32_t towards_the_end(Matcher& matcher, const std::vector<int32_t>& tokens, int32_t end) {
  int32_t best = tokens[0];
  uint64_t fewest = UINT64_MAX;
  for (const int32_t token : tokens) {
    if (token == end) return end;
    if (!matcher.accept(token)) continue;
    const uint64_t left = matcher.bytes_to_end();
    if (left < fewest) best = token;
    fewest = std::min(fewest, left);
    matcher.rollback(1);
  }
  return best;
}

// A text of the grammar. Where few tokens are allowed, as between the tags, one is drawn.
// Elsewhere, by turns, some are drawn and some lead towards the end, as a string would never close
// otherwise.
std::string walk(const std::shared_ptr<const Grammar>& grammar, const Vocabulary& vocabulary,
                 std::mt19937_64& random) {
  const int32_t stop[] = {vocabulary.end};
  Matcher matcher(grammar, vocabulary.masker, stop);
  std::string text;
  bool drawn = true;
  int left = 1;
  for (int step = 0; step < 6000; ++step) {
    const auto tokens = fathom::test::allowed(fathom::test::mask_of(matcher, *vocabulary.masker));
    if (tokens.empty()) break;
    if (--left == 0) {
      drawn = !drawn;
      left = static_cast<int>(1 + random() % (drawn ? 12 : 50));
    }
    const bool draw = step < 1500 && (drawn || tokens.size() <= 8);
    const int32_t token =
        draw ? tokens[random() % tokens.size()] : towards_the_end(matcher, tokens, vocabulary.end);
    if (!matcher.accept(token)) break;
    if (token == vocabulary.end) return text;
    text += vocabulary.masker->bytes(token);
  }
  ADD_FAILURE() << "does not end: " << text;
  return "";
}

struct Read {
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;  // names and arguments
};

Read read(ChatFamily family, const std::string& text) {
  OutputParser parser(family, {.parse_tools = true});
  auto events = parser.feed(text);
  for (auto& event : parser.finish()) events.push_back(std::move(event));
  Read out;
  for (const OutputEvent& event : events) {
    if (event.kind == Kind::kContent) out.content += event.text;
    if (event.kind == Kind::kToolCallBegin) out.calls.emplace_back(event.name, "");
    if (event.kind == Kind::kToolCallArguments) out.calls.back().second += event.text;
  }
  return out;
}

// A name that no schema fixes may come twice, and then there is no call.
bool has_a_name_twice(const std::string& text) {
  constexpr std::string_view kBegin = "parameter name=\"";
  std::set<std::string> seen;
  for (std::size_t at = text.find(kBegin); at != text.npos; at = text.find(kBegin, at + 1)) {
    const std::size_t name = at + kBegin.size();
    if (!seen.insert(text.substr(name, text.find('"', name) - name)).second) return true;
  }
  return false;
}

ChatRequest request_of(const char* schema) {
  ChatRequest request;
  request.tools = {
      {.name = "get_it", .description = "", .parameters = schema, .strict = *schema != 0},
      {.name = "get", .description = "", .parameters = "", .strict = false}};
  request.tool_choice = {.kind = ToolChoice::Kind::kNamed, .name = "get_it"};
  request.parallel_tool_calls = false;
  return request;
}

std::shared_ptr<const Grammar> grammar_of(const ChatRequest& request, ChatFamily family) {
  const ConstraintSpec spec = make_constraint(request, family);
  EXPECT_EQ(spec.kind, ConstraintSpec::Kind::kToolCalls);
  auto made = compile_constraint(ConstraintKind::kToolCalls, spec.text);
  FATHOM_CHECK(made.has_value()) << made.error().message;
  return std::move(made).value();
}

TEST(DsmlCallsTest, EveryTextOfTheGrammarIsReadAsAValidCall) {
  std::mt19937_64 random(3);
  int twice = 0;
  std::set<std::size_t> counts;  // of arguments
  for (const ChatFamily family : kFamilies) {
    for (const char* schema : kSchemas) {
      const auto grammar = grammar_of(request_of(schema), family);
      const fathom::test::SchemaValidator validator(*schema == 0 ? json{{"type", "object"}}
                                                                 : json::parse(schema));
      for (const Vocabulary& vocabulary : vocabularies()) {
        for (int i = 0; i < kWalks; ++i) {
          const std::string text = walk(grammar, vocabulary, random);
          ASSERT_FALSE(HasFailure()) << schema;
          if (has_a_name_twice(text)) {
            ++twice;
            continue;
          }
          const Read answer = read(family, text);
          ASSERT_TRUE(answer.content.empty() || answer.content == " ") << text;
          ASSERT_EQ(answer.calls.size(), 1U) << text;
          EXPECT_EQ(answer.calls[0].first, "get_it");
          const json arguments = json::parse(answer.calls[0].second);
          ASSERT_EQ(validator.problem(arguments), "") << text << "\n" << schema;
          counts.insert(arguments.size());
        }
      }
    }
  }
  EXPECT_LT(twice, 40);
  EXPECT_GE(counts.size(), 5U) << "too much alike";
}

TEST(DsmlCallsTest, SeveralCallsAndFreeTextBefore) {
  std::mt19937_64 random(4);
  std::set<std::size_t> counts;
  const std::map<std::string, fathom::test::SchemaValidator> validators = {
      {"get_it", fathom::test::SchemaValidator(json::parse(kSchemas[0]))},
      {"get", fathom::test::SchemaValidator(json::parse(kSchemas[1]))}};
  for (const ChatFamily family : kFamilies) {
    ChatRequest request = request_of(kSchemas[0]);
    request.tools[1].parameters = kSchemas[1];
    request.tools[1].strict = true;
    request.parallel_tool_calls = true;
    request.tool_choice = {.kind = ToolChoice::Kind::kRequired, .name = ""};
    const auto required = grammar_of(request, family);
    request.tool_choice = {.kind = ToolChoice::Kind::kAuto, .name = ""};
    const auto automatic = grammar_of(request, family);
    for (int i = 0; i < kWalks; ++i) {
      const std::string text = walk(required, vocabularies()[i % 2], random);
      const Read answer = read(family, text);
      ASSERT_TRUE(answer.content.empty() || answer.content == " ") << text;
      ASSERT_GE(answer.calls.size(), 1U) << text;
      counts.insert(answer.calls.size());
      for (const auto& [name, arguments] : answer.calls)
        ASSERT_EQ(validators.at(name).problem(json::parse(arguments)), "") << text;
      const std::string talk = "I look at <it>.\n\n" + text.substr(text.find('<'));
      Matcher matcher = fathom::test::nano_matcher(automatic);
      ASSERT_TRUE(fathom::test::feed(matcher, talk) && matcher.must_end()) << talk;
      const Read behind = read(family, talk);
      EXPECT_EQ(behind.content, "I look at <it>.");
      EXPECT_EQ(behind.calls, answer.calls);
    }
  }
  EXPECT_GE(counts.size(), 3U);
}

TEST(DsmlCallsTest, TheFormIsWhatTheParserReads) {
  const std::string call =
      "<｜DSML｜invoke name=\"get_it\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Bern"
      "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" "
      "string=\"false\">3</｜DSML｜parameter>\n"
      "<｜DSML｜parameter name=\"unit\" string=\"true\">C</｜DSML｜parameter>\n</｜DSML｜invoke>";
  for (const ChatFamily family : kFamilies) {
    const std::string tag = family == ChatFamily::kDeepseekV4 ? "tool_calls" : "function_calls";
    const std::string text = "\n\n<｜DSML｜" + tag + ">\n" + call + "\n</｜DSML｜" + tag + ">";
    EXPECT_TRUE(fathom::test::takes(grammar_of(request_of(kSchemas[0]), family), text));
    EXPECT_EQ(read(family, text).calls[0].second, R"({"city": "Bern", "days": 3, "unit": "C"})");
  }
}

}  // namespace dsml_calls_test
}  // namespace fathom::server::api
