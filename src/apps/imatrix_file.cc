#include "apps/imatrix_file.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <span>

#include "base/file.h"
#include "io/gguf.h"
#include "io/gguf_writer.h"

namespace fathom {
namespace {

// The floats of an F32 tensor, each finite and not negative.
Result<std::vector<float>> read_floats(const std::string& name, const StoredTensor& t) {
  if (t.dtype != DType::kF32) {
    return invalid_argument(fmt::format("{}: tensor '{}' has type {}, expected F32", t.file, name,
                                        dtype_name(t.dtype)));
  }
  std::vector<float> out(t.data.size() / sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), t.data.data(), t.data.size());
  for (const float v : out) {
    if (!std::isfinite(v) || v < 0) {
      return invalid_argument(fmt::format(
          "{}: tensor '{}' holds {}, expected finite numbers of 0 and more", t.file, name, v));
    }
  }
  return out;
}

// Means from sums and counts.
Status divide(const std::string& source, const std::string& name, std::vector<float>& sums,
              const std::vector<float>& counts) {
  if (counts.empty() || sums.size() % counts.size() != 0) {
    return invalid_argument(
        fmt::format("{}: {} has {} sums and {} counts, expected a multiple of the counts", source,
                    name, sums.size(), counts.size()));
  }
  const std::size_t cols = sums.size() / counts.size();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const float n = counts[i / cols];
    sums[i] = n > 0 ? sums[i] / n : 0.0f;
  }
  return {};
}

}  // namespace

Result<ImportanceMatrix> read_imatrix(const std::string& path) {
  FATHOM_TRY(const MappedFile file, MappedFile::open(path));
  FATHOM_TRY(const GgufFile parsed, parse_gguf(file.bytes(), path));
  FATHOM_TRY(const std::string type, parsed.metadata.string_or("general.type", "model"));
  if (type != "imatrix") return parsed.metadata.bad("general.type", "\"imatrix\"");
  ImportanceMatrix out{.source = path};
  for (const auto& [name, tensor] : parsed.tensors) {
    if (!name.ends_with(kImatrixSums)) continue;
    const std::string weight = name.substr(0, name.size() - kImatrixSums.size());
    const auto counts = parsed.tensors.find(weight + std::string(kImatrixCounts));
    if (counts == parsed.tensors.end()) {
      return invalid_argument(fmt::format("{}: tensor '{}{}' is missing, expected beside '{}'",
                                          path, weight, kImatrixCounts, name));
    }
    FATHOM_TRY(std::vector<float> sums, read_floats(name, tensor));
    FATHOM_TRY(const std::vector<float> rows, read_floats(counts->first, counts->second));
    FATHOM_TRY_STATUS(divide(path, weight, sums, rows));
    out.columns.emplace(weight, std::move(sums));
  }
  if (out.columns.empty())
    return invalid_argument(path + ": no tensors *.in_sum2, expected those of weight matrices");
  return out;
}

Status write_imatrix(const std::string& path, const ImatrixRun& run,
                     const std::map<std::string, ImatrixEntry>& entries) {
  GgufKeyValues metadata;
  metadata.set_string("general.type", "imatrix");
  metadata.set_strings("imatrix.datasets", std::vector<std::string>{run.dataset});
  metadata.set_u32("imatrix.chunk_count", static_cast<uint32_t>(run.chunks));
  metadata.set_u32("imatrix.chunk_size", static_cast<uint32_t>(run.chunk_tokens));
  std::vector<GgufTensorInfo> tensors;
  for (const auto& [name, e] : entries) {
    const auto sets = static_cast<int64_t>(e.counts.size());
    tensors.push_back({name + std::string(kImatrixSums), DType::kF32, {sets, e.cols}});
    tensors.push_back({name + std::string(kImatrixCounts), DType::kF32, {sets, 1}});
  }
  FATHOM_TRY(const auto writer, GgufWriter::create(path, metadata, std::move(tensors)));
  for (const auto& [name, e] : entries) {
    const std::vector<float> sums(e.sums.begin(), e.sums.end());
    const std::vector<float> counts(e.counts.begin(), e.counts.end());
    FATHOM_TRY_STATUS(writer->append(std::as_bytes(std::span(sums))));
    FATHOM_TRY_STATUS(writer->append(std::as_bytes(std::span(counts))));
  }
  return writer->finish();
}

}  // namespace fathom
