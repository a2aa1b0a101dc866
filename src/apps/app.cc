#include "apps/app.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "apps/compute.h"
#include "backend/cpu/topology.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/thread_pool.h"
#include "io/encoded_weights.h"
#include "io/gguf_files.h"
#include "tokenizer/gguf_spec.h"

namespace fathom {
namespace {

constexpr int64_t kMaxTokenFileBytes = int64_t{1} << 30;

bool is_plain_name(const std::string& s) {
  if (s.empty() || s.size() > 64 || s[0] == '.') return false;
  return s.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
}

// Where bundled models may stand: $FATHOM_MODELS, beside the program, above it (a build tree), in
// its installation, in the current directory.
std::vector<std::string> model_roots() {
  namespace fs = std::filesystem;
  std::vector<std::string> roots;
  if (const char* env = std::getenv("FATHOM_MODELS"); env != nullptr && *env != '\0')
    roots.emplace_back(env);
  std::error_code ec;
  fs::path dir = fs::read_symlink("/proc/self/exe", ec).parent_path();
  if (!ec) {
    roots.push_back((dir.parent_path() / "share/fathom/models").string());
    for (; dir.has_relative_path(); dir = dir.parent_path())
      roots.push_back((dir / "models").string());
  }
  roots.emplace_back("models");
  return roots;
}

// Reads one byte of every page of the weights, so that somebody at a terminal sees the disk at work
// instead of a first answer that does not come.
void page_in(const WeightSource& weights) {
  if (::isatty(STDERR_FILENO) == 0) return;
  int64_t total = 0;
  weights.for_each([&](const std::string&, const StoredTensor& t) {
    total += static_cast<int64_t>(t.data.size());
  });
  const int64_t memory = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  if (total > memory / 10 * 8) return;  // it would only push its own pages out again
  Progress progress("loading", total, "B");
  int64_t done = 0;
  volatile uint8_t sink = 0;
  weights.for_each([&](const std::string&, const StoredTensor& t) {
    for (std::size_t i = 0; i < t.data.size(); i += 4096) {
      sink = std::to_integer<uint8_t>(t.data[i]);
      if ((i & 0xFFFFF) == 0) progress.set(done + static_cast<int64_t>(i));
    }
    done += static_cast<int64_t>(t.data.size());
  });
  (void)sink;
}

Result<std::unique_ptr<Tokenizer>> gguf_tokenizer(const GgufVocab& vocab) {
  if (vocab.model.empty()) {
    return not_found(vocab.source +
                     ": it has no tokenizer (tokenizer.ggml.model); text needs one, token ids do "
                     "not");
  }
  FATHOM_TRY(TokenizerSpec spec, tokenizer_spec_from_gguf(vocab));
  return Tokenizer::from_spec(std::move(spec));
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const ModelFiles& files, int64_t vocab_size) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (files.gguf != nullptr) {
    if (files.gguf_vocab.model.empty()) return tokenizer;
    FATHOM_TRY(tokenizer, gguf_tokenizer(files.gguf_vocab));
  } else {
    if (files.tokenizer_path.empty()) return tokenizer;
    FATHOM_TRY(tokenizer, Tokenizer::load(files.tokenizer_path));
  }
  if (vocab_size > 0 && tokenizer->vocab_size() > vocab_size) {
    return invalid_argument(
        fmt::format("{}: the largest token id is {}, expected less than {} (vocab_size in {})",
                    files.gguf != nullptr ? files.directory : files.tokenizer_path,
                    tokenizer->vocab_size() - 1, vocab_size, files.config_path));
  }
  return tokenizer;
}

}  // namespace

int exit_code(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kResourceLimit:
      return kExitBadInput;
    case ErrorCode::kUnavailable:
    case ErrorCode::kInternal:
      return kExitFailed;
  }
  return kExitFailed;
}

