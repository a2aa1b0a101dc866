// Settings from every source, and what is said of those that are wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "server/config/load_config.h"
#include "server/config/settings.h"
#include "server/config/yaml_guard.h"

namespace fathom::server {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

std::string problem(std::string_view text) {
  const auto config = parse_config(text, "f.yaml");
  return config ? "" : config.error().message;
}

TEST(Config, DefaultsAreThoseOfTheStruct) {
  const auto config = parse_config("", "f.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->listen_hosts, ElementsAre("127.0.0.1"));
  EXPECT_EQ(config->listen_port, 8080);
  EXPECT_TRUE(config->models.empty());
  EXPECT_TRUE(parse_config("# only a comment\n---\n", "f.yaml"));
}

TEST(Config, ReadsEveryTypeFromYaml) {
  const auto config = parse_config(R"(
listen:
  host: [127.0.0.1, "::1"]
  port: 9000
auth: {insecure: true, api_key_file: /etc/keys}
cors:
  origins: https://app.example
limits:
  max_body_bytes: 12MiB
  max_body_bytes_total: 1073741824
  idle_timeout_s: 2.5
log: {"level":debug, format: text}
drain_timeout_s: 5
models:
  - path: nano
    id: small
    aliases: [deepseek-chat, deepseek-reasoner]
    workers: 2
  - path: /models/v3
    kv_type: bf16
)",
                                   "f.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->listen_hosts, ElementsAre("127.0.0.1", "::1"));
  EXPECT_EQ(config->listen_port, 9000);
  EXPECT_TRUE(config->insecure);
  EXPECT_EQ(config->api_key_file, "/etc/keys");
  EXPECT_THAT(config->cors_origins, ElementsAre("https://app.example"));
  EXPECT_EQ(config->http.max_body_bytes, 12 << 20);
  EXPECT_EQ(config->http.max_body_bytes_total, 1 << 30);
  EXPECT_EQ(config->http.idle_timeout, milliseconds(2500));
  EXPECT_EQ(config->log_level, "debug");
  EXPECT_EQ(config->drain_timeout, milliseconds(5000));
  ASSERT_EQ(config->models.size(), 2u);
  EXPECT_EQ(config->models[0].workers, 2);
  EXPECT_THAT(config->models[0].aliases, ElementsAre("deepseek-chat", "deepseek-reasoner"));
  EXPECT_EQ(config->models[1].kv_type, "bf16");
}

TEST(Config, LaterSourcesWin) {
  const std::string path = testing::TempDir() + "/fathom-" + std::to_string(::getpid()) + ".yaml";
  std::ofstream(path) << "listen: {port: 1}\nlog: {level: error}\ndrain_timeout_s: 1\n";
  ConfigSources sources;
  sources.file = path;
  EXPECT_EQ(load_config(sources)->listen_port, 1);
  sources.environment = {{"FATHOM_LISTEN_PORT", "2"},   {"FATHOM_LOG_LEVEL", "warning"},
                         {"FATHOM_MODEL_WORKERS", "3"}, {"FATHOM_MODELS", "/models"},
                         {"FATHOM_BINARY", "x"},        {"HOME", "/"}};
  sources.flags = {{"--port", "3"}, {"--host", "127.0.0.1,::1"}, {"--standby", "2"}};
  sources.model = "nano";
  const auto config = load_config(sources);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->listen_port, 3);
  EXPECT_EQ(config->log_level, "warning");
  EXPECT_EQ(config->drain_timeout, milliseconds(1000));
  EXPECT_THAT(config->listen_hosts, ElementsAre("127.0.0.1", "::1"));
  ASSERT_EQ(config->models.size(), 1u);
  EXPECT_EQ(config->models[0].path, "nano");
  EXPECT_EQ(config->models[0].workers, 3);
  EXPECT_EQ(config->models[0].standby, 2);
  ::unlink(path.c_str());
  EXPECT_FALSE(load_config(sources)) << "the file is gone";
}

TEST(Config, ModelPathIsAFlagToo) {
  ConfigSources sources;
  sources.flags = {{"--model-path", "nano"}, {"--workers", "0"}};
  const auto config = load_config(sources);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->models.at(0).path, "nano");
}

TEST(Config, UnknownNamesAreErrorsWithASuggestion) {
  EXPECT_EQ(problem("limits:\n  max_conections: 5\n"),
            "f.yaml:2: \"limits.max_conections\": unknown setting; did you mean "
            "limits.max_connections?");
  EXPECT_EQ(problem("lisen: {port: 1}\n"),
            "f.yaml:1: \"lisen\": unknown setting; did you mean listen?");
  EXPECT_EQ(problem("\n\nzzzzzz: 1\n"), "f.yaml:3: \"zzzzzz\": unknown setting");
  EXPECT_THAT(problem("models:\n  - path: x\n    worker: 1\n"),
              HasSubstr("f.yaml:3: \"worker\": unknown setting; did you mean workers?"));
}

