// The table of settings: one row per name, from which parsing, messages, --help and
// docs/configuration.md follow.
//
// Owns names, types, ranges, defaults and texts. Does not read files or the environment
// (load_config.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "server/config/server_config.h"

namespace fathom::server {

// Where a setting's value lives, and with that its type. Milliseconds are written as seconds.
using SettingField = std::variant<std::string*, int64_t*, double*, bool*,
                                  std::chrono::milliseconds*, std::vector<std::string>*>;

template <typename Owner>
struct Setting {
  std::string_view path;  // in fathom.yaml: "listen.host"; of models: within an entry
  SettingField (*field)(Owner&);
  std::string_view help;
  double min = 0;  // numbers and durations (in seconds); bytes end in _bytes and take KiB, MiB, GiB
  double max = 0;
  std::string_view choices = "";  // strings: "json|text"; empty: any
  std::string_view flag = "";     // empty: "--" and the path, with '-' for '.' and '_'

  std::string flag_name() const;  // "--listen-host"
  std::string env_name() const;   // "FATHOM_LISTEN_HOST", for models "FATHOM_MODEL_WORKERS"
  // What a value must be, for messages: "an integer from 1 to 100".
  std::string expected() const;
  std::string default_text() const;
  // Sets the value in `owner`. `quoted`: the text was a quoted string in YAML, which is no number.
  // The error's message is "<seen>, expected <expected>".
  Status set(Owner& owner, std::string_view text, bool quoted = false) const;
  // As above for lists of strings.
  Status set_list(Owner& owner, std::vector<std::string> values) const;
  bool is_list() const;
  bool is_boolean() const;
};

extern template struct Setting<ServerConfig>;
extern template struct Setting<ModelConfig>;

std::span<const Setting<ServerConfig>> server_settings();
// Of an entry of `models`; as flags and variables they speak of the MODEL of the command line.
std::span<const Setting<ModelConfig>> model_settings();

// What is wrong between settings that are right by themselves; empty: nothing.
std::vector<std::string> check_together(const ServerConfig& config);

// docs/configuration.md as a whole.
std::string configuration_markdown();

// The candidate nearest to `word`, if it is near enough to be meant.
std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& candidates);

}  // namespace fathom::server
