// fathom quantize: a model in fewer bits, as a GGUF file.
//
// Streams: one tensor at a time, in pieces of some megabytes whose rows are encoded in parallel, so
// that memory does not grow with the model.
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>

#include "apps/app.h"
#include "apps/gguf_plan.h"
#include "apps/imatrix_file.h"
#include "base/limits.h"
#include "base/thread_pool.h"
#include "quant/codec.h"

namespace fathom {
namespace quantize_command {

constexpr int64_t kPieceBytes = int64_t{64} << 20;  // of output, encoded before it is written
constexpr uint32_t kQuantizationVersion = 2;        // of the K formats, as readers expect it

struct Options {
  std::string in, out, type, imatrix, output_type, embedding_type;
  std::vector<std::string> keep;
  int threads = 0;
};

// --keep 'blk.*.attn_v.weight=q8_0'
struct Keep {
  std::string pattern;
  DType type = DType::kF32;
  int64_t matches = 0;
};

struct Settings {
  const quant::Recipe* recipe = nullptr;
  std::vector<Keep> keep;
  std::optional<DType> output_type, embedding_type;
};

Error unknown_type(std::string_view flag, std::string_view seen, bool mixes) {
  return invalid_argument(fmt::format(
      "{}: '{}' is no type, expected {}", flag, seen,
      mixes
          ? quant::recipe_names()
          : "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k or mxfp4"));
}

Result<std::optional<DType>> optional_type(std::string_view flag, const std::string& name) {
  if (name.empty()) return std::optional<DType>();
  const auto type = quant::type_from_name(name);
  if (!type) return unknown_type(flag, name, false);
  return type;
}

Result<Settings> read_settings(const Options& o) {
  Settings s;
  s.recipe = quant::find_recipe(o.type);
  if (s.recipe == nullptr) return unknown_type("--type", o.type, true);
  for (const std::string& keep : o.keep) {
    const auto equals = keep.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      return invalid_argument(fmt::format(
          "--keep: '{}', expected PATTERN=TYPE such as 'blk.*.attn_v.weight=q8_0'", keep));
    }
    const auto type = quant::type_from_name(keep.substr(equals + 1));
    if (!type) return unknown_type("--keep", keep.substr(equals + 1), false);
    s.keep.push_back({keep.substr(0, equals), *type});
  }
  FATHOM_TRY(s.output_type, optional_type("--output-type", o.output_type));
  FATHOM_TRY(s.embedding_type, optional_type("--token-embedding-type", o.embedding_type));
  return s;
}

bool can_decode(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 ||
         type == DType::kF8E4M3 || type == DType::kF4E2M1 || is_block_quantized(type);
}

// The type that the flags and the recipe give `t`. Says so on standard error if rows do not fit.
DType choose_type(Settings& s, const quant::ModelShape& model, const PlannedTensor& t) {
  if (!can_decode(t.source_type)) return t.source_type;  // integers are copied
  if (!quant::is_quantized_tensor(t.name, static_cast<int64_t>(t.shape.size()))) return DType::kF32;
  DType wanted = quant::recipe_type(*s.recipe, model, t.name, t.cols());
  const bool output =
      t.name == "output.weight" || (model.tied_embeddings && t.name == "token_embd.weight");
  if (output && s.output_type) wanted = *s.output_type;
  if (t.name == "token_embd.weight" && s.embedding_type) wanted = *s.embedding_type;
  for (Keep& keep : s.keep) {
    if (::fnmatch(keep.pattern.c_str(), t.name.c_str(), 0) != 0) continue;
    ++keep.matches;
    wanted = keep.type;
    break;
  }
  const DType type = quant::fallback_type(wanted, t.cols());
  if (type != wanted) {
    fmt::print(stderr, "{}: rows of {} are no whole blocks of {}; written as {}\n", t.name,
               t.cols(), dtype_name(wanted), dtype_name(type));
  }
  return type;
}

// The first value of a piece that its type cannot hold.
struct BadValue {
  std::mutex mutex;
  std::atomic<bool> found{false};
  int64_t row = 0, col = 0;
  float value = 0;

  void check(const float* x, int64_t cols, int64_t at_row, float limit) {
    for (int64_t i = 0; i < cols; ++i) {
      if (std::fabs(x[i]) <= limit) continue;  // false for NaN
      const std::lock_guard lock(mutex);
      if (found && row <= at_row) return;
      found = true;
      row = at_row;
      col = i;
      value = x[i];
      return;
    }
  }
};

class Quantizer {
 public:
  Quantizer(int threads, const ImportanceMatrix* importance)
      : pool_(threads > 0 ? threads : default_thread_count()),
        buffers_(static_cast<std::size_t>(pool_.num_threads())),
        importance_(importance) {}

  // progress(bytes of float32 done within this tensor)
  Status write(const PlannedTensor& t, DType type, GgufWriter& writer,
               const std::function<void(int64_t)>& progress);

