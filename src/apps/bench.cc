// fathom bench: how fast a model runs here, and what share of what the machine can do that is.
#include <fmt/format.h>

#include <chrono>
#include <map>

#include "apps/app.h"
#include "apps/bench_machine.h"
#include "apps/bench_report.h"
#include "apps/bench_run.h"
#include "apps/compute.h"
#include "apps/synthetic_model.h"
#include "base/limits.h"

namespace fathom {
namespace bench_command {

struct Options {
  std::string model, synthetic;
  std::vector<int64_t> prefill = {512}, decode = {128}, depths = {0}, batches = {1};
  int64_t repeats = 5;
  int64_t chunk = 0;  // what suits the device
  bool json = false;
  ComputeFlags compute;
};

Result<LoadedModel> open_model(const Options& o, ThreadPool& pool) {
  if (o.synthetic.empty()) return load(o.model, o.compute);
  LoadedModel out;
  FATHOM_TRY(out.files, make_synthetic_model(o.synthetic, pool));
  FATHOM_TRY(out.model, load_model(out.files, o.compute.model_options()));
  return out;
}

// Sizes by type, the largest first.
void describe_weights(const WeightSource& weights, BenchReport& report) {
  std::map<DType, int64_t> by_type;
  weights.for_each([&](const std::string&, const StoredTensor& t) {
    const auto bytes = static_cast<int64_t>(t.data.size());
    const DTypeBlock block = dtype_block(t.dtype);
    report.parameters += bytes / block.bytes * block.elements;
    report.weight_bytes += bytes;
    by_type[t.dtype] += bytes;
  });
  std::vector<std::pair<int64_t, DType>> sizes;
  for (const auto& [type, bytes] : by_type) sizes.emplace_back(bytes, type);
  std::sort(sizes.rbegin(), sizes.rend());
  for (const auto& [bytes, type] : sizes) {
    report.types += fmt::format("{}{} {:.3f} GB", report.types.empty() ? "" : ", ",
                                dtype_name(type), static_cast<double>(bytes) * 1e-9);
  }
}

std::vector<BenchCase> cases(const Options& o) {
  std::vector<BenchCase> out;
  for (const int64_t depth : o.depths) {
    for (const int64_t tokens : o.prefill)
      if (tokens > 0)
        out.push_back({.decode = false, .tokens = tokens, .depth = depth, .batch = 1});
    for (const int64_t batch : o.batches)
      for (const int64_t tokens : o.decode)
        if (tokens > 0)
          out.push_back({.decode = true, .tokens = tokens, .depth = depth, .batch = batch});
  }
  return out;
}

Status run(const Options& o) {
  if (o.model.empty() == o.synthetic.empty())
    return invalid_argument("bench: expected either MODEL or --synthetic SHAPE:TYPE");
  const std::vector<BenchCase> tests = cases(o);
  if (tests.empty()) return invalid_argument("bench: -p and -n are both 0, nothing to measure");
  FATHOM_TRY(const CpuOpsOptions threads, o.compute.options());
  ThreadPool pool(threads.threads, threads.processors);
  const auto begin = std::chrono::steady_clock::now();
  FATHOM_TRY(const LoadedModel bench, open_model(o, pool));
  FATHOM_TRY(const auto backend, make_ops(o.compute, bench));
  Ops& ops = *backend;
  const int64_t chunk = o.chunk > 0 ? o.chunk : ops.step_rows();
  BenchReport report{
      .model = bench.files.name,
      .architecture = bench.files.model_type,
      .backend = std::string(ops.description()),
      .compute = o.compute.compute +
                 (o.compute.simulate_quantised_cache ? " (quantised cache simulated)" : ""),
      .threads = pool.num_threads(),
      .chunk = chunk};
  report.load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  FATHOM_TRY(const auto machine, BenchMachine::create(pool, ops));
  describe_weights(*bench.files.weights, report);
  if (!o.json) {
    print_bench_machine(report, *machine);
    print_bench_header();
  }
  const BenchPlan plan{.kv_type = o.compute.kv_type(*bench.model),
                       .repeats = o.repeats,
                       .chunk = chunk,
                       .between = [&] { machine->probe_again(); }};
  for (const BenchCase& test : tests) {
    FATHOM_TRY(BenchResult result, run_bench_case(*bench.model, ops, test, plan));
    if (!o.json) print_bench_result(result, *machine);
    report.results.push_back(std::move(result));
  }
  machine->probe_all();
  if (o.json) {
    fmt::print("{}\n", bench_json(report, *machine));
  } else {
    print_bench_summary(report, *machine);
  }
  return {};
}

}  // namespace bench_command

Action add_bench(CLI::App& program, CLI::App*& command) {
  using namespace bench_command;
  command =
      program.add_subcommand("bench", "Tokens a second, and the share of what this machine can do");
  auto o = std::make_shared<Options>();
  constexpr int64_t kMaxTokens = limits::kMaxContextTokens;
  command->add_option("MODEL", o->model, "Model directory, file or bundled name");
  command->add_option("--synthetic", o->synthetic,
                      "Random weights instead of MODEL: SHAPE:TYPE, with one of the shapes " +
                          synthetic_shapes() + " and a type such as q8_0, q4_k, fp8 or bf16");
  command
      ->add_option("-p,--prefill", o->prefill,
                   "Prompt tokens, several with commas (default 512; 0 = none)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{0}, kMaxTokens));
  command
      ->add_option("-n,--decode", o->decode,
                   "Tokens to decode, several with commas (default 128; 0 = none)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{0}, kMaxTokens));
  command
      ->add_option("--depth", o->depths,
                   "Tokens in the cache before, several with commas (default 0)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{0}, kMaxTokens));
  command
      ->add_option("--batch", o->batches,
                   "Sequences decoding at once, several with commas (default 1)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  command->add_option("-r,--repeats", o->repeats, "Measured runs of each (default 5)")
      ->check(CLI::Range(int64_t{1}, int64_t{10'000}));
  command->add_option("--chunk", o->chunk, "Prompt tokens a step (default 512; on a GPU 2048)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_flag("--json", o->json, "Print JSON with every sample");
  o->compute.add_to(*command);
  command->footer(
      "Example:\n  fathom bench --synthetic r1-distill-qwen-1.5b:q8_0 -p 512 -n 64 -t 2");
  return [o] { return run(*o); };
}

}  // namespace fathom
