#include "apps/bench_run.h"

#include <algorithm>
#include <chrono>

#include "apps/bench_machine.h"
#include "engine/kv_cache.h"
#include "engine/random.h"
#include "engine/step_builder.h"
#include "engine/step_runner.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

// The sequences of a case: their cache, and steps over them.
class Runner {
 public:
  static Result<std::unique_ptr<Runner>> create(const Model& model, Ops& ops, const BenchCase& test,
                                                const BenchPlan& plan) {
    const int64_t chunk = plan.chunk;
    // Whole pages for each sequence, whatever the model makes of page_tokens.
    const int64_t tokens = test.depth + test.tokens + 8 * kDefaultPageTokens;
    FATHOM_TRY(KvCache cache, KvCache::create(model.kv_layers(),
                                              {.capacity_tokens = test.batch * tokens,
                                               .type = plan.kv_type,
                                               .window_tokens = model.window_tokens(),
                                               .window_sequences = test.batch,
                                               .step_tokens = test.batch * (chunk + test.tokens),
                                               .memory = &ops.cache_memory()}));
    return std::unique_ptr<Runner>(new Runner(model, ops, test, chunk, std::move(cache)));
  }

  // Fills every sequence's cache with `depth` tokens.
  void fill(Ops& ops) {
    for (int64_t s = 0; s < test_.batch; ++s) prompt(ops, s, 0, test_.depth, nullptr);
  }

  // The measured part; appends the seconds of each step.
  void run(Ops& ops, std::vector<double>& steps) {
    if (!test_.decode) {
      prompt(ops, 0, test_.depth, test_.tokens, &steps);
      return;
    }
    for (int64_t i = 0; i < test_.tokens; ++i) {
      const auto begin = Clock::now();
      builder_.clear();
      for (int64_t s = 0; s < test_.batch; ++s) {
        const int32_t token = random_token(s, test_.depth + i);
        add(s, std::span(&token, 1), test_.depth + i, PositionClass::kGenerated);
      }
      step(ops, test_.batch);
      steps.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
  }

 private:
  Runner(const Model& model, Ops& ops, const BenchCase& test, int64_t chunk, KvCache cache)
      : model_(model),
        test_(test),
        chunk_(chunk),
        cache_(std::move(cache)),
        tables_(static_cast<std::size_t>(test.batch)),
        workspace_(ops.memory()),
        host_(ops.read_memory()) {}

  void add(int64_t sequence, std::span<const int32_t> tokens, int64_t start, PositionClass c) {
    PageTables& tables = tables_[static_cast<std::size_t>(sequence)];
    // Every repeat starts at the depth again.
    cache_.slide(std::min(start, test_.depth), tables);
    FATHOM_CHECK(cache_.cover(start + static_cast<int64_t>(tokens.size()), tables)) << start;
    builder_.add(tokens, start, c, tables);
  }

  // The same token at the same place in every repeat.
  int32_t random_token(int64_t sequence, int64_t position) const {
    const double u = uniform(static_cast<uint64_t>(sequence), static_cast<uint64_t>(position));
    return static_cast<int32_t>(u * static_cast<double>(model_.info().vocab_size));
  }

  // Prompt rows [start, start + count) of a sequence; logits of the last row, as an answer needs.
  void prompt(Ops& ops, int64_t sequence, int64_t start, int64_t count,
              std::vector<double>* steps) {
    for (int64_t done = 0; done < count;) {
      const auto begin = Clock::now();
      const int64_t rows = std::min(chunk_, count - done);
      tokens_.clear();
      for (int64_t i = 0; i < rows; ++i)
        tokens_.push_back(random_token(sequence, start + done + i));
      builder_.clear();
      add(sequence, tokens_, start + done, PositionClass::kPrompt);
      done += rows;
      step(ops, done == count && steps != nullptr ? 1 : 0);
      if (steps != nullptr)
        steps->push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
  }

  // Runs the builder's rows, with logits of the last `logits_rows`.
  void step(Ops& ops, int64_t logits_rows) {
    workspace_.reset();
    const ModelContext context{ops, workspace_};
    host_.reset();
    const TensorView hidden = runner_.forward(model_, context, builder_.step(cache_)).hidden;
    if (logits_rows == 0) {
      ops.on_host(hidden.row_range(hidden.rows - 1, 1), host_);  // a device has to be waited for
      return;
    }
    const TensorView out = workspace_.f32(logits_rows, model_.info().vocab_size);
    model_.logits(context, hidden.row_range(hidden.rows - logits_rows, logits_rows), out);
    ops.on_host(out, host_);
  }

  const Model& model_;
  BenchCase test_;
  int64_t chunk_;
  KvCache cache_;
  std::vector<PageTables> tables_;
  std::vector<int32_t> tokens_;
  StepBuilder builder_;
  StepRunner runner_;
  Workspace workspace_, host_;
};

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Result<BenchResult> run_bench_case(const Model& model, Ops& ops, const BenchCase& test,
                                   const BenchPlan& plan) {
  FATHOM_TRY(const auto runner, Runner::create(model, ops, test, plan));
  BenchResult result{.test = test};
  std::vector<double> steps;
  runner->fill(ops);
  WorkCounter counter(ops);
  runner->run(counter, steps);
  result.work = counter.work();
  result.steps = static_cast<int64_t>(steps.size());
  double wall = 0, others = 0;
  for (int64_t i = 0; i < plan.repeats; ++i) {
    plan.between();
    steps.clear();
    const CpuClock cpu = CpuClock::now();
    const auto begin = Clock::now();
    runner->run(ops, steps);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const CpuClock end = CpuClock::now();
    result.seconds.push_back(seconds);
    result.median_step_seconds.push_back(median(steps));
    wall += seconds;
    others += std::max(0.0, end.machine - cpu.machine - (end.own - cpu.own));
  }
  plan.between();
  result.other_load = wall > 0 ? others / wall : 0;
  return result;
}

}  // namespace fathom
