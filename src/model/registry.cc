#include <array>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "model/architectures.h"

namespace fathom {
namespace {

struct Architecture {
  std::string_view model_type;
  Result<std::unique_ptr<Model>> (*load)(const ModelFiles&);
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
  const JsonReader config(*files.config, files.config_path);
  std::string known;
  for (const Architecture& a : kArchitectures) {
    if (a.model_type == files.model_type) {
      FATHOM_TRY(std::unique_ptr<Model> model, a.load(files));
      if (options.simulate_quantised_cache)
        FATHOM_TRY_STATUS(model->simulate_quantised_cache(config));
      return model;
    }
    known += (known.empty() ? "" : ", ") + std::string(a.model_type);
  }
  return config.bad("model_type", "one of " + known);
}

}  // namespace fathom
