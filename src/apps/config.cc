// fathom config: checks a fathom.yaml, or explains all settings.
#include <fmt/format.h>

#include "apps/app.h"
#include "server/config/load_config.h"
#include "server/config/settings.h"

namespace fathom {

Action add_config(CLI::App& program, CLI::App*& command) {
  command = program.add_subcommand("config", "Check a configuration of fathom serve");
  command->require_subcommand(1);
  auto file = std::make_shared<std::string>();
  CLI::App* check = command->add_subcommand("check", "Say what is wrong with a fathom.yaml");
  check->add_option("FILE", *file, "fathom.yaml")->required();
  CLI::App* explain =
      command->add_subcommand("explain", "All settings, as docs/configuration.md has them");
  command->footer("Example:\n  fathom config check fathom.yaml\n  fathom config explain");
  return [file, explain]() -> Status {
    if (explain->parsed()) {
      fmt::print("{}", server::configuration_markdown());
      return {};
    }
    server::ConfigSources sources;
    sources.file = *file;
    FATHOM_TRY(const server::ServerConfig config, server::load_config(sources));
    fmt::print("{}: fine, {} model{}\n", *file, config.models.size(),
               config.models.size() == 1 ? "" : "s");
    return {};
  };
}

}  // namespace fathom
