// The merge, and the one file with yaml-cpp in it. See load_config.h.
#include "server/config/load_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "server/config/settings.h"
#include "server/config/yaml_guard.h"

namespace fathom::server {
namespace {

constexpr std::size_t kMaxProblems = 20;

// What is wrong, from all sources.
class Problems {
 public:
  void add(std::string problem) {
    if (list_.size() < kMaxProblems)
      list_.push_back(std::move(problem));
    else
      ++more_;
  }
  bool empty() const { return list_.empty(); }
  Error error() const {
    std::string text = fmt::format("{}", fmt::join(list_, "\n"));
    if (more_ > 0) text += fmt::format("\nand {} more", more_);
    return invalid_argument(std::move(text));
  }

 private:
  std::vector<std::string> list_;
  std::size_t more_ = 0;
};

std::string kind_of(const YAML::Node& node) {
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  if (node.IsNull()) return "nothing";
  return json_preview(nlohmann::json(node.Scalar()));
}

bool is_quoted(const YAML::Node& node) { return node.Tag() == "!"; }

// Walks a parsed fathom.yaml by the table.
class YamlReader {
 public:
  YamlReader(std::string_view source, Problems& problems) : source_(source), problems_(problems) {}

  void read(const YAML::Node& root, ServerConfig& config) {
    if (root.IsNull()) return;
    if (!root.IsMap()) {
      add(root, "", fmt::format("{}, expected settings as in 'listen: …'", kind_of(root)));
      return;
    }
    read_map(root, "", server_settings(), config);
  }

 private:
  void add(const YAML::Node& node, std::string_view path, std::string_view problem) {
    const int line = node.Mark().line;
    problems_.add(fmt::format("{}:{}: {}{}{}", source_, line < 0 ? 1 : line + 1, path,
                              path.empty() ? "" : ": ", problem));
  }

  template <typename Owner>
  void read_map(const YAML::Node& map, const std::string& prefix,
                std::span<const Setting<Owner>> settings, Owner& owner) {
    std::map<std::string, int> seen;  // and at which line
    for (const auto& entry : map) {
      const YAML::Node& key = entry.first;
      if (!key.IsScalar()) {
        add(key, prefix, fmt::format("{} as a name, expected a word", kind_of(key)));
        continue;
      }
      const std::string path = prefix + key.Scalar();
      if (const auto [it, fresh] = seen.emplace(path, key.Mark().line + 1); !fresh) {
        add(key, path, fmt::format("given twice, first in line {}", it->second));
        continue;
      }
      read_entry(path, key, entry.second, settings, owner);
    }
  }

  template <typename Owner>
  void read_entry(const std::string& path, const YAML::Node& key, const YAML::Node& value,
                  std::span<const Setting<Owner>> settings, Owner& owner) {
    if constexpr (std::is_same_v<Owner, ServerConfig>) {
      if (path == "models") return read_models(value, owner);
    }
    bool is_group = false;
    for (const auto& setting : settings) {
      if (setting.path == path) return read_value(path, value, setting, owner);
      is_group = is_group || setting.path.starts_with(path + ".");
    }
    if (!is_group) return unknown(path, key, settings);
    if (value.IsNull()) return;
    if (!value.IsMap())
      return add(value, path, fmt::format("{}, expected a map of settings", kind_of(value)));
    read_map(value, path + ".", settings, owner);
  }

  template <typename Owner>
  void unknown(const std::string& path, const YAML::Node& key,
               std::span<const Setting<Owner>> settings) {
    std::vector<std::string> names;
    for (const auto& setting : settings) {
      names.emplace_back(setting.path);
      if (const auto dot = setting.path.find('.'); dot != std::string_view::npos)
        names.emplace_back(setting.path.substr(0, dot));
    }
    if (std::is_same_v<Owner, ServerConfig>) names.emplace_back("models");
    std::string problem = "unknown setting";
    if (const auto meant = nearest(path, names))
      problem += fmt::format("; did you mean {}?", *meant);
    add(key, json_preview(nlohmann::json(path)), problem);
  }

  template <typename Owner>
  void read_value(const std::string& path, const YAML::Node& value, const Setting<Owner>& setting,
                  Owner& owner) {
    if (value.IsNull()) return;  // "host:" leaves the default
    if (value.IsSequence() && setting.is_list()) {
      std::vector<std::string> items;
      for (const auto& item : value) {
        if (!item.IsScalar())
          return add(item, path,
                     fmt::format("{} in it, expected {}", kind_of(item), setting.expected()));
        items.push_back(item.Scalar());
      }
      (void)setting.set_list(owner, std::move(items));
      return;
    }
    if (!value.IsScalar())
      return add(value, path, fmt::format("{}, expected {}", kind_of(value), setting.expected()));
    Status status;
    if (setting.is_list())  // one string instead of a list of one; a comma is part of it
      status = setting.set_list(owner, {value.Scalar()});
    else
      status = setting.set(owner, value.Scalar(), is_quoted(value));
    if (!status) add(value, path, status.error().message);
  }

