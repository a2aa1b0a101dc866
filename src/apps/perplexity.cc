// fathom perplexity: how well a model predicts a text.
#include <fmt/format.h>

#include "apps/app.h"
#include "apps/compute.h"
#include "apps/text_windows.h"
#include "engine/score.h"

namespace fathom {
namespace perplexity_command {

struct Options {
  std::string model;
  TextWindowFlags text;
  ComputeFlags compute;
};

Status run(const Options& o) {
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  FATHOM_TRY(const auto windows, read_text_windows(loaded, o.text));
  FATHOM_TRY(const auto backend, make_ops(o.compute, loaded));
  Ops& ops = *backend;
  TextScore score;
  {
    Progress progress("perplexity", static_cast<int64_t>(windows.size()), "windows");
    int64_t done = 0;
    for (const std::vector<int32_t>& tokens : windows) {
      FATHOM_TRY_STATUS(score_tokens(*loaded.model, ops, tokens,
                                     {.kv_type = o.compute.kv_type(*loaded.model)},
                                     [&](int64_t first, const TensorView& logits) -> Status {
                                       score.add(tokens, first, logits);
                                       return {};
                                     }));
      progress.set(++done, fmt::format("ppl {:.4f}", score.perplexity()));
    }
  }
  fmt::print("perplexity {:.4f} ± {:.4f} over {} tokens (windows of {})\n", score.perplexity(),
             score.standard_error(), score.tokens(), o.text.ctx);
  return {};
}

}  // namespace perplexity_command

Action add_perplexity(CLI::App& program, CLI::App*& command) {
  using namespace perplexity_command;
  command = program.add_subcommand("perplexity", "How well a model predicts a text");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  o->text.add_to(*command);
  o->compute.add_to(*command);
  command->footer("Example:\n  fathom perplexity nano --file README.md --ctx 256");
  return [o] { return run(*o); };
}

}  // namespace fathom
