// The files of one GGUF model: a single file, or the shards NAME-00001-of-0000N.gguf that
// gguf-split and its kin write (keys split.no, split.count, split.tensors.count).
//
// Owns the mappings. The first shard's metadata are the model's; the others have little but the
// split's keys.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "io/gguf.h"

namespace fathom {

class GgufFiles {
 public:
  // `path`: the file, or any shard of a set. Errors: as parse_gguf; a shard that is missing, is out
  // of place or repeats a tensor; a set with more or fewer tensors than it says.
  static Result<std::unique_ptr<GgufFiles>> open(const std::string& path);

  const GgufMetadata& metadata() const { return metadata_; }
  uint32_t version() const { return version_; }
  std::size_t shards() const { return mapped_.size(); }
  // The single file, or the first shard.
  const std::string& path() const { return path_; }
  // All shards' tensors by GGUF name.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }

 private:
  Status add(const std::string& path, GgufFile& parsed);
  Status open_rest(int64_t count);

  std::string path_;
  uint32_t version_ = 0;
  std::vector<MappedFile> mapped_;
  GgufMetadata metadata_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

// The GGUF model that stands in `directory`: the path of its only .gguf file, or of the first shard
// of its only set; "" if there is none. Error: several, listed.
Result<std::string> find_gguf(const std::string& directory);

}  // namespace fathom
