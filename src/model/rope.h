// Rotary position embedding: from config.json to inverse frequencies.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fathom {

struct RopeTable {
  std::vector<double> inverse_frequencies;  // [dims / 2]
  double attention_factor = 1;              // on cos and sin
  // (0.1 · mscale_all_dim · ln(factor) + 1)² where the config asks for it, else 1: MLA multiplies
  // its softmax scale by it.
  double mla_scale_factor = 1;
};

// Reads rope_theta with rope_scaling, or rope_parameters (both spellings occur). Knows default,
// linear, llama3, yarn, and frequency_divisors: a list of dims / 2 numbers, the form in which GGUF
// files carry llama3's scaling. `dims`: the rotated width.
// `theta_field`: where theta stands, if not in rope_parameters.
Result<RopeTable> read_rope(const JsonReader& config, int64_t dims,
                            std::string_view theta_field = "rope_theta");

// The table of rope_theta alone, whatever scaling the configuration has.
Result<RopeTable> read_unscaled_rope(const JsonReader& config, int64_t dims);

}  // namespace fathom
