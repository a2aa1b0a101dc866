#include "apps/served_engine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "apps/compute.h"
#include "grammar/constraint.h"
#include "grammar/matcher.h"
#include "grammar/token_masker.h"
#include "kv_disk/disk_tier.h"
#include "kv_disk/master_key.h"

namespace fathom {
namespace {

constexpr std::size_t kCachedGrammars = 64;
constexpr int64_t kGrammarCacheBytes = int64_t{512} << 20;

// A grammar that begins at once, or behind the token that ends a thought.
class GrammarConstraint final : public TokenConstraint {
 public:
  GrammarConstraint(Matcher matcher, std::size_t mask_words, std::vector<int32_t> starts_after)
      : matcher_(std::move(matcher)),
        bits_(mask_words),
        starts_after_(std::move(starts_after)),
        started_(starts_after_.empty()) {}

  void mask(std::span<float> logits) override {
    if (!started_) return;
    matcher_.fill_mask(bits_);
    for (std::size_t i = 0; i < logits.size(); ++i)
      if (i / 64 >= bits_.size() || (bits_[i / 64] >> (i % 64) & 1) == 0) logits[i] = -INFINITY;
  }
  void accept(int32_t token) override {
    if (started_) {
      matcher_.accept(token);
    } else {
      started_ =
          std::find(starts_after_.begin(), starts_after_.end(), token) != starts_after_.end();
    }
  }

 private:
  Matcher matcher_;
  std::vector<uint64_t> bits_;
  std::vector<int32_t> starts_after_;
  bool started_;
};

ConstraintFactory constraints_of(const LoadedModel& loaded) {
  if (loaded.tokenizer == nullptr) return {};
  struct Shared {
    GrammarCache grammars{kCachedGrammars, kGrammarCacheBytes};
    std::shared_ptr<const TokenMasker> masker;  // made when first asked for: it takes a second
  };
  auto shared = std::make_shared<Shared>();
  const Tokenizer* const tokenizer = loaded.tokenizer.get();
  const int64_t vocab = loaded.model->info().vocab_size;
  std::vector<int32_t> stops(loaded.files.eos_token_ids.begin(), loaded.files.eos_token_ids.end());
  return [shared, tokenizer, vocab,
          stops](const ConstraintSpec& spec) -> Result<std::unique_ptr<TokenConstraint>> {
    const auto kind = spec.kind == ConstraintSpec::Kind::kJsonObject   ? ConstraintKind::kJsonObject
                      : spec.kind == ConstraintSpec::Kind::kJsonSchema ? ConstraintKind::kJsonSchema
                                                                       : ConstraintKind::kToolCalls;
    FATHOM_TRY(auto grammar, shared->grammars.get(kind, spec.text));
    if (shared->masker == nullptr) {
      FATHOM_TRY(shared->masker, TokenMasker::create(*tokenizer, vocab));
    }
    return std::unique_ptr<TokenConstraint>(
        new GrammarConstraint(Matcher(std::move(grammar), shared->masker, stops),
                              shared->masker->mask_words(), spec.starts_after));
  };
}

int64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  std::string name, rest;
  int64_t kib = 0;
  while (in >> name >> kib && std::getline(in, rest))
    if (name == "MemAvailable:") return kib * 1024;
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE) / 2;
}

// Of names, types, sizes and the ends of every tensor: enough to tell two models apart.
std::string model_hash(const ModelFiles& files, const ComputeFlags& compute) {
  uint64_t hash = 0xCBF29CE484222325;
  const auto mix = [&](const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001B3;
  };
  files.weights->for_each([&](const std::string& name, const StoredTensor& t) {
    mix(name.data(), name.size());
    const auto bytes = static_cast<uint64_t>(t.data.size());
    mix(&bytes, sizeof(bytes));
    const std::size_t ends = std::min<std::size_t>(t.data.size(), 64);
    mix(t.data.data(), ends);
    mix(t.data.data() + t.data.size() - ends, ends);
  });
  return fmt::format("{:016x}/{}/{}{}", hash, compute.compute, compute.kv,
                     compute.simulate_quantised_cache ? "/simulated" : "");
}

}  // namespace

