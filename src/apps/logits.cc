// fathom logits: the logits of given tokens, as raw float32.
#include <fmt/format.h>

#include <bit>
#include <cstdio>

#include "apps/app.h"
#include "apps/compute.h"
#include "engine/score.h"

namespace fathom {
namespace logits_command {

static_assert(std::endian::native == std::endian::little, "the output file is little-endian");

struct Options {
  std::string model, tokens, out;
  int64_t chunk = 512;
  bool mtp = false;
  ComputeFlags compute;
};

Status run(const Options& o) {
  FATHOM_TRY(const std::vector<int32_t> tokens, read_token_file(o.tokens));
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  FATHOM_TRY(const auto backend, make_ops(o.compute, loaded));
  Ops& ops = *backend;
  const std::string temporary = o.out + ".tmp";
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (file == nullptr) return invalid_argument(temporary + ": cannot create it");
  Progress progress("logits", static_cast<int64_t>(tokens.size()), "tokens");
  const LogitsSink sink = [&](int64_t first, const TensorView& logits) -> Status {
    for (int64_t i = 0; i < logits.rows; ++i) {
      const auto n = static_cast<std::size_t>(logits.cols);
      if (std::fwrite(logits.f32(i), sizeof(float), n, file) != n)
        return Error{ErrorCode::kInternal, temporary + ": cannot write (disk full?)"};
    }
    progress.set(first + logits.rows);
    return {};
  };
  const ScoreOptions score{.chunk = o.chunk, .kv_type = o.compute.kv_type(*loaded.model)};
  Status status = o.mtp ? score_tokens_mtp(*loaded.model, ops, tokens, score, sink)
                        : score_tokens(*loaded.model, ops, tokens, score, sink);
  if (std::fclose(file) != 0 && status)
    status = internal_error(temporary + ": cannot write (disk full?)");
  if (status && std::rename(temporary.c_str(), o.out.c_str()) != 0)
    status = invalid_argument(o.out + ": cannot rename " + temporary + " to it");
  if (!status) std::remove(temporary.c_str());
  return status;
}

}  // namespace logits_command

Action add_logits(CLI::App& program, CLI::App*& command) {
  using namespace logits_command;
  command = program.add_subcommand("logits", "Write the logits of given tokens");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  command->add_option("--tokens", o->tokens, "File of whitespace-separated token ids")->required();
  command->add_option("--out", o->out, "Output: little-endian float32 [tokens, vocab]")->required();
  command->add_option("--chunk", o->chunk, "Tokens a step (default 512; 1 = token by token)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_flag("--mtp", o->mtp,
                    "The MTP module's logits instead: [tokens - 1, vocab], row i of token i + 2");
  o->compute.add_to(*command);
  command->footer(
      "Example:\n  echo 0 5 6 7 > ids.txt\n  fathom logits nano --tokens ids.txt --out logits.f32");
  return [o] { return run(*o); };
}

}  // namespace fathom
