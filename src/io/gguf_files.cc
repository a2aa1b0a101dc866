#include "io/gguf_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"

namespace fathom {
namespace {

// "NAME-00002-of-00003.gguf" taken apart.
struct ShardName {
  std::string prefix;  // with its directory
  int64_t number = 0;  // from 1
  int64_t count = 0;
};

std::string shard_path(const std::string& prefix, int64_t number, int64_t count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number, count);
}

std::optional<ShardName> parse_shard_name(const std::string& path) {
  constexpr std::size_t kTail = sizeof("-00001-of-00003.gguf") - 1;
  if (path.size() <= kTail) return std::nullopt;
  const std::string tail = path.substr(path.size() - kTail);
  ShardName name{.prefix = path.substr(0, path.size() - kTail)};
  for (int i = 0; i < 5; ++i) {
    for (const auto& [place, value] : {std::pair(1 + i, &name.number), {10 + i, &name.count}}) {
      const char c = tail[static_cast<std::size_t>(place)];
      if (c < '0' || c > '9') return std::nullopt;
      *value = *value * 10 + (c - '0');
    }
  }
  if (path != shard_path(name.prefix, name.number, name.count)) return std::nullopt;
  return name;
}

struct Split {
  int64_t number = 0;  // from 0
  int64_t count = 1;
};

Result<Split> read_split(const GgufMetadata& metadata) {
  Split split;
  FATHOM_TRY(split.count, metadata.integer_or("split.count", 1, 0, limits::kMaxShards));
  if (split.count <= 1) return Split{};
  FATHOM_TRY(split.number, metadata.integer("split.no", 0, split.count - 1));
  return split;
}

}  // namespace

Status GgufFiles::add(const std::string& path, GgufFile& parsed) {
  for (auto it = parsed.tensors.begin(); it != parsed.tensors.end();) {
    auto node = parsed.tensors.extract(it++);
    const auto inserted = tensors_.insert(std::move(node));
    if (!inserted.inserted) {
      return invalid_argument(fmt::format("{}: tensor {} stands in {} too", path,
                                          json_preview(nlohmann::json(inserted.position->first)),
                                          inserted.position->second.file));
    }
  }
  if (tensors_.size() > static_cast<std::size_t>(limits::kMaxTensorsPerModel)) {
    return resource_limit(fmt::format("{}: {} tensors up to here, the limit is {}", path,
                                      tensors_.size(), limits::kMaxTensorsPerModel));
  }
  return {};
}

// The shards behind the first, which is open.
Status GgufFiles::open_rest(int64_t count) {
  const std::string prefix = parse_shard_name(path_)->prefix;
  for (int64_t i = 1; i < count; ++i) {
    const std::string path = shard_path(prefix, i + 1, count);
    auto mapped = MappedFile::open(path);
    if (!mapped) {
      Error error = std::move(mapped).error();
      error.message += fmt::format(" (shard {} of {} of {})", i + 1, count, path_);
      return error;
    }
    mapped_.push_back(*std::move(mapped));
    FATHOM_TRY(GgufFile parsed, parse_gguf(mapped_.back().bytes(), path));
    FATHOM_TRY(const Split split, read_split(parsed.metadata));
    if (split.count != count || split.number != i) {
      return invalid_argument(
          fmt::format("{}: split.no is {} and split.count is {}, expected {} and {} by its name",
                      path, split.number, split.count, i, count));
    }
    FATHOM_TRY_STATUS(add(path, parsed));
  }
  return {};
}

Result<std::unique_ptr<GgufFiles>> GgufFiles::open(const std::string& path) {
  auto files = std::make_unique<GgufFiles>();
  files->path_ = path;
  FATHOM_TRY(MappedFile mapped, MappedFile::open(path));
  files->mapped_.push_back(std::move(mapped));
  FATHOM_TRY(GgufFile parsed, parse_gguf(files->mapped_.back().bytes(), path));
  FATHOM_TRY(const Split split, read_split(parsed.metadata));
  if (split.count > 1) {
    const auto name = parse_shard_name(path);
    if (!name || name->count != split.count || name->number != split.number + 1) {
      return invalid_argument(
          fmt::format("{}: shard {} of {} by its metadata, so its name should end in "
                      "-{:05}-of-{:05}.gguf: the others are found by it",
                      path, split.number + 1, split.count, split.number + 1, split.count));
    }
    // The first one has the metadata.
    if (split.number != 0) return open(shard_path(name->prefix, 1, name->count));
  }
  files->version_ = parsed.version;
  files->metadata_ = std::move(parsed.metadata);
  FATHOM_TRY_STATUS(files->add(path, parsed));
  if (split.count > 1) FATHOM_TRY_STATUS(files->open_rest(split.count));
  FATHOM_TRY(const int64_t tensors,
             files->metadata_.integer_or("split.tensors.count", 0, 0, limits::kMaxTensorsPerModel));
  if (split.count > 1 && tensors > 0 && tensors != static_cast<int64_t>(files->tensors_.size())) {
    return invalid_argument(fmt::format("{}: split.tensors.count is {}, but the {} shards have {}",
                                        path, tensors, split.count, files->tensors_.size()));
  }
  return files;
}

Result<std::string> find_gguf(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code ec;
  std::vector<std::string> found;
  for (fs::directory_iterator it(directory, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string path = it->path().string();
    if (!path.ends_with(".gguf")) continue;
    const auto shard = parse_shard_name(path);
    if (shard && shard->number != 1) continue;
    found.push_back(path);
  }
  if (ec) return invalid_argument(fmt::format("{}: cannot list it: {}", directory, ec.message()));
  if (found.empty()) return std::string();
  std::sort(found.begin(), found.end());
  if (found.size() == 1) return found.front();
  std::string names;
  for (std::size_t i = 0; i < found.size() && i < 5; ++i)
    names += (i == 0 ? "" : ", ") + fs::path(found[i]).filename().string();
  return invalid_argument(fmt::format("{}: {} GGUF models ({}{}), expected one; name the file",
                                      directory, found.size(), names,
                                      found.size() > 5 ? ", …" : ""));
}

}  // namespace fathom
