// Reader of the safetensors format: one file, or the shards that an index.json names.
//
// Format (huggingface.co/docs/safetensors): u64 little-endian header length N, N bytes of JSON
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {string: string}}, then the
// data, which the tensors cover without holes or overlaps. Every number is checked before it is
// used.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "io/weight_source.h"

namespace fathom {

// Parses the header of `file` (the whole file's bytes). Returns the tensors by name; their data are
// views into `file`. `source` is the file's name in messages.
Result<std::map<std::string, StoredTensor, std::less<>>> parse_safetensors(
    std::span<const std::byte> file, const std::string& source);

// The weights of one or several safetensors files, mapped.
class SafetensorsWeights : public WeightSource {
 public:
  // One file.
  static Result<std::unique_ptr<SafetensorsWeights>> open_file(const std::string& path);
  // The shards of `directory`/`index_name`. Shards must stand in the same directory.
  static Result<std::unique_ptr<SafetensorsWeights>> open_index(const std::string& directory,
                                                                const std::string& index_name);

  const StoredTensor* find(std::string_view name) const override;
  void for_each(
      const std::function<void(const std::string&, const StoredTensor&)>& visit) const override;
  std::string description() const override { return description_; }

 private:
  std::string description_;
  std::vector<MappedFile> files_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace fathom
