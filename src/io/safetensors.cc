#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "base/limits.h"

namespace fathom {
namespace {

using nlohmann::json;
using TensorMap = std::map<std::string, StoredTensor, std::less<>>;

// One entry of the header; `data` is the part of the file after the header.
Result<StoredTensor> parse_entry(const std::string& name, const json& value,
                                 std::span<const std::byte> data, const std::string& source) {
  const std::string shown = json_preview(json(name));
  const auto bad = [&](std::string_view field, const json& seen, std::string_view expected) {
    return invalid_argument(fmt::format("{}: tensor {}: {} is {}, expected {}", source, shown,
                                        field, json_preview(seen), expected));
  };
  if (!value.is_object()) return bad("entry", value, "an object");
  StoredTensor t;
  t.file = source;
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(field)) {
      return invalid_argument(
          fmt::format("{}: tensor {}: {} is missing, expected dtype, shape and "
                      "data_offsets",
                      source, shown, field));
    }
  }
  const json& dtype = value["dtype"];
  if (!dtype.is_string()) return bad("dtype", dtype, "a string");
  const auto type = dtype_from_name(dtype.get_ref<const std::string&>());
  if (!type || dtype_block(*type).elements != 1)
    return bad("dtype", dtype, "a type such as F32, F16, BF16 or F8_E4M3");
  t.dtype = *type;

  const json& shape = value["shape"];
  if (!shape.is_array() || shape.size() > static_cast<std::size_t>(limits::kMaxTensorRank))
    return bad("shape", shape, fmt::format("at most {} dimensions", limits::kMaxTensorRank));
  int64_t bytes = static_cast<int64_t>(dtype_bytes(t.dtype));
  for (const json& d : shape) {
    if (!d.is_number_unsigned() || d.get<uint64_t>() > INT64_MAX)
      return bad("shape", shape, "non-negative integers");
    const auto n = d.get<int64_t>();
    t.shape.push_back(n);
    if (__builtin_mul_overflow(bytes, n, &bytes))
      return bad("shape", shape, "a product of dimensions that fits 63 bits");
  }

  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    return bad("data_offsets", offsets, "[begin, end]");
  const auto begin = offsets[0].get<uint64_t>();
  const auto end = offsets[1].get<uint64_t>();
  if (begin > end || end > data.size())
    return bad("data_offsets", offsets,
               fmt::format("begin <= end <= {}, the data's size", data.size()));
  if (end - begin != static_cast<uint64_t>(bytes)) {
    return invalid_argument(
        fmt::format("{}: tensor {}: data_offsets span {} bytes, expected {} for {} {}", source,
                    shown, end - begin, bytes, dtype_name(t.dtype), shape_string(t.shape)));
  }
  t.data = data.subspan(begin, end - begin);
  return t;
}

// "__metadata__" is an object of strings (or null, as the format's own reader has it).
Status check_metadata(const json& value, const std::string& source) {
  const auto bad = [&](const std::string& where, const json& seen, std::string_view expected) {
    return invalid_argument(fmt::format("{}: __metadata__{} is {}, expected {}", source, where,
                                        json_preview(seen), expected));
  };
  if (value.is_null()) return {};
  if (!value.is_object()) return bad("", value, "an object of strings");
  for (const auto& [key, entry] : value.items())
    if (!entry.is_string()) return bad("[" + json_preview(json(key)) + "]", entry, "a string");
  return {};
}

// Tensors must cover the data exactly: no overlap, no hole, nothing behind.
Status check_coverage(const TensorMap& tensors, std::span<const std::byte> data,
                      const std::string& source) {
  std::vector<std::pair<const std::byte*, const TensorMap::value_type*>> order;
  order.reserve(tensors.size());
  for (const auto& entry : tensors)
    if (!entry.second.data.empty()) order.emplace_back(entry.second.data.data(), &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second->first < b.second->first;
  });
  const std::byte* covered = data.data();
  for (const auto& [begin, entry] : order) {
    if (begin != covered) {
      return invalid_argument(
          fmt::format("{}: tensor {}: data_offsets begin at {}, expected {} ({})", source,
                      json_preview(json(entry->first)), begin - data.data(), covered - data.data(),
                      begin < covered ? "overlaps another tensor" : "leaves a hole"));
    }
    covered = begin + entry->second.data.size();
  }
  if (covered != data.data() + data.size()) {
    return invalid_argument(fmt::format("{}: {} bytes of data, but the tensors cover {}", source,
                                        data.size(), covered - data.data()));
  }
  return {};
}

}  // namespace

