// What the subcommands share: exit codes, loading a model by name, reading token files, progress.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/placement.h"
#include "base/result.h"
#include "chat/chat.h"
#include "io/model_files.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

// Exit codes (README.md documents them).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;    // fathom's fault, or the machine's
inline constexpr int kExitBadInput = 2;  // a flag, a file or a model that cannot be used

int exit_code(const Error& error);

// A subcommand adds itself to the program and returns what runs it once the flags are parsed.
using Action = std::function<Status()>;
using AddCommand = Action (*)(CLI::App& program, CLI::App*& command);

Action add_bench(CLI::App& program, CLI::App*& command);
Action add_chat_render(CLI::App& program, CLI::App*& command);
Action add_doctor(CLI::App& program, CLI::App*& command);
Action add_eval(CLI::App& program, CLI::App*& command);
Action add_generate(CLI::App& program, CLI::App*& command);
Action add_imatrix(CLI::App& program, CLI::App*& command);
Action add_info(CLI::App& program, CLI::App*& command);
Action add_logits(CLI::App& program, CLI::App*& command);
Action add_perplexity(CLI::App& program, CLI::App*& command);
Action add_quantize(CLI::App& program, CLI::App*& command);
Action add_run(CLI::App& program, CLI::App*& command);
#ifdef FATHOM_WITH_SERVER
Action add_config(CLI::App& program, CLI::App*& command);
Action add_serve(CLI::App& program, CLI::App*& command);
Action add_worker(CLI::App& program, CLI::App*& command);
#endif
Action add_tokenize(CLI::App& program, CLI::App*& command);
Action add_version(CLI::App& program, CLI::App*& command);

// The flags of every command that computes: --device, --tensor-parallel, --threads, --numa,
// --compute, --kv, --simulate-quantised-cache.
struct ComputeFlags {
  std::string device = "auto";
  int tensor_parallel = 1;
  int threads = 0;
  std::string numa = "off";
  std::string compute = "auto";
  std::string kv = "auto";
  bool simulate_quantised_cache = false;
  bool shapes_only = false;  // ModelOptions; no flag
  void add_to(CLI::App& command);
  // Where --numa puts the threads on this machine.
  Result<cpu::Placement> placement() const;
  Result<CpuOpsOptions> options() const;
  // The same for one of `ranks` that share the threads.
  Result<CpuOpsOptions> options_of(int rank, int ranks) const;
  ComputeType compute_type() const;
  ModelOptions model_options() const {
    return {.simulate_quantised_cache = simulate_quantised_cache,
            .tensor_parallel = tensor_parallel,
            .shapes_only = shapes_only};
  }
  // The cache's type for `model`.
  DType kv_type(const Model& model) const;
};

// A directory, a .gguf or .safetensors file, or the name of a bundled model ("nano").
Result<std::string> resolve_model(const std::string& model);

struct LoadedModel {
  ModelFiles files;
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;   // null if the model has none
  std::optional<ChatFamily> chat_family;  // none if nothing fits
};
// Opens MODEL, checks it and, on a terminal, shows progress while its pages come in from the disk.
// With --numa N its memory is taken from that node.
Result<LoadedModel> load(const std::string& model, const ComputeFlags& compute);
// The family whose prompts the model was trained on; nullopt if none is recognised.
std::optional<ChatFamily> model_chat_family(const ModelFiles& files);
// The tokenizer of MODEL alone.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& model);
// An error if the model has no tokenizer.
Result<const Tokenizer*> require_tokenizer(const LoadedModel& model);

// Whitespace-separated token ids; `source` names them in errors.
Result<std::vector<int32_t>> parse_token_ids(std::string_view text, const std::string& source);
Result<std::vector<int32_t>> read_token_file(const std::string& path);

// A progress line on standard error, if that is a terminal; else nothing.
class Progress {
 public:
  Progress(std::string label, int64_t total, std::string unit);
  ~Progress();
  void set(int64_t done, const std::string& note = "");

 private:
  std::string label_, unit_;
  int64_t total_;
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace fathom
