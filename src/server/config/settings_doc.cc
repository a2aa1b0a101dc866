// docs/configuration.md from the table, and the checks across settings. See settings.h.
#include <fmt/format.h>

#include <algorithm>

#include "server/config/settings.h"

namespace fathom::server {
namespace {

constexpr std::string_view kIntro = R"(# Configuration

Generated from the table in `src/server/config/settings.cc`: change it there, then run
`FATHOM_UPDATE_DOCS=1 build/release/src/server/server_config_test`.

A setting comes from, the later the stronger: its default, `fathom.yaml` (`--config FILE`), the environment, flags.
`fathom config check FILE` says what is wrong with a file without starting anything.

What is unknown, of the wrong type or out of range is an error that names file and line, what was seen and what is
expected. The file is plain YAML: no anchors, aliases, tags or block texts. Durations are seconds and may have
decimals; bytes may be written with KiB, MiB or GiB. In the environment and in flags, lists are separated by commas.

```yaml
listen:
  host: 127.0.0.1
  port: 8080
auth:
  api_key_file: /etc/fathom/keys
models:
  - path: nano
    aliases: [deepseek-chat, deepseek-reasoner]
    workers: 1
    standby: 1
log:
  format: json
```
)";

// A cell of a table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

template <typename Owner>
std::string table(std::span<const Setting<Owner>> settings) {
  std::string out =
      "| setting | flag | environment | value | default | what it does |\n"
      "|---|---|---|---|---|---|\n";
  for (const auto& s : settings) {
    const std::string fallback = s.default_text();
    out += fmt::format("| `{}` | `{}` | `{}` | {} | {} | {} |\n", s.path, s.flag_name(),
                       s.env_name(), cell(s.expected()),
                       fallback.empty() ? "–" : fmt::format("`{}`", fallback), cell(s.help));
  }
  return out;
}

bool is_model_id(std::string_view id) {
  return !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace

std::string configuration_markdown() {
  std::string out(kIntro);
  out += "\n## Server\n\n" + table(server_settings());
  out +=
      "\n## Models\n\n"
      "Each entry of `models` has these. Flags and variables speak of the model that the command "
      "line "
      "names.\n\n" +
      table(model_settings());
  return out;
}

std::vector<std::string> check_together(const ServerConfig& config) {
  std::vector<std::string> wrong;
  std::vector<std::string> names;
  for (const ModelConfig& model : config.models) {
    if (model.path.empty()) wrong.emplace_back("models: an entry without path");
    if (!model.id.empty() && !is_model_id(model.id))
      wrong.push_back(
          fmt::format("models.id: '{}', expected 1 to 64 of a-z, 0-9, '.', '_' and '-'", model.id));
    if (!model.id.empty()) names.push_back(model.id);
    names.insert(names.end(), model.aliases.begin(), model.aliases.end());
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    wrong.push_back(
        fmt::format("models: '{}' names two models, expected each id and alias once", *twice));
  if (config.listen_hosts.empty() && config.unix_socket.empty())
    wrong.emplace_back("listen.host: empty, expected an address, or a listen.unix_socket");
  if (config.http.max_body_bytes > config.http.max_body_bytes_total)
    wrong.push_back(fmt::format(
        "limits.max_body_bytes: {}, expected at most limits.max_body_bytes_total, which is {}",
        config.http.max_body_bytes, config.http.max_body_bytes_total));
  for (const std::string& origin : config.cors_origins)
    if (origin != "*" && !origin.starts_with("http://") && !origin.starts_with("https://"))
      wrong.push_back(
          fmt::format("cors.origins: '{}', expected one like https://app.example, or *", origin));
  return wrong;
}

}  // namespace fathom::server