  void read_models(const YAML::Node& value, ServerConfig& config) {
    if (value.IsNull()) return;
    if (!value.IsSequence())
      return add(value, "models", fmt::format("{}, expected a list of maps", kind_of(value)));
    for (const auto& item : value) {
      if (!item.IsMap()) {
        add(item, "models", fmt::format("{}, expected a map with path, id, …", kind_of(item)));
        continue;
      }
      ModelConfig model;
      read_map(item, "", model_settings(), model);
      config.models.push_back(std::move(model));
    }
  }

  std::string_view source_;
  Problems& problems_;
};

void read_yaml(std::string_view text, std::string_view source, ServerConfig& config,
               Problems& problems) {
  if (const Status plain = check_yaml(text, source); !plain)
    return problems.add(plain.error().message);
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    YamlReader(source, problems).read(root, config);
  } catch (const YAML::Exception& error) {
    problems.add(fmt::format("{}:{}: {}", source, std::max(error.mark.line, 0) + 1, error.msg));
  } catch (const std::exception& error) {
    problems.add(fmt::format("{}: {}", source, error.what()));
  }
}

template <typename Owner>
const Setting<Owner>* find_named(std::span<const Setting<Owner>> settings, std::string_view name,
                                 std::string (Setting<Owner>::*name_of)() const) {
  for (const auto& setting : settings)
    if ((setting.*name_of)() == name) return &setting;
  return nullptr;
}

// Environment and flags: a name and its text.
void apply(const std::string& name, const std::string& text, bool is_flag, ServerConfig& config,
           ModelConfig* model, Problems& problems) {
  const auto server_name =
      is_flag ? &Setting<ServerConfig>::flag_name : &Setting<ServerConfig>::env_name;
  const auto model_name =
      is_flag ? &Setting<ModelConfig>::flag_name : &Setting<ModelConfig>::env_name;
  Status status;
  if (const auto* setting = find_named(server_settings(), name, server_name)) {
    status = setting->set(config, text);
  } else if (const auto* of_model = find_named(model_settings(), name, model_name)) {
    if (model == nullptr)
      status = invalid_argument(
          "speaks of the model that the command line names, and it names none; "
          "write it into the file's models");
    else
      status = of_model->set(*model, text);
  } else {
    status = invalid_argument("unknown setting");
  }
  if (!status) problems.add(fmt::format("{}: {}", name, status.error().message));
}

std::vector<std::string> environment_names() {
  std::vector<std::string> names;
  for (const auto& s : server_settings()) names.push_back(s.env_name());
  for (const auto& s : model_settings()) names.push_back(s.env_name());
  return names;
}

void apply_environment(const std::map<std::string, std::string>& environment, ServerConfig& config,
                       ModelConfig* model, Problems& problems) {
  const std::vector<std::string> names = environment_names();
  for (const auto& [name, text] : environment) {
    if (!name.starts_with("FATHOM_")) continue;
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      apply(name, text, false, config, model, problems);
      continue;
    }
    // Other parts have variables of their own; a slip of the pen is told from them by its distance.
    const auto meant = nearest(name.substr(7), [&] {
      std::vector<std::string> tails;
      for (const std::string& n : names) tails.push_back(n.substr(7));
      return tails;
    }());
    if (meant)
      problems.add(fmt::format("{}: unknown setting; did you mean FATHOM_{}?", name, *meant));
  }
}

}  // namespace

Result<ServerConfig> load_config(const ConfigSources& sources) {
  ServerConfig config;
  Problems problems;
  if (!sources.file.empty()) {
    FATHOM_TRY(const std::string text, read_file(sources.file, limits::kMaxYamlBytes));
    read_yaml(text, sources.file, config, problems);
  }
  ModelConfig* model = nullptr;
  const bool path_given = std::any_of(sources.flags.begin(), sources.flags.end(),
                                      [](const auto& f) { return f.first == "--model-path"; });
  if (!sources.model.empty() || path_given) {
    config.models.assign(1, ModelConfig());
    model = &config.models.front();
    model->path = sources.model;
  }
  apply_environment(sources.environment, config, model, problems);
  for (const auto& [name, text] : sources.flags) apply(name, text, true, config, model, problems);
  if (problems.empty())
    for (const std::string& wrong : check_together(config))
      problems.add(sources.file.empty() ? wrong : fmt::format("{}: {}", sources.file, wrong));
  if (!problems.empty()) return problems.error();
  return config;
}

Result<ServerConfig> parse_config(std::string_view text, std::string_view source) {
  ServerConfig config;
  Problems problems;
  read_yaml(text, source, config, problems);
  if (problems.empty())
    for (const std::string& wrong : check_together(config))
      problems.add(fmt::format("{}: {}", source, wrong));
  if (!problems.empty()) return problems.error();
  return config;
}

}  // namespace fathom::server
