// fathom version
#include <fmt/format.h>

#include "apps/app.h"

namespace fathom {

Action add_version(CLI::App& program, CLI::App*& command) {
  command = program.add_subcommand("version", "Print the version");
  command->footer("Example:\n  fathom version");
  return []() -> Status {
    fmt::print("fathom {}\n", FATHOM_VERSION);
    return {};
  };
}

}  // namespace fathom
