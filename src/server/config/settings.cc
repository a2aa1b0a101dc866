// The table, and the reading of single values. See settings.h.
#include "server/config/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"

namespace fathom::server {
namespace {

using S = Setting<ServerConfig>;
using M = Setting<ModelConfig>;
using C = ServerConfig;
constexpr double kMaxBytes = 9e15;  // integers that a double holds exactly
constexpr double kMaxSeconds = 86'400;

const std::vector<S>& server_table() {
  static const std::vector<S> table{
      {"listen.host", [](C& c) -> SettingField { return &c.listen_hosts; },
       "addresses to listen on; beyond this machine only with auth.api_key_file or auth.insecure",
       0, 0, "", "--host"},
      {"listen.port", [](C& c) -> SettingField { return &c.listen_port; },
       "TCP port; 0: any free one", 0, 65535, "", "--port"},
      {"listen.unix_socket", [](C& c) -> SettingField { return &c.unix_socket; },
       "path of a unix socket to listen on as well, for this user only"},
      {"auth.api_key_file", [](C& c) -> SettingField { return &c.api_key_file; },
       "file of API keys, one a line: KEY, NAME:KEY or NAME:sha256:HEX; empty: nobody has to prove "
       "who "
       "they are",
       0, 0, "", "--api-key-file"},
      {"auth.insecure", [](C& c) -> SettingField { return &c.insecure; },
       "listen beyond this machine although no key is asked for", 0, 0, "", "--insecure"},
      {"auth.metrics_open", [](C& c) -> SettingField { return &c.metrics_open; },
       "/metrics needs no key", 0, 0, "", "--metrics-open"},
      {"auth.host_names", [](C& c) -> SettingField { return &c.host_names; },
       "names under which a server that asks for no key is reached, besides localhost and "
       "addresses"},
      {"cors.origins", [](C& c) -> SettingField { return &c.cors_origins; },
       "origins of web pages that may call the API, as in https://app.example; *: all"},
      {"limits.max_connections", [](C& c) -> SettingField { return &c.http.max_connections; },
       "open connections; at the limit an idle one is closed for a newcomer", 1, 1'000'000},
      {"limits.max_requests_per_key", [](C& c) -> SettingField { return &c.max_requests_per_key; },
       "requests for answers that one key may have running or waiting; 0: any number", 0,
       1'000'000},
      {"limits.max_requests_per_connection",
       [](C& c) -> SettingField { return &c.http.max_requests_per_connection; },
       "requests after which a connection is closed", 1, 1e9},
      {"limits.max_header_bytes", [](C& c) -> SettingField { return &c.http.max_header_bytes; },
       "request line and header fields of a request", 1024, 1 << 20},
      {"limits.max_body_bytes", [](C& c) -> SettingField { return &c.http.max_body_bytes; },
       "body of a request", 1024, 1 << 30},
      {"limits.max_body_bytes_total",
       [](C& c) -> SettingField { return &c.http.max_body_bytes_total; },
       "bodies of all requests being read or answered; more are told 503", 1024, kMaxBytes},
      {"limits.min_body_bytes_per_s",
       [](C& c) -> SettingField { return &c.http.min_body_bytes_per_s; },
       "rate that the body of a request must keep after limits.body_grace_s", 1, 1e9},
      {"limits.body_grace_s", [](C& c) -> SettingField { return &c.http.body_grace; },
       "time that every body gets", 0.1, kMaxSeconds},
      {"limits.header_timeout_s", [](C& c) -> SettingField { return &c.http.header_timeout; },
       "from the first byte of a request to the end of its header", 0.1, kMaxSeconds},
      {"limits.idle_timeout_s", [](C& c) -> SettingField { return &c.http.idle_timeout; },
       "after which a connection without a request is closed", 0.1, kMaxSeconds},
      {"limits.send_timeout_s", [](C& c) -> SettingField { return &c.http.send_timeout; },
       "for a client to make room for one piece of an answer; then it is cut off", 0.1,
       kMaxSeconds},
      {"kv_disk.directory", [](C& c) -> SettingField { return &c.kv_disk.directory; },
       "directory for pages of the KV cache, encrypted: prompts that memory no longer holds, or "
       "that "
       "were read before a restart, are not read again; empty: none",
       0, 0, "", "--kv-disk"},
      {"kv_disk.max_bytes", [](C& c) -> SettingField { return &c.kv_disk.max_bytes; },
       "what the directory may take; what was not used for longest goes first", 1 << 20, kMaxBytes,
       "", "--kv-disk-max"},
      {"kv_disk.key_file", [](C& c) -> SettingField { return &c.kv_disk.key_file; },
       "the key that locks these files, 32 bytes for the server's user alone; made if it is not "
       "there; empty: fathom/kv_disk.key in the user's state directory",
       0, 0, "", "--kv-disk-key-file"},
      {"log.format", [](C& c) -> SettingField { return &c.log_format; }, "form of the log's lines",
       0, 0, "json|text"},
      {"log.level", [](C& c) -> SettingField { return &c.log_level; }, "least level that is logged",
       0, 0, "debug|info|warning|error"},
      {"log.prompts", [](C& c) -> SettingField { return &c.log_prompts; },
       "log prompts and answers too"},
      {"drain_timeout_s", [](C& c) -> SettingField { return &c.drain_timeout; },
       "after SIGTERM, for the answers on their way to end", 0, kMaxSeconds},
  };
  return table;
}

const std::vector<M>& model_table() {
  using Model = ModelConfig;
  static const std::vector<M> table{
      {"path", [](Model& m) -> SettingField { return &m.path; },
       "model directory, .gguf file or bundled name", 0, 0, "", "--model-path"},
      {"id", [](Model& m) -> SettingField { return &m.id; },
       "the model's name in the API, of a-z, 0-9, '.', '_' and '-'; empty: from its path", 0, 0, "",
       "--model-id"},
      {"aliases", [](Model& m) -> SettingField { return &m.aliases; },
       "other names that find the model", 0, 0, "", "--model-alias"},
      {"workers", [](Model& m) -> SettingField { return &m.workers; },
       "processes that compute; 0: the server itself, which then dies with a crash", 0, 64},
      {"standby", [](Model& m) -> SettingField { return &m.standby; },
       "loaded spares that take over from a crashed worker", 0, 16},
      {"context_tokens", [](Model& m) -> SettingField { return &m.context_tokens; },
       "longest prompt and answer together; 0: what the model was made for", 0,
       static_cast<double>(limits::kMaxContextTokens), "", "--context"},
      {"cache_tokens", [](Model& m) -> SettingField { return &m.cache_tokens; },
       "tokens of all sequences that a worker's KV cache holds; 0: from the memory there is", 0,
       static_cast<double>(limits::kMaxContextTokens)},
      {"max_running", [](Model& m) -> SettingField { return &m.max_running; },
       "answers that a worker computes at a time", 1, 4096},
      {"max_waiting", [](Model& m) -> SettingField { return &m.max_waiting; },
       "requests that may wait for their turn; more are told 429", 0, 1'000'000},
      {"speculate_up_to", [](Model& m) -> SettingField { return &m.speculate_up_to; },
       "answers at a time up to which a model's MTP module drafts tokens ahead; 0: never", 0, 4096,
       "", "--speculate"},
      {"threads", [](Model& m) -> SettingField { return &m.threads; },
       "threads of a worker; 0: one per physical core", 0, limits::kMaxThreads},
      {"kv_type", [](Model& m) -> SettingField { return &m.kv_type; }, "type of the KV cache", 0, 0,
       "auto|f32|f16|bf16|q8_0", "--kv"},
      {"compute", [](Model& m) -> SettingField { return &m.compute; }, "precision of matrix inputs",
       0, 0, "auto|f32|bf16|int8"},
      {"numa", [](Model& m) -> SettingField { return &m.numa; },
       "where threads run: off, spread, or a node's number"},
      {"device", [](Model& m) -> SettingField { return &m.device; },
       "where to compute: auto (an NVIDIA GPU if there is one), cpu, cuda or cuda:N"},
      {"tensor_parallel", [](Model& m) -> SettingField { return &m.tensor_parallel; },
       "GPUs that share the model's weights, from device on; on the CPU groups of threads, which "
       "gains nothing",
       1, limits::kMaxRanks},
      {"gpu_memory_utilization", [](Model& m) -> SettingField { return &m.gpu_memory_utilization; },
       "share of a GPU's memory that a worker may take", 0.05, 1},
      {"simulate_quantised_cache",
       [](Model& m) -> SettingField { return &m.simulate_quantised_cache; },
       "V3.2 and V4: round indexer and cache values as DeepSeek's own inference code does"},
  };
  return table;
}

bool is_bytes(std::string_view path) {
  return path.ends_with("_bytes") || path.ends_with("_bytes_total");
}

std::string number_text(double value) { return fmt::format("{}", value); }

// "48 MiB" for multiples of a power of 1024, else digits.
std::string bytes_text(int64_t bytes) {
  constexpr std::pair<int, std::string_view> kUnits[] = {{30, "GiB"}, {20, "MiB"}, {10, "KiB"}};
  for (const auto& [shift, unit] : kUnits)
    if (bytes > 0 && bytes % (int64_t{1} << shift) == 0)
      return fmt::format("{}{}", bytes >> shift, unit);
  return fmt::format("{}", bytes);
}

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_bytes(std::string_view text) {
  constexpr std::pair<std::string_view, int> kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
  for (const auto& [unit, shift] : kUnits) {
    if (!text.ends_with(unit)) continue;
    text.remove_suffix(unit.size());
    while (text.ends_with(' ')) text.remove_suffix(1);
    const auto count = parse_integer(text);
    if (!count || *count < 0 || *count > (INT64_MAX >> shift)) return std::nullopt;
    return *count << shift;
  }
  return parse_integer(text);
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

bool is_choice(std::string_view choices, std::string_view text) {
  while (!choices.empty()) {
    const std::size_t end = std::min(choices.find('|'), choices.size());
    if (choices.substr(0, end) == text) return true;
    choices.remove_prefix(std::min(end + 1, choices.size()));
  }
  return false;
}

std::string replaced(std::string_view text, std::string_view from, char to) {
  std::string out(text);
  for (char& c : out)
    if (from.find(c) != std::string_view::npos) c = to;
  return out;
}

}  // namespace

std::span<const S> server_settings() { return server_table(); }
std::span<const M> model_settings() { return model_table(); }

template <typename Owner>
std::string Setting<Owner>::flag_name() const {
  if (!flag.empty()) return std::string(flag);
  return "--" + replaced(path, "._", '-');
}

template <typename Owner>
std::string Setting<Owner>::env_name() const {
  std::string name = std::is_same_v<Owner, ModelConfig> ? "FATHOM_MODEL_" : "FATHOM_";
  for (const char c : path)
    name += c == '.' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return name;
}

template <typename Owner>
bool Setting<Owner>::is_list() const {
  Owner owner;
  return std::holds_alternative<std::vector<std::string>*>(field(owner));
}

template <typename Owner>
bool Setting<Owner>::is_boolean() const {
  Owner owner;
  return std::holds_alternative<bool*>(field(owner));
}

template <typename Owner>
std::string Setting<Owner>::expected() const {
  Owner owner;
  const SettingField f = field(owner);
  if (std::holds_alternative<bool*>(f)) return "true or false";
  if (std::holds_alternative<std::vector<std::string>*>(f)) return "a list of strings";
  if (std::holds_alternative<std::chrono::milliseconds*>(f))
    return fmt::format("a number of seconds from {} to {}", number_text(min), number_text(max));
  if (std::holds_alternative<double*>(f))
    return fmt::format("a number from {} to {}", number_text(min), number_text(max));
  if (std::holds_alternative<int64_t*>(f)) {
    if (is_bytes(path))
      return fmt::format("a number of bytes from {} to {}", bytes_text(static_cast<int64_t>(min)),
                         bytes_text(static_cast<int64_t>(max)));
    return fmt::format("an integer from {} to {}", static_cast<int64_t>(min),
                       static_cast<int64_t>(max));
  }
  if (choices.empty()) return "a string";
  return "one of " + fmt::format("{}", fmt::join(replaced(choices, "|", ' '), ""));
}

template <typename Owner>
std::string Setting<Owner>::default_text() const {
  Owner owner;
  const SettingField f = field(owner);
  if (const auto* p = std::get_if<bool*>(&f)) return **p ? "true" : "false";
  if (const auto* p = std::get_if<std::string*>(&f)) return **p;
  if (const auto* p = std::get_if<std::chrono::milliseconds*>(&f))
    return number_text(static_cast<double>((**p).count()) / 1000);
  if (const auto* p = std::get_if<double*>(&f)) return number_text(**p);
  if (const auto* p = std::get_if<int64_t*>(&f))
    return is_bytes(path) ? bytes_text(**p) : fmt::format("{}", **p);
  return fmt::format("{}", fmt::join(*std::get<std::vector<std::string>*>(f), ","));
}

template <typename Owner>
Status Setting<Owner>::set(Owner& owner, std::string_view text, bool quoted) const {
  const auto wrong = [&]() -> Error {
    return invalid_argument(fmt::format(
        "{}, expected {}", json_preview(nlohmann::json(std::string(text))), expected()));
  };
  const SettingField f = field(owner);
  if (auto* p = std::get_if<std::string*>(&f)) {
    if (!choices.empty() && !is_choice(choices, text)) return wrong();
    **p = text;
    return {};
  }
  if (auto* p = std::get_if<std::vector<std::string>*>(&f)) {
    std::vector<std::string> values;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(','), text.size());
      values.emplace_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    **p = std::move(values);
    return {};
  }
  if (quoted) return wrong();
  if (auto* p = std::get_if<bool*>(&f)) {
    if (text != "true" && text != "false") return wrong();
    **p = text == "true";
    return {};
  }
  if (auto* p = std::get_if<int64_t*>(&f)) {
    const auto value = is_bytes(path) ? parse_bytes(text) : parse_integer(text);
    if (!value || static_cast<double>(*value) < min || static_cast<double>(*value) > max)
      return wrong();
    **p = *value;
    return {};
  }
  const auto number = parse_number(text);
  if (!number || *number < min || *number > max) return wrong();
  if (auto* p = std::get_if<double*>(&f)) {
    **p = *number;
    return {};
  }
  *std::get<std::chrono::milliseconds*>(f) =
      std::chrono::milliseconds(static_cast<int64_t>(std::llround(*number * 1000)));
  return {};
}

template <typename Owner>
Status Setting<Owner>::set_list(Owner& owner, std::vector<std::string> values) const {
  const SettingField f = field(owner);
  auto* const* list = std::get_if<std::vector<std::string>*>(&f);
  if (list == nullptr) return invalid_argument("a list, expected " + expected());
  **list = std::move(values);
  return {};
}

template struct Setting<ServerConfig>;
template struct Setting<ModelConfig>;

std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& candidates) {
  if (word.size() > 100) return std::nullopt;
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // Edits from word to candidate, row by row.
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t k = 0; k < row.size(); ++k) row[k] = k;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t k = 1; k < row.size(); ++k) {
        const std::size_t replaced_cost = diagonal + (word[i - 1] == candidate[k - 1] ? 0 : 1);
        diagonal = row[k];
        row[k] = std::min({row[k] + 1, row[k - 1] + 1, replaced_cost});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace fathom::server