void ComputeFlags::add_to(CLI::App& command) {
  command.add_option("--device", device,
                     "Where to compute: auto (an NVIDIA GPU if there is one and this build can use "
                     "it), cpu, cuda, or cuda:N");
  command
      .add_option("--tensor-parallel", tensor_parallel,
                  "GPUs that share the model's weights, from --device on (default 1; on the CPU, "
                  "where it gains nothing: groups of threads)")
      ->check(CLI::Range(1, limits::kMaxRanks));
  command
      .add_option("-t,--threads", threads,
                  "Threads to compute with (default: one per physical core)")
      ->check(CLI::Range(1, limits::kMaxThreads));
  command.add_option(
      "--numa", numa,
      "Where threads run on machines of several memory nodes (others ignore it): off (default: "
      "wherever the system puts them), spread (each on a core of its own, evenly over the nodes; "
      "weights that are not in the system's cache yet come to the node that first computes with "
      "them), or a node's number (its cores, and its memory first)");
  command
      .add_option(
          "--compute,--act", compute,
          "Precision of matrix inputs: auto (int8 for quantised weights, 23 bits for FP4, f32 "
          "for others; on a GPU prompts and bf16 and FP8 weights in bf16, on Hopper prompts of FP8 "
          "weights in FP8), f32, bf16, or int8 (weights too: others than quantised ones become "
          "Q8_0)")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}));
  command
      .add_option("--kv", kv,
                  "Type of the KV cache: auto (bf16 for quantised models and on a GPU, f32 for "
                  "others), f32, f16, bf16 or q8_0")
      ->check(CLI::IsMember({"auto", "f32", "f16", "bf16", "q8_0"}));
  command.add_flag(
      "--simulate-quantised-cache", simulate_quantised_cache,
      "V3.2 and V4: round indexer and cache values as DeepSeek's own inference code does "
      "(Hadamard transform, FP8, FP4); without it, as in transformers, they are not rounded");
}

DType ComputeFlags::kv_type(const Model& model) const {
  if (kv == "f32") return DType::kF32;
  if (kv == "f16") return DType::kF16;
  if (kv == "bf16") return DType::kBF16;
  if (kv == "q8_0") return DType::kQ8_0;
  // The tensor cores of a GPU take keys and values as they stand in the cache.
  const auto choice = choose_device(device);
  const bool gpu = choice && choice->cuda && compute != "f32";
  return model.info().block_quantized || gpu ? DType::kBF16 : DType::kF32;
}

Result<cpu::Placement> ComputeFlags::placement() const {
  FATHOM_TRY(const cpu::Numa wanted, cpu::parse_numa(numa));
  // hwloc takes milliseconds to start: only who asks pays for it.
  cpu::Topology topology;
  if (wanted.mode != cpu::Numa::Mode::kOff) {
    FATHOM_TRY(topology, cpu::read_topology());
  }
  return cpu::place_threads(
      topology, {.numa = wanted, .threads = threads, .default_threads = default_thread_count()});
}

Result<CpuOpsOptions> ComputeFlags::options() const {
  FATHOM_TRY(cpu::Placement place, placement());
  CpuOpsOptions o;
  o.threads = place.threads;
  o.processors = std::move(place.processors);
  o.compute = compute_type();
  return o;
}

Result<CpuOpsOptions> ComputeFlags::options_of(int rank, int ranks) const {
  FATHOM_TRY(CpuOpsOptions o, options());
  const int all = o.threads;
  o.threads = std::max(all / ranks, 1);
  if (!o.processors.empty()) {
    std::vector<int> own;
    for (int i = 0; i < o.threads; ++i)
      own.push_back(
          o.processors[static_cast<std::size_t>(rank * o.threads + i) % o.processors.size()]);
    o.processors = std::move(own);
  }
  return o;
}

ComputeType ComputeFlags::compute_type() const {
  return compute == "bf16"   ? ComputeType::kBF16
         : compute == "f32"  ? ComputeType::kF32
         : compute == "int8" ? ComputeType::kInt8
                             : ComputeType::kAuto;
}

Result<std::string> resolve_model(const std::string& model) {
  if (directory_exists(model) || file_exists(model)) return model;
  std::string tried;
  if (is_plain_name(model)) {
    for (const std::string& root : model_roots()) {
      const std::string path = root + "/" + model;
      if (file_exists(path + "/config.json")) return path;
    }
    tried = " and no bundled model has that name";
  }
  return not_found(
      fmt::format("{}: no such file or directory{} (expected a model directory, a .gguf or "
                  ".safetensors file, or a bundled name such as nano)",
                  model, tried));
}

std::optional<ChatFamily> model_chat_family(const ModelFiles& files) {
  return detect_chat_family(files.chat_template, files.model_type, files.gguf_vocab.pre);
}