 private:
  Status write_raw(const PlannedTensor& t, GgufWriter& writer,
                   const std::function<void(int64_t)>& progress);
  Result<std::span<const float>> importance_of(const PlannedTensor& t) const;

  ThreadPool pool_;
  std::vector<std::vector<float>> buffers_;  // a row each
  std::vector<std::byte> piece_;
  const ImportanceMatrix* importance_;
};

Result<std::span<const float>> Quantizer::importance_of(const PlannedTensor& t) const {
  if (importance_ == nullptr) return std::span<const float>();
  const auto it = importance_->columns.find(t.name);
  if (it == importance_->columns.end()) return std::span<const float>();
  // One set for all rows, or one for each outermost entry (expert, head).
  const auto size = static_cast<int64_t>(it->second.size());
  const int64_t stacked = t.shape.size() > 2 ? t.shape[0] * t.cols() : t.cols();
  if (size != t.cols() && size != stacked) {
    return invalid_argument(fmt::format(
        "{}: {}{} has {} values, expected {} for a tensor of shape {}: it is of another "
        "model",
        importance_->source, t.name, kImatrixSums, size, stacked, shape_string(t.shape)));
  }
  return std::span<const float>(it->second);
}

Status Quantizer::write_raw(const PlannedTensor& t, GgufWriter& writer,
                            const std::function<void(int64_t)>& progress) {
  for (std::size_t at = 0; at < t.raw.size(); at += kPieceBytes) {
    const auto piece = t.raw.subspan(at, std::min<std::size_t>(kPieceBytes, t.raw.size() - at));
    FATHOM_TRY_STATUS(writer.append(piece));
    const double share = static_cast<double>(at + piece.size()) / static_cast<double>(t.raw.size());
    progress(static_cast<int64_t>(share * static_cast<double>(t.rows() * t.cols() * 4)));
  }
  return {};
}

Status Quantizer::write(const PlannedTensor& t, DType type, GgufWriter& writer,
                        const std::function<void(int64_t)>& progress) {
  const bool as_it_is = type == t.source_type && !t.raw.empty();
  // Floats of the input are checked even if they are not converted.
  if (as_it_is && (is_block_quantized(type) || !can_decode(type)))
    return write_raw(t, writer, progress);
  FATHOM_TRY(const std::span<const float> importance, importance_of(t));
  const int64_t rows = t.rows(), cols = t.cols(), row_bytes = dtype_row_bytes(type, cols);
  const int64_t rows_per_set =
      static_cast<int64_t>(importance.size()) > cols ? rows / t.shape[0] : rows;
  const float limit = type == DType::kF32 || type == DType::kBF16
                          ? std::numeric_limits<float>::max()
                          : quant::kMaxEncodable;
  for (auto& b : buffers_) b.resize(static_cast<std::size_t>(cols));
  const int64_t piece_rows =
      std::clamp<int64_t>(kPieceBytes / std::max<int64_t>(row_bytes, 1), 1, rows);
  for (int64_t first = 0; first < rows; first += piece_rows) {
    const int64_t count = std::min(piece_rows, rows - first);
    piece_.resize(static_cast<std::size_t>(count * row_bytes));
    BadValue bad;
    pool_.parallel_for(count, [&](int64_t i, int thread) {
      float* x = buffers_[static_cast<std::size_t>(thread)].data();
      t.read_row(first + i, x);
      bad.check(x, cols, first + i, limit);
      if (bad.found) return;
      const float* w =
          importance.empty() ? nullptr : importance.data() + (first + i) / rows_per_set * cols;
      quant::encode(type, x, cols, w, piece_.data() + i * row_bytes);
    });
    if (bad.found) {
      return invalid_argument(
          fmt::format("tensor '{}': element [{}, {}] is {}, expected finite numbers{}", t.name,
                      bad.row, bad.col, bad.value,
                      std::isfinite(bad.value)
                          ? fmt::format(" of at most {} in {} (--keep '{}=bf16' keeps them)",
                                        quant::kMaxEncodable, dtype_name(type), t.name)
                          : ""));
    }
    FATHOM_TRY_STATUS(writer.append(piece_));
    progress((first + count) * cols * 4);
  }
  return {};
}

std::string megabytes(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6);
}

void print_table(const std::vector<GgufTensorInfo>& tensors, const std::string& path,
                 int64_t file_bytes) {
  struct Row {
    int64_t tensors = 0, bytes = 0;
  };
  std::map<DType, Row> rows;
  int64_t total = 0, as_float = 0;
  for (const GgufTensorInfo& t : tensors) {
    rows[t.type].bytes += t.bytes();
    ++rows[t.type].tensors;
    total += t.bytes();
    int64_t elements = 1;
    for (const int64_t d : t.shape) elements *= d;
    as_float += 4 * elements;
  }
  fmt::print("{:<6} {:>8} {:>14} {:>8}\n", "type", "tensors", "size", "share");
  for (const auto& [type, row] : rows) {
    fmt::print(
        "{:<6} {:>8} {:>14} {:>6.1f} %\n", dtype_name(type), row.tensors, megabytes(row.bytes),
        100.0 * static_cast<double>(row.bytes) / static_cast<double>(std::max<int64_t>(total, 1)));
  }
  fmt::print("{}: {} of weights, {:.3f} of float32; {} with metadata\n", path, megabytes(total),
             static_cast<double>(total) / static_cast<double>(std::max<int64_t>(as_float, 1)),
             megabytes(file_bytes));
}

