// fathom imatrix: how large the inputs of each weight matrix's columns are on a text, for `fathom
// quantize --imatrix`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/app.h"
#include "apps/imatrix_file.h"
#include "apps/imatrix_sums.h"
#include "apps/text_windows.h"
#include "engine/score.h"

namespace fathom {
namespace imatrix_command {

struct Options {
  std::string model, out;
  TextWindowFlags text;
  ComputeFlags compute;
};

// A model of a damaged file can run into infinities; an importance of them would say nothing.
Status check_finite(const std::string& model, const std::map<std::string, ImatrixEntry>& entries) {
  for (const auto& [name, e] : entries) {
    // As the file stores them.
    const auto bad = std::find_if(e.sums.begin(), e.sums.end(),
                                  [](double v) { return !std::isfinite(static_cast<float>(v)); });
    if (bad == e.sums.end()) continue;
    return invalid_argument(fmt::format(
        "{}: the inputs of '{}', column {}, add up to {}, expected a finite number: are the "
        "weights damaged?",
        model, name, (bad - e.sums.begin()) % e.cols, *bad));
  }
  return {};
}

// Matrices without any input have no place in the file; of stacks, some sets may have none.
struct Unseen {
  std::vector<std::string> matrices;
  int64_t sets = 0, all_sets = 0;  // of the stacks that saw something
};

Unseen drop_unseen(std::map<std::string, ImatrixEntry>& entries) {
  Unseen unseen;
  for (auto it = entries.begin(); it != entries.end();) {
    const auto& counts = it->second.counts;
    const auto empty = std::count(counts.begin(), counts.end(), 0);
    if (empty == static_cast<std::ptrdiff_t>(counts.size())) {
      unseen.matrices.push_back(it->first);
      it = entries.erase(it);
      continue;
    }
    if (counts.size() > 1) {
      unseen.sets += empty;
      unseen.all_sets += static_cast<int64_t>(counts.size());
    }
    ++it;
  }
  return unseen;
}

Status run_windows(const LoadedModel& loaded, const Options& o,
                   const std::vector<std::vector<int32_t>>& windows, InputSums& sums,
                   TextScore& score) {
  Progress progress("imatrix", static_cast<int64_t>(windows.size()), "windows");
  int64_t done = 0;
  for (const std::vector<int32_t>& tokens : windows) {
    FATHOM_TRY_STATUS(trace_tokens(*loaded.model, sums, tokens,
                                   {.kv_type = o.compute.kv_type(*loaded.model)},
                                   [&](int64_t first, const TensorView& logits) -> Status {
                                     score.add(tokens, first, logits);
                                     return {};
                                   }));
    progress.set(++done, fmt::format("ppl {:.4f}", score.perplexity()));
  }
  return {};
}

Status run(const Options& o) {
  if (o.compute.compute == "int8") {
    return invalid_argument(
        "--compute: 'int8' replaces the weights that are to be measured, expected auto, f32 or "
        "bf16");
  }
  if (o.compute.tensor_parallel > 1)
    return invalid_argument("--tensor-parallel: imatrix computes with one rank, expected 1");
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  FATHOM_TRY(const auto windows, read_text_windows(loaded, o.text));
  FATHOM_TRY(const GgufPlan plan, loaded.files.gguf != nullptr
                                      ? plan_from_gguf(loaded.files)
                                      : plan_from_huggingface(loaded.files));
  if (o.compute.device != "auto" && o.compute.device != "cpu")
    return invalid_argument("--device " + o.compute.device + ": imatrix computes on the CPU alone");
  FATHOM_TRY(const CpuOpsOptions ops_options, o.compute.options());
  CpuOps ops(ops_options);
  InputSums sums(ops, plan);
  TextScore score;
  FATHOM_TRY_STATUS(run_windows(loaded, o, windows, sums, score));
  std::map<std::string, ImatrixEntry> entries = sums.entries();
  FATHOM_TRY_STATUS(check_finite(o.model, entries));
  const Unseen unseen = drop_unseen(entries);
  FATHOM_TRY_STATUS(write_imatrix(o.out,
                                  {.dataset = o.text.file,
                                   .chunk_tokens = o.text.ctx,
                                   .chunks = static_cast<int64_t>(windows.size())},
                                  entries));
  fmt::print("{}: inputs of {} matrices in {} windows of {} tokens; perplexity {:.4f} ± {:.4f}\n",
             o.out, entries.size(), windows.size(), o.text.ctx, score.perplexity(),
             score.standard_error());
  if (unseen.sets > 0) {
    fmt::print(
        "no token came to {} of {} experts' matrices: all their columns will count the same; a "
        "longer text reaches more\n",
        unseen.sets, unseen.all_sets);
  }
  for (const std::string& name : unseen.matrices) fmt::print("{}: not used by the model\n", name);
  return {};
}

}  // namespace imatrix_command

Action add_imatrix(CLI::App& program, CLI::App*& command) {
  using namespace imatrix_command;
  command = program.add_subcommand("imatrix", "Measure which weights matter on a text");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  command->add_option("--out", o->out, "GGUF file to write, for quantize --imatrix")->required();
  o->text.add_to(*command);
  o->compute.add_to(*command);
  command->footer(
      "Example:\n  fathom imatrix nano --file README.md --out nano.imatrix.gguf\n"
      "  fathom quantize nano nano.gguf --type q3_k_m --imatrix nano.imatrix.gguf");
  return [o] { return run(*o); };
}

}  // namespace fathom
