#include "engine/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/limits.h"
#include "engine/step_builder.h"

namespace fathom {
namespace {

Status check_tokens(const Model& model, std::span<const int32_t> tokens) {
  const ModelInfo& info = model.info();
  if (tokens.empty()) return invalid_argument("no tokens given, expected one or more");
  if (static_cast<int64_t>(tokens.size()) > limits::kMaxContextTokens) {
    return resource_limit(fmt::format("{} tokens given, expected at most {}", tokens.size(),
                                      limits::kMaxContextTokens));
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= info.vocab_size) {
      return invalid_argument(fmt::format("token {} at position {}, expected 0 to {}", tokens[i], i,
                                          info.vocab_size - 1));
    }
  }
  return {};
}

// Runs the model over `tokens` in chunks; after each, visit(context, first position, step, hidden).
template <typename Visit>
Status run_chunks(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                  const ScoreOptions& options, const Visit& visit) {
  FATHOM_TRY_STATUS(check_tokens(model, tokens));
  const auto count = static_cast<int64_t>(tokens.size());
  FATHOM_TRY(KvCache cache,
             KvCache::create(model.kv_layers(), {.capacity_tokens = count,
                                                 .page_tokens = options.page_tokens,
                                                 .type = options.kv_type,
                                                 .window_tokens = model.window_tokens(),
                                                 .step_tokens = options.chunk,
                                                 .memory = &ops.cache_memory()}));
  PageTables tables;
  Workspace workspace(ops.memory());
  const ModelContext context{ops, workspace};
  StepBuilder builder;
  const int64_t border = options.generated_from < 0 ? count : options.generated_from;
  for (int64_t first = 0; first < count;) {
    const int64_t end = first < border ? border : count;
    const int64_t rows = std::min(options.chunk, end - first);
    builder.clear();
    cache.slide(first, tables);
    FATHOM_CHECK(cache.cover(first + rows, tables)) << first << " " << rows;
    builder.add(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)),
                first, first < border ? PositionClass::kPrompt : PositionClass::kGenerated, tables);
    workspace.reset();
    const ModelOutput out = model.forward(context, builder.step(cache));
    FATHOM_TRY_STATUS(visit(context, first, cache, tables, out));
    first += rows;
  }
  return {};
}

// The logits of hidden rows, to the sink.
Status emit_logits(const Model& model, const ModelContext& context, const TensorView& hidden,
                   int64_t first, const LogitsSink& sink) {
  const TensorView logits = context.workspace.f32(hidden.rows, model.info().vocab_size);
  model.logits(context, hidden, logits);
  Workspace host;
  return sink(first, context.ops.on_host(logits, host));
}

// The MTP module on the first `rows` rows of a chunk that starts at `first`.
struct MtpChunk {
  int64_t first = 0, rows = 0;
  std::span<const int32_t> tokens;  // all
  const PageTables& tables;
  TensorView input;
};
TensorView run_mtp(const Model& model, const ModelContext& context, const KvCache& cache,
                   const MtpChunk& chunk) {
  StepBuilder builder;
  builder.add(chunk.tokens.subspan(static_cast<std::size_t>(chunk.first) + 1,
                                   static_cast<std::size_t>(chunk.rows)),
              chunk.first, PositionClass::kPrompt, chunk.tables);
  return model.mtp_forward(context, builder.step(cache), chunk.input.row_range(0, chunk.rows));
}

}  // namespace

Status score_tokens(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                    const ScoreOptions& options, const LogitsSink& sink) {
  return run_chunks(model, ops, tokens, options,
                    [&](const ModelContext& context, int64_t first, const KvCache&,
                        const PageTables&, const ModelOutput& out) -> Status {
                      return emit_logits(model, context, out.hidden, first, sink);
                    });
}

Status score_tokens_mtp(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                        const ScoreOptions& options, const LogitsSink& sink) {
  if (model.info().mtp_layers == 0) {
    return invalid_argument(
        fmt::format("{} ({}) has no MTP module", model.info().name, model.info().architecture));
  }
  const auto last = static_cast<int64_t>(tokens.size()) - 1;
  return run_chunks(model, ops, tokens, options,
                    [&](const ModelContext& context, int64_t first, const KvCache& cache,
                        const PageTables& tables, const ModelOutput& out) -> Status {
                      const int64_t rows = std::min(out.hidden.rows, last - first);
                      if (rows <= 0) return {};
                      const TensorView mtp = run_mtp(model, context, cache,
                                                     {.first = first,
                                                      .rows = rows,
                                                      .tokens = tokens,
                                                      .tables = tables,
                                                      .input = out.mtp_input});
                      return emit_logits(model, context, mtp, first, sink);
                    });
}

Status trace_tokens(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                    const ScoreOptions& options, const LogitsSink& sink) {
  const auto last = static_cast<int64_t>(tokens.size()) - 1;
  return run_chunks(model, ops, tokens, options,
                    [&](const ModelContext& context, int64_t first, const KvCache& cache,
                        const PageTables& tables, const ModelOutput& out) -> Status {
                      FATHOM_TRY_STATUS(emit_logits(model, context, out.hidden, first, sink));
                      const int64_t rows = std::min(out.hidden.rows, last - first);
                      if (model.info().mtp_layers == 0 || rows <= 0) return {};
                      run_mtp(model, context, cache,
                              {.first = first,
                               .rows = rows,
                               .tokens = tokens,
                               .tables = tables,
                               .input = out.mtp_input});
                      return {};
                    });
}

}  // namespace fathom