TEST(Config, WrongValuesNameWhatWasSeenAndExpected) {
  EXPECT_EQ(problem("listen:\n  port: http\n"),
            "f.yaml:2: listen.port: \"http\", expected an integer from 0 to 65535");
  EXPECT_THAT(problem("listen: {port: 65536}"), HasSubstr("\"65536\", expected"));
  EXPECT_THAT(problem("listen: {port: 1.5}"), HasSubstr("\"1.5\", expected"));
  EXPECT_THAT(problem("listen: {port: '80'}"), HasSubstr("\"80\", expected an integer"));
  EXPECT_THAT(problem("listen: {port: [80]}"), HasSubstr("a list, expected an integer"));
  EXPECT_THAT(problem("listen: {port: {a: 1}}"), HasSubstr("a map, expected an integer"));
  EXPECT_THAT(problem("listen: 80"), HasSubstr("listen: \"80\", expected a map of settings"));
  EXPECT_THAT(problem("auth: {insecure: yes}"), HasSubstr("\"yes\", expected true or false"));
  EXPECT_THAT(problem("log: {level: loud}"),
              HasSubstr("\"loud\", expected one of debug info warning error"));
  EXPECT_THAT(problem("limits: {max_body_bytes: 2GB}"),
              HasSubstr("\"2GB\", expected a number of bytes from 1KiB to 1GiB"));
  EXPECT_THAT(problem("limits: {max_body_bytes: 9999999999GiB}"), HasSubstr("expected a number"));
  EXPECT_THAT(problem("limits: {idle_timeout_s: nan}"), HasSubstr("a number of seconds from 0.1"));
  EXPECT_THAT(problem("limits: {idle_timeout_s: 1e99}"), HasSubstr("a number of seconds from 0.1"));
  EXPECT_THAT(problem("cors: {origins: [{a: b}]}"), HasSubstr("a map in it, expected a list"));
  EXPECT_THAT(problem("models: nano"), HasSubstr("models: \"nano\", expected a list of maps"));
  EXPECT_THAT(problem("models: [nano]"), HasSubstr("expected a map with path"));
  EXPECT_THAT(problem("- a\n- b\n"), HasSubstr("f.yaml:1: a list, expected settings"));
  EXPECT_THAT(problem("[a]: 1"), HasSubstr("a list as a name"));
}

TEST(Config, AllProblemsAreNamedAtOnce) {
  EXPECT_EQ(problem("listen: {port: x}\nlog:\n  format: xml\n"),
            "f.yaml:1: listen.port: \"x\", expected an integer from 0 to 65535\n"
            "f.yaml:3: log.format: \"xml\", expected one of json text");
  std::string many;
  for (int i = 0; i < 30; ++i) many += "unknown" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(problem(many), HasSubstr("and 10 more"));
}

TEST(Config, DuplicateNamesAreErrors) {
  EXPECT_EQ(problem("listen: {port: 1}\nlog: {}\nlisten: {port: 2}\n"),
            "f.yaml:3: listen: given twice, first in line 1");
}

TEST(Config, SettingsMustFitTogether) {
  EXPECT_THAT(problem("models: [{id: a}]"), HasSubstr("an entry without path"));
  EXPECT_THAT(problem("models: [{path: x, id: 'A B'}]"), HasSubstr("'A B', expected 1 to 64"));
  EXPECT_THAT(problem("models: [{path: x, id: a}, {path: y, aliases: [a]}]"),
              HasSubstr("'a' names two models"));
  EXPECT_THAT(problem("limits: {max_body_bytes: 10MiB, max_body_bytes_total: 1MiB}"),
              HasSubstr("at most limits.max_body_bytes_total"));
  EXPECT_THAT(problem("cors: {origins: [app.example]}"), HasSubstr("expected one like https://"));
}

TEST(Config, EnvironmentAndFlagsNameThemselves) {
  ConfigSources sources;
  sources.environment = {{"FATHOM_LISTEN_PORT", "x"}, {"FATHOM_LISTEN_PROT", "1"}};
  sources.flags = {{"--log-level", "loud"}, {"--workers", "1"}, {"--nonsense", "1"}};
  const auto config = load_config(sources);
  ASSERT_FALSE(config);
  const std::string& text = config.error().message;
  EXPECT_THAT(text, HasSubstr("FATHOM_LISTEN_PORT: \"x\", expected an integer"));
  EXPECT_THAT(text,
              HasSubstr("FATHOM_LISTEN_PROT: unknown setting; did you mean FATHOM_LISTEN_PORT?"));
  EXPECT_THAT(text, HasSubstr("--log-level: \"loud\", expected one of"));
  EXPECT_THAT(text, HasSubstr("--workers: speaks of the model"));
  EXPECT_THAT(text, HasSubstr("--nonsense: unknown setting"));
}

TEST(Config, NamesOfSettingsAreUnique) {
  std::set<std::string> names;
  const auto check = [&](const auto& settings) {
    for (const auto& s : settings) {
      EXPECT_TRUE(names.insert(s.flag_name()).second) << s.flag_name();
      EXPECT_TRUE(names.insert(s.env_name()).second) << s.env_name();
      EXPECT_FALSE(s.help.empty()) << s.path;
    }
  };
  check(server_settings());
  check(model_settings());
}