// What each tensor becomes, and the flags that had no effect.
Result<std::vector<GgufTensorInfo>> choose_types(const GgufPlan& plan, Settings& settings) {
  std::vector<GgufTensorInfo> tensors;
  bool again = false;
  for (const PlannedTensor& t : plan.tensors) {
    tensors.push_back({t.name, choose_type(settings, plan.shape, t), t.shape});
    again = again || (is_block_quantized(t.source_type) && t.source_type != tensors.back().type);
  }
  for (const Keep& keep : settings.keep) {
    if (keep.matches > 0) continue;
    return invalid_argument(fmt::format(
        "--keep: no matrix fits '{}', expected a pattern of GGUF names such as 'blk.0.*' or "
        "'*.attn_v.weight' (or an earlier --keep took all that fit)",
        keep.pattern));
  }
  if (again)
    fmt::print(stderr, "note: the input is quantised already; what it lost does not come back\n");
  return tensors;
}

// The progress line ends with it: tables come after.
Status write_tensors(const GgufPlan& plan, const std::vector<GgufTensorInfo>& tensors,
                     Quantizer& quantizer, GgufWriter& writer) {
  int64_t total = 0, done = 0;
  for (const PlannedTensor& t : plan.tensors) total += t.rows() * t.cols() * 4;
  Progress progress("quantize", total, "B");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const PlannedTensor& t = plan.tensors[i];
    FATHOM_TRY_STATUS(quantizer.write(t, tensors[i].type, writer,
                                      [&](int64_t bytes) { progress.set(done + bytes, t.name); }));
    done += t.rows() * t.cols() * 4;
  }
  return {};
}

Status run(const Options& o) {
  FATHOM_TRY(Settings settings, read_settings(o));
  FATHOM_TRY(const std::string path, resolve_model(o.in));
  FATHOM_TRY(const ModelFiles files, open_model_files(path));
  FATHOM_TRY(GgufPlan plan,
             files.gguf != nullptr ? plan_from_gguf(files) : plan_from_huggingface(files));
  std::optional<ImportanceMatrix> importance;
  if (!o.imatrix.empty()) {
    FATHOM_TRY(importance, read_imatrix(o.imatrix));
    plan.metadata.set_string("quantize.imatrix.file", o.imatrix);
    plan.metadata.set_i32("quantize.imatrix.entries_count",
                          static_cast<int32_t>(importance->columns.size()));
  }
  FATHOM_TRY(std::vector<GgufTensorInfo> tensors, choose_types(plan, settings));
  plan.metadata.set_u32("general.file_type", settings.recipe->gguf_type);
  plan.metadata.set_u32("general.quantization_version", kQuantizationVersion);
  FATHOM_TRY(const auto writer, GgufWriter::create(o.out, plan.metadata, tensors));
  Quantizer quantizer(o.threads, importance ? &*importance : nullptr);
  FATHOM_TRY_STATUS(write_tensors(plan, tensors, quantizer, *writer));
  FATHOM_TRY_STATUS(writer->finish());
  print_table(tensors, o.out, writer->file_bytes());
  return {};
}

}  // namespace quantize_command

Action add_quantize(CLI::App& program, CLI::App*& command) {
  using namespace quantize_command;
  command = program.add_subcommand("quantize", "Write a model in fewer bits, as a GGUF file");
  auto o = std::make_shared<Options>();
  command->add_option("IN", o->in, "Model directory, .gguf file or bundled name")->required();
  command->add_option("OUT", o->out, "GGUF file to write")->required();
  command->add_option("--type", o->type, "One of " + quant::recipe_names())->required();
  command->add_option("--imatrix", o->imatrix, "What columns matter, from `fathom imatrix`");
  command
      ->add_option("--keep", o->keep,
                   "PATTERN=TYPE: the type of tensors whose GGUF name fits the shell pattern; the "
                   "first that fits counts")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--output-type", o->output_type, "Type of output.weight");
  command->add_option("--token-embedding-type", o->embedding_type, "Type of token_embd.weight");
  command->add_option("--threads", o->threads, "Threads to encode with (default: all CPUs)")
      ->check(CLI::Range(1, limits::kMaxThreads));
  command->footer("Example:\n  fathom quantize nano nano.gguf --type q4_k_m --keep 'blk.0.*=q8_0'");
  return [o] { return run(*o); };
}

}  // namespace fathom
