// fathom tokenize: text to ids, or ids to text.
#include <fmt/format.h>

#include <cstdio>

#include "apps/app.h"
#include "base/file.h"
#include "base/limits.h"

namespace fathom {
namespace tokenize_command {

struct Options {
  std::string model;
  bool decode = false;
  bool no_special = false;
  bool add_special = false;
};

Result<std::string> read_stdin() {
  std::string text;
  char buffer[1 << 16];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof(buffer), stdin)) > 0;) {
    text.append(buffer, n);
    if (text.size() > static_cast<std::size_t>(limits::kMaxJsonBytes))
      return resource_limit(
          fmt::format("standard input: more than {} bytes", limits::kMaxJsonBytes));
  }
  return text;
}

Status run(const Options& o) {
  FATHOM_TRY(const auto tokenizer, load_tokenizer(o.model));
  FATHOM_TRY(const std::string text, read_stdin());
  if (o.decode) {
    FATHOM_TRY(const auto ids, parse_token_ids(text, "standard input"));
    FATHOM_TRY(const std::string decoded, tokenizer->decode(ids, o.no_special));
    std::fwrite(decoded.data(), 1, decoded.size(), stdout);
    return {};
  }
  FATHOM_TRY(const auto ids, tokenizer->encode(text, {.add_special_tokens = o.add_special,
                                                      .special_as_text = o.no_special}));
  fmt::print("{}\n", fmt::join(ids, " "));
  return {};
}

}  // namespace tokenize_command

Action add_tokenize(CLI::App& program, CLI::App*& command) {
  using namespace tokenize_command;
  command = program.add_subcommand("tokenize", "Text on standard input to token ids, or back");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model, or a tokenizer.json")->required();
  command->add_flag("--decode", o->decode, "Ids on standard input to text");
  command->add_flag("--no-special", o->no_special,
                    "Encoding: special tokens are plain text. Decoding: leave them out");
  command->add_flag(
      "--add-special", o->add_special,
      "Encoding: add what the tokenizer's post-processor adds (such as a begin token)");
  command->footer(
      "Example:\n  printf 'Hello 世界' | fathom tokenize nano\n"
      "  echo 12 13 | fathom tokenize nano --decode");
  return [o] { return run(*o); };
}

}  // namespace fathom
