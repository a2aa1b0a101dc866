// Formulas: tests/golden/data/NOTES.md §1; YaRN is arXiv:2309.00071, llama3 scaling is Llama 3.1's.
#include "model/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/limits.h"

namespace fathom {
namespace {

constexpr double kMaxFactor = 1e6;
constexpr double kDefaultTheta = 10000;
constexpr double kMinTheta = 1.0001;
constexpr double kMaxTheta = 1e12;

RopeTable plain_table(double theta, int64_t dims) {
  RopeTable table;
  for (int64_t i = 0; i < dims / 2; ++i) {
    table.inverse_frequencies.push_back(
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dims)));
  }
  return table;
}

// YaRN's magnitude: 0.1 m ln(s) + 1, or 1 where nothing is stretched.
double yarn_magnitude(double factor, double m) {
  return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
}

Status apply_llama3(const JsonReader& r, RopeTable& table) {
  FATHOM_TRY(const double factor, r.number("factor", 1e-6, kMaxFactor));
  FATHOM_TRY(const double low, r.number("low_freq_factor", 1e-6, kMaxFactor));
  FATHOM_TRY(const double high, r.number("high_freq_factor", 1e-6, kMaxFactor));
  FATHOM_TRY(const int64_t original,
             r.integer("original_max_position_embeddings", 1, limits::kMaxContextTokens));
  if (high <= low) return r.bad("high_freq_factor", "a value above low_freq_factor");
  for (double& f : table.inverse_frequencies) {
    const double wavelength = 2 * std::numbers::pi / f;
    const auto o = static_cast<double>(original);
    if (wavelength > o / low) {
      f /= factor;
    } else if (wavelength >= o / high) {
      const double s = (o / wavelength - low) / (high - low);
      f = (1 - s) * f / factor + s * f;
    }
  }
  return {};
}

Status apply_yarn(const JsonReader& config, const JsonReader& r, double theta, int64_t dims,
                  RopeTable& table) {
  FATHOM_TRY(const double factor, r.number("factor", 1e-6, kMaxFactor));
  FATHOM_TRY(const int64_t context,
             config.integer_or("max_position_embeddings", 2048, 1, limits::kMaxContextTokens));
  FATHOM_TRY(const int64_t original, r.integer_or("original_max_position_embeddings", context, 1,
                                                  limits::kMaxContextTokens));
  FATHOM_TRY(double beta_fast, r.number_or("beta_fast", 32, 0, 1e6));
  FATHOM_TRY(double beta_slow, r.number_or("beta_slow", 1, 0, 1e6));
  FATHOM_TRY(const bool truncate, r.boolean_or("truncate", true));
  if (beta_fast == 0) beta_fast = 32;
  if (beta_slow == 0) beta_slow = 1;
  const auto d = static_cast<double>(dims);
  const auto correction = [&](double rotations) {
    return d * std::log(static_cast<double>(original) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  double low = correction(beta_fast);
  double high = correction(beta_slow);
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, d - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < table.inverse_frequencies.size(); ++i) {
    double& f = table.inverse_frequencies[i];
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f = f / factor * ramp + f * (1 - ramp);
  }

  FATHOM_TRY(const double mscale, r.number_or("mscale", 0, 0, 100));
  FATHOM_TRY(const double mscale_all_dim, r.number_or("mscale_all_dim", 0, 0, 100));
  if (r.has("attention_factor")) {
    FATHOM_TRY(table.attention_factor, r.number("attention_factor", 0, 1e3));
  } else if (mscale != 0 && mscale_all_dim != 0) {
    table.attention_factor =
        yarn_magnitude(factor, mscale) / yarn_magnitude(factor, mscale_all_dim);
  } else {
    // DeepSeek-R1-0528-Qwen3-8B writes attn_factor, which brings the product back to 1 (NOTES.md
    // §1).
    FATHOM_TRY(const double attn_factor, r.number_or("attn_factor", 1, 0, 1e3));
    table.attention_factor = yarn_magnitude(factor, 1) * attn_factor;
  }
  return {};
}

Status apply_divisors(const JsonReader& r, RopeTable& table) {
  const auto it = r.value().find("frequency_divisors");
  const std::size_t count = table.inverse_frequencies.size();
  const bool fits = it != r.value().end() && it->is_array() && it->size() == count &&
                    std::all_of(it->begin(), it->end(), [](const nlohmann::json& d) {
                      return d.is_number() && d.get<double>() > 0;
                    });
  if (!fits) return r.bad("frequency_divisors", fmt::format("{} numbers above 0", count));
  for (std::size_t i = 0; i < count; ++i) table.inverse_frequencies[i] /= (*it)[i].get<double>();
  return {};
}

}  // namespace

Result<RopeTable> read_unscaled_rope(const JsonReader& config, int64_t dims) {
  FATHOM_TRY(const auto parameters, config.object("rope_parameters"));
  const bool own_theta = parameters && parameters->has("rope_theta");
  FATHOM_TRY(const double theta, (own_theta ? *parameters : config)
                                     .number_or("rope_theta", kDefaultTheta, kMinTheta, kMaxTheta));
  return plain_table(theta, dims);
}

Result<RopeTable> read_rope(const JsonReader& config, int64_t dims, std::string_view theta_field) {
  FATHOM_TRY(auto parameters, config.object("rope_parameters"));
  if (!parameters) {
    FATHOM_TRY(parameters, config.object("rope_scaling"));
  }
  const bool own_theta = parameters && parameters->has(theta_field);
  FATHOM_TRY(const double theta, (own_theta ? *parameters : config)
                                     .number_or(theta_field, kDefaultTheta, kMinTheta, kMaxTheta));
  std::string type = "default";
  if (parameters) {
    FATHOM_TRY(type, parameters->string_or("type", "default"));
    FATHOM_TRY(type, parameters->string_or("rope_type", type));
  }
  RopeTable table = plain_table(theta, dims);
  if (type == "default") return table;
  if (type == "linear") {
    FATHOM_TRY(const double factor, parameters->number("factor", 1e-6, kMaxFactor));
    for (double& f : table.inverse_frequencies) f /= factor;
  } else if (type == "llama3") {
    FATHOM_TRY_STATUS(apply_llama3(*parameters, table));
  } else if (type == "yarn") {
    FATHOM_TRY_STATUS(apply_yarn(config, *parameters, theta, dims, table));
  } else if (type == "frequency_divisors") {
    FATHOM_TRY_STATUS(apply_divisors(*parameters, table));
  } else {
    return parameters->bad(parameters->has("rope_type") ? "rope_type" : "type",
                           "default, linear, llama3 or yarn");
  }
  FATHOM_TRY(const double all_dim, parameters->number_or("mscale_all_dim", 0, 0, 100));
  if (all_dim != 0) {
    FATHOM_TRY(const double factor, parameters->number("factor", 1e-6, kMaxFactor));
    const double m = yarn_magnitude(factor, all_dim);
    table.mla_scale_factor = m * m;
  }
  return table;
}

}  // namespace fathom
