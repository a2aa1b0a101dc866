// ModelFiles: the files of one model, opened and checked: configuration, weights, tokenizer.
//
// Knows file formats, not architectures: the configuration stays JSON with HuggingFace's keys, and
// each model reads its own fields from it.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/gguf_vocab.h"
#include "io/weight_source.h"

namespace fathom {

class GgufFiles;

struct ModelFiles {
  std::string name;       // the directory's last component, or GGUF's general.name
  std::string directory;  // for messages; of a GGUF model, the (first) file's path
  std::string config_path;
  std::shared_ptr<const nlohmann::json> config;
  std::shared_ptr<const GgufFiles> gguf;  // none for a directory of safetensors; `weights` views it
  std::unique_ptr<WeightSource> weights;
  std::string tokenizer_path;  // tokenizer.json; "" if the model has none
  GgufVocab gguf_vocab;        // the tokenizer of a GGUF model; its `model` is "" if it has none
  std::string chat_template;   // chat_template.jinja's, else tokenizer_config.json's; "" if none
  std::string model_type;      // config.json's, or what GGUF's architecture amounts to
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;  // generation_config.json's, else config.json's

  // Sampling defaults of generation_config.json, where it has them.
  bool do_sample = true;
  std::optional<double> temperature, top_p;
  std::optional<int64_t> top_k;
};

// Opens a model directory (config.json, *.safetensors, tokenizer.json, …), a single .safetensors
// file that stands in one, a .gguf file (any shard of a set), or a directory with one GGUF model
// and no config.json. Errors name the file, the field, what was seen and what was expected.
Result<ModelFiles> open_model_files(const std::string& path);

}  // namespace fathom