Result<CacheSize> cache_size(const ServedEngineOptions& o, const LoadedModel& loaded) {
  const Model& model = *loaded.model;
  const ComputeFlags& c = o.compute;
  const double bytes = std::max(kv_bytes_per_token(model.kv_layers(), c.kv_type(model)), 1.0);
  FATHOM_TRY(const auto device,
             device_cache_bytes(c, *loaded.files.weights, o.gpu_memory_utilization));
  // Of one rank: all have as many rows.
  const int64_t memory = device.value_or(available_memory() / 4 / c.tensor_parallel);
  const auto fitting = static_cast<int64_t>(static_cast<double>(memory) / bytes);
  const int64_t room = std::max(fitting / kDefaultPageTokens, int64_t{1}) * kDefaultPageTokens;
  CacheSize size;
  size.context_tokens = o.context_tokens > 0 ? o.context_tokens : model.info().max_context_tokens;
  size.cache_tokens = o.cache_tokens > 0 ? o.cache_tokens
                                         : std::min(size.context_tokens * o.max_running,
                                                    std::max(room, o.context_tokens));
  size.context_tokens = std::min(size.context_tokens, size.cache_tokens);
  return size;
}

Result<std::unique_ptr<ServedEngine>> load_served_engine(const ServedEngineOptions& options) {
  auto out = std::make_unique<ServedEngine>();
  FATHOM_TRY(out->loaded, load(options.model, options.compute));
  FATHOM_TRY(out->ops, make_ops(options.compute, out->loaded));
  out->progress = std::make_unique<worker::ProgressOps>(*out->ops);
  const Model& model = *out->loaded.model;
  FATHOM_TRY(const CacheSize size, cache_size(options, out->loaded));
  out->engine_options = {.cache_tokens = size.cache_tokens,
                         .context_tokens = size.context_tokens,
                         .max_sequences = options.max_running,
                         .kv_type = options.compute.kv_type(model),
                         .speculate_up_to = options.speculate_up_to,
                         .constraints = constraints_of(out->loaded)};
  out->kv_disk = options.kv_disk;
  out->fingerprint = {FATHOM_VERSION, model_hash(out->loaded.files, options.compute),
                      std::string(out->ops->description())};
  return out;
}

Result<std::unique_ptr<Engine>> make_engine(ServedEngine& served, int memory_fd) {
  EngineOptions options = served.engine_options;
  const worker::Fingerprint& f = served.fingerprint;
  const std::string identity = fmt::format("{}/{}/{}", f.build, f.model, f.backend);
  // What a GPU holds is lost with its process: the next one computes it again.
  const bool on_host = served.ops->cache_memory().on_host();
  if (memory_fd >= 0 && on_host) options.shared_memory = SharedKvMemory{memory_fd, identity};
  std::unique_ptr<PageTier> tier;
  if (const KvDiskOptions& disk = served.kv_disk; !disk.directory.empty()) {
    if (!on_host)
      return invalid_argument(
          "kv_disk: expected none, the cache of a GPU or of several ranks has no second tier yet");
    FATHOM_TRY(const kv_disk::SecretKey key, kv_disk::read_or_make_master_key(disk.key_file));
    FATHOM_TRY(tier,
               kv_disk::DiskTier::open(
                   {.directory = disk.directory,
                    .max_bytes = disk.max_bytes,
                    .key = key,
                    .identity = fmt::format("{}/{}", identity, dtype_name(options.kv_type))}));
  }
  return Engine::create(*served.loaded.model, *served.progress, options, std::move(tier));
}

Result<std::string> default_kv_disk_key() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const std::string name = "kv_disk.key";
  if (const std::string state = variable("STATE_DIRECTORY"); !state.empty())
    return state.substr(0, state.find(':')) + "/" + name;
  if (const std::string state = variable("XDG_STATE_HOME"); !state.empty())
    return state + "/fathom/" + name;
  if (const std::string home = variable("HOME"); !home.empty())
    return home + "/.local/state/fathom/" + name;
  return invalid_argument("kv_disk.key_file: not given, and there is no home directory for it");
}

}  // namespace fathom