TEST(Config, EveryDefaultIsAllowed) {
  for (const auto& s : server_settings()) {
    ServerConfig config;
    const Status status = s.set(config, s.default_text());
    EXPECT_TRUE(status) << s.path << ": " << status.error().message;
  }
  for (const auto& s : model_settings()) {
    ModelConfig config;
    const Status status = s.set(config, s.default_text());
    EXPECT_TRUE(status) << s.path << ": " << status.error().message;
  }
}

TEST(Config, TheDocumentIsTheTables) {
  const std::string path = std::string(FATHOM_SOURCE_DIR) + "/docs/configuration.md";
  if (std::getenv("FATHOM_UPDATE_DOCS") != nullptr) std::ofstream(path) << configuration_markdown();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), configuration_markdown())
      << "run FATHOM_UPDATE_DOCS=1 server_config_test to write docs/configuration.md";
}

struct Bomb {
  const char* name;
  std::string text;
  const char* message;
};

class YamlBombs : public testing::TestWithParam<Bomb> {};

TEST_P(YamlBombs, AreRefusedBeforeTheyAreParsed) {
  const Status status = check_yaml(GetParam().text, "f.yaml");
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr(GetParam().message));
  EXPECT_THAT(problem(GetParam().text), HasSubstr(GetParam().message));
}

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

std::string stairs(int levels) {
  std::string out;
  for (int i = 0; i < levels; ++i) out += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  return out;
}

INSTANTIATE_TEST_SUITE_P(
    Config, YamlBombs,
    testing::Values(
        Bomb{"Anchor", "a: &x [1]\nb: *x\n", "f.yaml:1: anchors and aliases"},
        Bomb{"AnchorInList", "[&x 1]", "anchors"},
        Bomb{"AnchorAfterColon", "{\"a\":&x 1}", "anchors"},
        Bomb{"AnchorAfterList", "{[a]:&x b}", "anchors"}, Bomb{"Alias", "a:\n- *x\n", "f.yaml:2"},
        Bomb{"AnchorOnNextLine", "a:\n  &x b\n", "f.yaml:2: anchors"},
        Bomb{"AnchorAfterCr", "a:\r&x b", "a control character"},
        Bomb{"MergeKey", "<<: *x\n", "anchors"}, Bomb{"Tag", "a: !!binary aGk=\n", "tags"},
        Bomb{"BlockText", "a: |\n  x\n", "block texts"},
        Bomb{"Folded", "a: >\n  x\n", "block texts"},
        Bomb{"Directive", "%YAML 1.2\n---\na: 1\n", "cannot begin"},
        Bomb{"ComplexKey", "? a\n: b\n", "marked by '?'"},
        Bomb{"TwoDocuments", "a: 1\n---\nb: 2\n", "f.yaml:2: a second document"},
        Bomb{"OpenQuote", "a: \"b\n", "does not end on its line"},
        Bomb{"DeepFlow", repeat("[", 10'000), "levels deep"},
        Bomb{"DeepFlowMaps", repeat("{a: ", 100), "levels deep"},
        Bomb{"DeepStairs", stairs(100), "levels deep"},
        Bomb{"DeepItems", repeat("- ", 1000) + "x", "levels deep"},
        Bomb{"HugeScalar", "a: " + std::string(100'000, 'x'), "a value of more than"},
        Bomb{"HugeQuoted", "a: '" + std::string(100'000, 'x') + "'", "a value of more than"},
        Bomb{"ManyValues", "a: [" + repeat("1,", 50'000) + "]", "values"},
        Bomb{"HugeFile", std::string(2 << 20, '\n'), "bytes, at most"},
        Bomb{"Nul", std::string("a: \0", 4), "a control character"},
        Bomb{"NotUtf8", "a: \xff", "is not UTF-8"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(YamlGuard, OrdinaryFilesPass) {
  for (const char* text : {"a: b # & * ! | >\n", "a: it's fine\nb: \"x: & *\"\nc: '*'\n",
                           "a: x*y&z\n", "---\na: 1\n", "a:\n  - b: 1\n    c: [1, {d: 2}]\n  - e\n",
                           "url: http://x:80/a?b=c&d=*\n", "a: 1\r\nb: 2\r\n",
                           "\xEF\xBB\xBF"
                           "a: 1\n",
                           "a: \"x\\\"y\"\n"}) {
    const Status status = check_yaml(text, "f.yaml");
    EXPECT_TRUE(status) << text << status.error().message;
  }
}

TEST(Nearest, FindsSlipsOnly) {
  const std::vector<std::string> words{"listen.host", "listen.port"};
  EXPECT_EQ(nearest("listen.hots", words), "listen.host");
  EXPECT_EQ(nearest("lsten.port", words), "listen.port");
  EXPECT_EQ(nearest("something.else", words), std::nullopt);
  EXPECT_EQ(nearest(std::string(100'000, 'x'), words), std::nullopt);
}

}  // namespace
}  // namespace fathom::server