Result<LoadedModel> load(const std::string& model, const ComputeFlags& compute) {
  FATHOM_TRY(const cpu::Placement place, compute.placement());
  if (place.memory_node >= 0) {
    // Containers may forbid it. The threads run on the node all the same.
    if (const Status bound = cpu::bind_memory(place.memory_node); !bound)
      fmt::print(stderr, "fathom: note: --numa {}: {}\n", compute.numa, bound.error().message);
  }
  FATHOM_TRY(const std::string path, resolve_model(model));
  LoadedModel out;
  FATHOM_TRY(out.files, open_model_files(path));
  if (compute.compute == "int8") {
    out.files.weights =
        std::make_unique<EncodedWeights>(std::move(out.files.weights), DType::kQ8_0);
  }
  FATHOM_TRY(out.model, load_model(out.files, compute.model_options()));
  FATHOM_TRY(out.tokenizer, open_tokenizer(out.files, out.model->info().vocab_size));
  out.chat_family = model_chat_family(out.files);
  // One thread would bring all pages to its own node; the first step brings them to where they are
  // used.
  if (place.nodes < 2) page_in(*out.files.weights);
  return out;
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& model) {
  if (file_exists(model) && model.ends_with(".json")) return Tokenizer::load(model);
  if (file_exists(model + "/tokenizer.json")) return Tokenizer::load(model + "/tokenizer.json");
  FATHOM_TRY(std::string path, resolve_model(model));
  if (directory_exists(path) && !file_exists(path + "/config.json")) {
    FATHOM_TRY(const std::string gguf, find_gguf(path));
    if (!gguf.empty()) path = gguf;
  }
  if (path.ends_with(".gguf")) {
    FATHOM_TRY(const auto files, GgufFiles::open(path));
    FATHOM_TRY(const GgufVocab vocab, read_gguf_vocab(files->metadata()));
    return gguf_tokenizer(vocab);
  }
  const std::string file = path + "/tokenizer.json";
  if (!file_exists(file)) return not_found(file + ": no such file");
  return Tokenizer::load(file);
}

Result<const Tokenizer*> require_tokenizer(const LoadedModel& model) {
  if (model.tokenizer == nullptr) {
    if (model.files.gguf != nullptr) return gguf_tokenizer(model.files.gguf_vocab).error();
    return not_found(model.files.directory +
                     "/tokenizer.json: no such file; text needs a tokenizer");
  }
  return static_cast<const Tokenizer*>(model.tokenizer.get());
}

Result<std::vector<int32_t>> read_token_file(const std::string& path) {
  FATHOM_TRY(const std::string text, read_file(path, kMaxTokenFileBytes));
  return parse_token_ids(text, path);
}

Result<std::vector<int32_t>> parse_token_ids(std::string_view text, const std::string& source) {
  std::vector<int32_t> ids;
  const char* p = text.data();
  const char* const end = p + text.size();
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; };
  while (true) {
    while (p < end && is_space(*p)) ++p;
    if (p == end) return ids;
    int32_t id = 0;
    const auto [next, ec] = std::from_chars(p, end, id);
    if (ec != std::errc() || (next < end && !is_space(*next)) || id < 0) {
      const char* word_end = p;
      while (word_end < end && !is_space(*word_end) && word_end - p < 20) ++word_end;
      return invalid_argument(fmt::format("{}: '{}' at byte {}, expected a token id (0 or more)",
                                          source, std::string(p, word_end), p - text.data()));
    }
    ids.push_back(id);
    p = next;
  }
}

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (shown_) std::fprintf(stderr, "\r\033[K");
}

void Progress::set(int64_t done, const std::string& note) {
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  constexpr int kWidth = 30;
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 0;
  const int filled = std::clamp(static_cast<int>(std::lround(share * kWidth)), 0, kWidth);
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double left = share > 0.01 ? elapsed / share - elapsed : 0;
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "░";
  const std::string amount = unit_ == "B"
                                 ? fmt::format("{:.1f}/{:.1f} GB", static_cast<double>(done) * 1e-9,
                                               static_cast<double>(total_) * 1e-9)
                                 : fmt::format("{}/{} {}", done, total_, unit_);
  fmt::print(stderr, "\r\033[K{} {} {:3.0f}% {} {:.0f}s left {}", label_, bar, share * 100, amount,
             left, note);
  std::fflush(stderr);
}

}  // namespace fathom
