#include <array>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "model/architectures.h"
#include "model/parallel_model.h"

namespace fathom {
namespace {

struct Architecture {
  std::string_view model_type;
  Result<std::unique_ptr<Model>> (*load)(const ModelFiles&, const Shard&);
};

constexpr std::array<Architecture, 7> kArchitectures = {{
    {"llama", load_llama},
    {"qwen2", load_qwen2},
    {"qwen3", load_qwen3},
    {"deepseek_v2", load_deepseek_v2},
    {"deepseek_v3", load_deepseek_v3},
    {"deepseek_v32", load_deepseek_v32},
    {"deepseek_v4", load_deepseek_v4},
}};

}  // namespace

TensorView Model::mtp_forward(const ModelContext&, const Step&, const TensorView&) const {
  FATHOM_CHECK(false) << info_.architecture << " has no MTP module";
  return {};
}

Status Model::simulate_quantised_cache(const JsonReader& config) {
  return config.bad("model_type",
                    "deepseek_v32 or deepseek_v4 where a quantised cache is to be simulated");
}

Result<std::unique_ptr<Model>> load_model(const ModelFiles& files, const ModelOptions& options) {
  FATHOM_CHECK_GT(options.tensor_parallel, 0);
  const JsonReader config(*files.config, files.config_path);
  std::string known;
  for (const Architecture& a : kArchitectures) {
    if (a.model_type == files.model_type) {
      std::vector<std::unique_ptr<Model>> parts;
      for (int rank = 0; rank < options.tensor_parallel; ++rank) {
        FATHOM_TRY(parts.emplace_back(), a.load(files, {.rank = rank,
                                                        .size = options.tensor_parallel,
                                                        .copies = !options.shapes_only}));
        if (options.simulate_quantised_cache)
          FATHOM_TRY_STATUS(parts.back()->simulate_quantised_cache(config));
      }
      if (parts.size() == 1) return std::move(parts[0]);
      return std::unique_ptr<Model>(std::make_unique<ParallelModel>(std::move(parts)));
    }
    known += (known.empty() ? "" : ", ") + std::string(a.model_type);
  }
  return config.bad("model_type", "one of " + known);
}

}  // namespace fathom
