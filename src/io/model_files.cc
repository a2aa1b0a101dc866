#include "io/model_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "io/gguf_config.h"
#include "io/gguf_files.h"
#include "io/gguf_weights.h"
#include "io/safetensors.h"

namespace fathom {
namespace {

using nlohmann::json;

// Whether the name is there at all. What is no regular file (a directory, a FIFO, a link to
// nothing) is present, and opening it is an error; it is never skipped as if it were absent.
bool present(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::symlink_status(path, ignored).type() !=
         std::filesystem::file_type::not_found;
}

Result<json> read_object(const std::string& path) {
  FATHOM_TRY(json value, read_json_file(path, {.max_bytes = limits::kMaxConfigBytes,
                                               .max_values = limits::kMaxConfigValues}));
  if (!value.is_object())
    return invalid_argument(path + ": the top level is " + json_preview(value) +
                            ", expected an object");
  return value;
}

// quantization_config: only block FP8 is storage that this reader knows.
Status read_quantization(const JsonReader& config, WeightSource& weights) {
  FATHOM_TRY(const auto q, config.object("quantization_config"));
  if (!q) return {};
  FATHOM_TRY(const std::string method, q->string("quant_method"));
  if (method != "fp8") return q->bad("quant_method", "\"fp8\"");
  FATHOM_TRY(const std::string fmt_name, q->string_or("fmt", "e4m3"));
  if (fmt_name != "e4m3") return q->bad("fmt", "\"e4m3\"");
  FATHOM_TRY(const auto block, q->integer_list("weight_block_size", 1, 1 << 20));
  if (block.size() != 2) return q->bad("weight_block_size", "two integers, such as [128, 128]");
  weights.set_scale_block(block[0], block[1]);
  return {};
}

Status read_generation(const std::string& directory, const JsonReader& config, ModelFiles& out) {
  constexpr int64_t kMaxId = limits::kMaxVocab;
  FATHOM_TRY(auto bos, config.integer_list("bos_token_id", 0, kMaxId));
  FATHOM_TRY(out.eos_token_ids, config.integer_list("eos_token_id", 0, kMaxId));
  const std::string path = directory + "/generation_config.json";
  if (present(path)) {
    FATHOM_TRY(const json value, read_object(path));
    const JsonReader reader(value, path);
    FATHOM_TRY(auto eos, reader.integer_list("eos_token_id", 0, kMaxId));
    if (!eos.empty()) out.eos_token_ids = std::move(eos);
    FATHOM_TRY(auto own_bos, reader.integer_list("bos_token_id", 0, kMaxId));
    if (!own_bos.empty()) bos = std::move(own_bos);
    FATHOM_TRY(out.do_sample, reader.boolean_or("do_sample", true));
    if (reader.has("temperature")) {
      FATHOM_TRY(out.temperature, reader.number("temperature", 0, 100));
    }
    if (reader.has("top_p")) {
      FATHOM_TRY(out.top_p, reader.number("top_p", 0, 1));
    }
    if (reader.has("top_k")) {
      FATHOM_TRY(out.top_k, reader.integer("top_k", 0, kMaxId));
    }
  }
  if (!bos.empty()) out.bos_token_id = bos.front();
  return {};
}

// chat_template.jinja counts before tokenizer_config.json, as in the transformers library. There,
// chat_template is a string, or a list of {name, template} of which "default" counts.
Status read_chat_template(const std::string& directory, ModelFiles& out) {
  const std::string jinja = directory + "/chat_template.jinja";
  const std::string path = directory + "/tokenizer_config.json";
  if (present(path)) {
    FATHOM_TRY(const json value, read_object(path));
    const JsonReader reader(value, path);
    const json& field = reader.has("chat_template") ? value["chat_template"] : json::array();
    if (!field.is_string() && !field.is_array())
      return reader.bad("chat_template", "a string or a list of {name, template}");
    if (field.is_string()) out.chat_template = field.get<std::string>();
    for (std::size_t i = 0; field.is_array() && i < field.size(); ++i) {
      const std::string where = fmt::format("chat_template[{}]", i);
      if (!field[i].is_object()) {
        return invalid_argument(fmt::format("{}: {} is {}, expected an object {{name, template}}",
                                            path, where, json_preview(field[i])));
      }
      const JsonReader entry(field[i], path, where);
      FATHOM_TRY(const std::string name, entry.string("name"));
      FATHOM_TRY(std::string text, entry.string("template"));
      if (name == "default") out.chat_template = std::move(text);
    }
  }
  if (present(jinja)) {
    FATHOM_TRY(out.chat_template, read_file(jinja, limits::kMaxConfigBytes));
  }
  return {};
}

// What general.sampling.* recommends, where a file has it.
Status read_gguf_sampling(const GgufMetadata& metadata, ModelFiles& out) {
  if (metadata.has("general.sampling.temp")) {
    FATHOM_TRY(out.temperature, metadata.number("general.sampling.temp", 0, 100));
  }
  if (metadata.has("general.sampling.top_p")) {
    FATHOM_TRY(out.top_p, metadata.number("general.sampling.top_p", 0, 1));
  }
  if (metadata.has("general.sampling.top_k")) {
    FATHOM_TRY(out.top_k, metadata.integer("general.sampling.top_k", 0, limits::kMaxVocab));
  }
  return {};
}

Result<ModelFiles> open_gguf(const std::string& path) {
  ModelFiles out;
  FATHOM_TRY(std::unique_ptr<GgufFiles> files, GgufFiles::open(path));
  out.gguf = std::move(files);
  const GgufMetadata& metadata = out.gguf->metadata();
  out.directory = out.config_path = out.gguf->path();
  const std::string stem = std::filesystem::path(out.directory).stem().string();
  FATHOM_TRY(out.name, metadata.label_or("general.name", stem));
  FATHOM_TRY(out.weights, GgufWeights::create(*out.gguf));
  FATHOM_TRY(json config, config_from_gguf(metadata, *out.weights));
  out.model_type = config["model_type"].get<std::string>();
  out.config = std::make_shared<const json>(std::move(config));
  FATHOM_TRY(out.gguf_vocab, read_gguf_vocab(metadata));
  out.bos_token_id = out.gguf_vocab.bos;
  out.eos_token_ids = end_token_ids(out.gguf_vocab);
  FATHOM_TRY(const std::string named, metadata.string_or("tokenizer.chat_template.default", ""));
  FATHOM_TRY(out.chat_template, metadata.string_or("tokenizer.chat_template", named));
  FATHOM_TRY_STATUS(read_gguf_sampling(metadata, out));
  return out;
}

}  // namespace

Result<ModelFiles> open_model_files(const std::string& path) {
  namespace fs = std::filesystem;
  ModelFiles out;
  std::string single_file;
  if (directory_exists(path)) {
    out.directory = path;
    while (out.directory.size() > 1 && out.directory.back() == '/') out.directory.pop_back();
    if (!present(out.directory + "/config.json")) {
      FATHOM_TRY(const std::string gguf, find_gguf(out.directory));
      if (!gguf.empty()) return open_gguf(gguf);
    }
  } else if (!present(path)) {
    return not_found(path +
                     ": no such model (expected a directory with config.json, or a .gguf file)");
  } else if (path.ends_with(".gguf")) {
    return open_gguf(path);
  } else if (path.ends_with(".safetensors")) {
    single_file = path;
    out.directory = fs::path(path).parent_path().string();
    if (out.directory.empty()) out.directory = ".";
  } else {
    return invalid_argument(path + ": expected a model directory, a .gguf or a .safetensors file");
  }
  std::error_code ignored;
  out.name = fs::weakly_canonical(out.directory, ignored).filename().string();

  out.config_path = out.directory + "/config.json";
  FATHOM_TRY(json config_json, read_object(out.config_path));
  out.config = std::make_shared<const json>(std::move(config_json));
  const JsonReader config(*out.config, out.config_path);
  FATHOM_TRY(out.model_type, config.string("model_type"));

  const std::string index = "model.safetensors.index.json";
  if (!single_file.empty()) {
    FATHOM_TRY(out.weights, SafetensorsWeights::open_file(single_file));
  } else if (present(out.directory + "/" + index)) {
    FATHOM_TRY(out.weights, SafetensorsWeights::open_index(out.directory, index));
  } else if (present(out.directory + "/model.safetensors")) {
    FATHOM_TRY(out.weights, SafetensorsWeights::open_file(out.directory + "/model.safetensors"));
  } else {
    return not_found(
        fmt::format("{}: no weights (expected model.safetensors or {})", out.directory, index));
  }
  FATHOM_TRY_STATUS(read_quantization(config, *out.weights));
  FATHOM_TRY_STATUS(read_generation(out.directory, config, out));
  FATHOM_TRY_STATUS(read_chat_template(out.directory, out));
  const std::string tokenizer = out.directory + "/tokenizer.json";
  if (present(tokenizer)) out.tokenizer_path = tokenizer;
  return out;
}

}  // namespace fathom
