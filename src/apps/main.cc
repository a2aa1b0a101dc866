// fathom: the table of subcommands.
#include <array>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>

#include "apps/app.h"

namespace fathom {
namespace {

constexpr auto kCommands = std::to_array<AddCommand>({
    add_run,
#ifdef FATHOM_WITH_SERVER
    add_serve,
    add_worker,
    add_config,
#endif
    add_info,
    add_tokenize,
    add_chat_render,
    add_generate,
    add_logits,
    add_eval,
    add_perplexity,
    add_doctor,
    add_bench,
    add_quantize,
    add_imatrix,
    add_version,
});

// Output that did not reach its file (a full disk) is a failure, even where the command succeeded.
int flush_output(int code) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout) return code;
  std::fprintf(stderr, "fathom: cannot write to standard output (disk full?)\n");
  return kExitFailed;
}

int run_program(int argc, char** argv) {
  CLI::App program{"fathom runs DeepSeek models on your own machines.", "fathom"};
  program.require_subcommand(1);
  program.footer(
      "Exit codes: 0 ok, 1 failed, 2 bad input (a flag, a file, a model).\n"
      "Help on a command: fathom COMMAND --help");
  std::array<CLI::App*, kCommands.size()> commands{};
  std::array<Action, kCommands.size()> actions;
  for (std::size_t i = 0; i < kCommands.size(); ++i)
    actions[i] = kCommands[i](program, commands[i]);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Without this, a mistyped command would only be told that one is required.
    if (const auto words = program.remaining();
        program.get_subcommands().empty() && error.get_exit_code() != 0 && !words.empty()) {
      std::fprintf(stderr, "fathom: no command or flag '%s'; fathom --help lists them\n",
                   words[0].c_str());
      return kExitBadInput;
    }
    return program.exit(error) == 0 ? flush_output(kExitOk) : kExitBadInput;
  }
  for (std::size_t i = 0; i < kCommands.size(); ++i) {
    if (!commands[i]->parsed()) continue;
    const Status status = actions[i]();
    if (status) return flush_output(kExitOk);
    std::fflush(stdout);
    std::fprintf(stderr, "fathom: %s\n", status.error().message.c_str());
    return exit_code(status.error());
  }
  return kExitBadInput;
}

}  // namespace
}  // namespace fathom

int main(int argc, char** argv) {
  try {
    return fathom::run_program(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "fathom: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fathom: unexpected failure: %s\n", error.what());
  }
  return fathom::kExitFailed;
}