Result<TensorMap> parse_safetensors(std::span<const std::byte> file, const std::string& source) {
  if (file.size() < 8) {
    return invalid_argument(
        fmt::format("{}: {} bytes, expected at least 8 (a safetensors file)", source, file.size()));
  }
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i)
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(file[static_cast<std::size_t>(i)]);
  if (header_bytes > static_cast<uint64_t>(limits::kMaxSafetensorsHeaderBytes)) {
    return invalid_argument(fmt::format("{}: header length is {}, expected at most {}", source,
                                        header_bytes, limits::kMaxSafetensorsHeaderBytes));
  }
  if (header_bytes > file.size() - 8) {
    return invalid_argument(
        fmt::format("{}: header length is {}, but only {} bytes follow: the file is truncated",
                    source, header_bytes, file.size() - 8));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  // The format wants the brace first: no byte order mark, no white space.
  if (!text.starts_with('{')) {
    return invalid_argument(fmt::format("{}: header begins with {}, expected '{{' (a JSON object)",
                                        source, json_preview(json(text.substr(0, 8)))));
  }
  FATHOM_TRY(const json header, parse_json(text, source + " (header)",
                                           {.max_bytes = limits::kMaxSafetensorsHeaderBytes,
                                            .max_depth = 8,
                                            .max_values = limits::kMaxSafetensorsHeaderValues}));
  if (header.size() > static_cast<std::size_t>(limits::kMaxTensorsPerModel)) {
    return resource_limit(fmt::format("{}: {} tensors, the limit is {}", source, header.size(),
                                      limits::kMaxTensorsPerModel));
  }
  const auto data = file.subspan(8 + header_bytes);
  TensorMap tensors;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      FATHOM_TRY_STATUS(check_metadata(value, source));
      continue;
    }
    FATHOM_TRY(StoredTensor t, parse_entry(name, value, data, source));
    tensors.emplace(name, std::move(t));
  }
  FATHOM_TRY_STATUS(check_coverage(tensors, data, source));
  return tensors;
}

Result<std::unique_ptr<SafetensorsWeights>> SafetensorsWeights::open_file(const std::string& path) {
  auto weights = std::make_unique<SafetensorsWeights>();
  weights->description_ = path;
  FATHOM_TRY(MappedFile file, MappedFile::open(path));
  weights->files_.push_back(std::move(file));
  FATHOM_TRY(weights->tensors_, parse_safetensors(weights->files_.back().bytes(), path));
  return weights;
}

Result<std::unique_ptr<SafetensorsWeights>> SafetensorsWeights::open_index(
    const std::string& directory, const std::string& index_name) {
  const std::string index_path = directory + "/" + index_name;
  // Beside the names: metadata, a handful of values.
  FATHOM_TRY(const json index,
             read_json_file(index_path, {.max_values = limits::kMaxTensorsPerModel + 1000}));
  if (!index.is_object())
    return invalid_argument(index_path + ": the top level is " + json_preview(index) +
                            ", expected an object");
  const JsonReader reader(index, index_path);
  if (!reader.has("weight_map") || !index["weight_map"].is_object())
    return reader.bad("weight_map", "an object of tensor names and file names");
  const json& map = index["weight_map"];
  std::map<std::string, std::vector<std::string>> by_shard;
  for (const auto& [name, shard] : map.items()) {
    const std::string suffix = ".safetensors";
    const bool plain = shard.is_string() && [&] {
      const auto& s = shard.get_ref<const std::string&>();
      return s.size() > suffix.size() && s.ends_with(suffix) && s.find('/') == std::string::npos &&
             s.find('\0') == std::string::npos;
    }();
    if (!plain) {
      return invalid_argument(
          fmt::format("{}: weight_map[{}] is {}, expected the name of a .safetensors file in the "
                      "same directory",
                      index_path, json_preview(json(name)), json_preview(shard)));
    }
    by_shard[shard.get<std::string>()].push_back(name);
    if (by_shard.size() > static_cast<std::size_t>(limits::kMaxShards))
      return resource_limit(fmt::format("{}: more than {} shards", index_path, limits::kMaxShards));
  }
  auto weights = std::make_unique<SafetensorsWeights>();
  weights->description_ = index_path;
  for (const auto& [shard, names] : by_shard) {
    const std::string path = directory + "/" + shard;
    auto mapped = MappedFile::open(path);
    if (!mapped) {
      Error error = std::move(mapped).error();
      error.message += fmt::format(" (named in {})", index_path);
      return error;
    }
    weights->files_.push_back(*std::move(mapped));
    FATHOM_TRY(TensorMap tensors, parse_safetensors(weights->files_.back().bytes(), path));
    for (const std::string& name : names) {
      auto node = tensors.extract(name);
      if (node.empty()) {
        return invalid_argument(fmt::format("{}: tensor {} is missing; {} says it is there", path,
                                            json_preview(json(name)), index_path));
      }
      weights->tensors_.insert(std::move(node));
    }
  }
  return weights;
}

const StoredTensor* SafetensorsWeights::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

void SafetensorsWeights::for_each(
    const std::function<void(const std::string&, const StoredTensor&)>& visit) const {
  for (const auto& [name, tensor] : tensors_) visit(name, tensor);
}

}  // namespace fathom
