// fathom info: what a model is and what it needs.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/app.h"
#include "engine/kv_cache.h"
#include "io/gguf_files.h"

namespace fathom {
namespace info_command {

struct Options {
  std::string model;
  bool json = false;
};

struct Sizes {
  int64_t tensors = 0;
  int64_t parameters = 0;  // elements of weights; scales of quantised weights not counted
  int64_t bytes = 0;
  std::map<std::string, std::pair<int64_t, int64_t>> by_dtype;  // parameters, bytes
};

Sizes measure(const WeightSource& weights) {
  Sizes s;
  std::set<std::string, std::less<>> scales;
  weights.for_each([&](const std::string& name, const StoredTensor& t) {
    if (t.dtype == DType::kF8E4M3 || t.dtype == DType::kI8) scales.insert(weights.scale_name(name));
  });
  weights.for_each([&](const std::string& name, const StoredTensor& t) {
    const auto bytes = static_cast<int64_t>(t.data.size());
    const DTypeBlock block = dtype_block(t.dtype);
    // DeepSeek's FP4 stands in the file as I8.
    const bool fp4 = t.dtype == DType::kI8 && name.ends_with(".weight");
    const int64_t elements = fp4 ? 2 * bytes : bytes / block.bytes * block.elements;
    ++s.tensors;
    s.bytes += bytes;
    auto& entry = s.by_dtype[std::string(dtype_name(fp4 ? DType::kF4E2M1 : t.dtype))];
    entry.second += bytes;
    if (scales.contains(name)) return;
    s.parameters += elements;
    entry.first += elements;
  });
  return s;
}

std::string human(int64_t n, double unit, const char* const* names, int count) {
  double v = static_cast<double>(n);
  int i = 0;
  while (v >= unit && i + 1 < count) {
    v /= unit;
    ++i;
  }
  return i == 0 ? fmt::format("{} {}", n, names[0]) : fmt::format("{:.2f} {}", v, names[i]);
}

std::string human_bytes(int64_t n) {
  static constexpr const char* kNames[] = {"B", "kB", "MB", "GB", "TB"};
  return human(n, 1000, kNames, 5);
}

std::string human_count(int64_t n) {
  static constexpr const char* kNames[] = {"", "thousand", "million", "billion", "trillion"};
  return human(n, 1000, kNames, 5);
}

// "" for a directory.
std::string gguf_format(const ModelFiles& files) {
  if (files.gguf == nullptr) return "";
  const std::size_t shards = files.gguf->shards();
  return fmt::format("GGUF version {}{}", files.gguf->version(),
                     shards > 1 ? fmt::format(", {} files", shards) : "");
}

std::string tokenizer_kind(const ModelFiles& files) {
  if (files.gguf == nullptr) return files.tokenizer_path.empty() ? "none" : "tokenizer.json";
  const GgufVocab& vocab = files.gguf_vocab;
  if (vocab.model.empty()) return "none";
  return fmt::format("{}, pre-tokenizer {}", vocab.model,
                     vocab.pre.empty() ? "unknown" : vocab.pre);
}

Status run(const Options& o) {
  FATHOM_TRY(const std::string path, resolve_model(o.model));
  FATHOM_TRY(const ModelFiles files, open_model_files(path));
  FATHOM_TRY(const auto model, load_model(files));
  const ModelInfo& info = model->info();
  const Sizes sizes = measure(*files.weights);
  const auto cache_per_token =
      static_cast<int64_t>(std::ceil(kv_bytes_per_token(model->kv_layers())));
  const auto family = model_chat_family(files);
  const std::string chat = family ? std::string(chat_family_name(*family)) : "";
  const std::string format = gguf_format(files);
  if (o.json) {
    nlohmann::ordered_json j = {{"name", info.name},
                                {"path", files.directory},
                                {"architecture", info.architecture},
                                {"parameters", sizes.parameters},
                                {"layers", info.num_layers},
                                {"mtp_layers", info.mtp_layers},
                                {"hidden_size", info.hidden_size},
                                {"vocab_size", info.vocab_size},
                                {"context_tokens", info.max_context_tokens},
                                {"format", format.empty() ? "safetensors" : format},
                                {"tokenizer", tokenizer_kind(files)},
                                {"chat_family", chat},
                                {"tensors", sizes.tensors},
                                {"weight_bytes", sizes.bytes},
                                {"cache_bytes_per_1k_tokens", cache_per_token * 1000}};
    for (const auto& [dtype, entry] : sizes.by_dtype)
      j["dtypes"][dtype] = {{"parameters", entry.first}, {"bytes", entry.second}};
    fmt::print("{}\n", j.dump(2));
    return {};
  }
  fmt::print("{} ({})\n", info.name, files.directory);
  if (!format.empty()) fmt::print("  format         {}\n", format);
  fmt::print("  architecture   {}, {} layers{}, hidden size {}\n", info.architecture,
             info.num_layers, info.mtp_layers > 0 ? " and an MTP module" : "", info.hidden_size);
  fmt::print("  parameters     {}\n", human_count(sizes.parameters));
  fmt::print("  vocabulary     {} tokens\n", info.vocab_size);
  fmt::print("  context        {} tokens\n", info.max_context_tokens);
  fmt::print("  tokenizer      {}\n", tokenizer_kind(files));
  fmt::print("  chat template  {}{}\n", chat.empty() ? "none that fathom knows" : chat,
             chat.empty() || !files.chat_template.empty()
                 ? ""
                 : ", by architecture and tokenizer: the file has no template");
  fmt::print("  weights        {} in {} tensors\n", human_bytes(sizes.bytes), sizes.tensors);
  for (const auto& [dtype, entry] : sizes.by_dtype) {
    fmt::print("    {:<12} {:<10} {:5.1f}%\n", dtype, human_bytes(entry.second),
               100.0 * static_cast<double>(entry.second) / static_cast<double>(sizes.bytes));
  }
  fmt::print("  memory         {} for the weights, {} for each 1,000 tokens of cache (float32)\n",
             human_bytes(sizes.bytes), human_bytes(cache_per_token * 1000));
  fmt::print("                 {} with a full context\n",
             human_bytes(sizes.bytes + cache_per_token * info.max_context_tokens));
  return {};
}

}  // namespace info_command

Action add_info(CLI::App& program, CLI::App*& command) {
  using namespace info_command;
  command = program.add_subcommand("info", "Architecture, size and memory needs of a model");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  command->add_flag("--json", o->json, "Print JSON");
  command->footer("Example:\n  fathom info nano");
  return [o] { return run(*o); };
}

}  // namespace fathom
