// Importance matrices: for every weight matrix, how large the inputs of its columns are, and the
// GGUF file that holds them (format: llama.cpp's tools/imatrix).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

inline constexpr std::string_view kImatrixSums = ".in_sum2";   // [sets, cols]: Σ x²
inline constexpr std::string_view kImatrixCounts = ".counts";  // [sets, 1]: rows summed

struct ImportanceMatrix {
  std::string source;
  // By the weight's GGUF name: the mean square of each column's input, [sets · cols]; a set for the
  // whole matrix, or one for each expert or head. Sets that saw nothing are zeros.
  std::map<std::string, std::vector<float>, std::less<>> columns;
};

// Errors: no imatrix file, sums without counts, sizes that do not fit, values that are negative or
// not finite.
Result<ImportanceMatrix> read_imatrix(const std::string& path);

// What `fathom imatrix` has summed up for one weight matrix.
struct ImatrixEntry {
  int64_t cols = 0;
  std::vector<double> sums;     // [sets * cols]
  std::vector<int64_t> counts;  // [sets]
};

// `chunk_tokens`, `chunks`: windows of the text and their size, for the file's metadata.
struct ImatrixRun {
  std::string dataset;
  int64_t chunk_tokens = 0, chunks = 0;
};
Status write_imatrix(const std::string& path, const ImatrixRun& run,
                     const std::map<std::string, ImatrixEntry>& entries);

}  // namespace fathom
