// What a handler may ask of the engines: the models that are served, and answers from them.
//
// Owns the interface only. server/dispatch implements it over worker processes (or an engine in
// this process); handlers know nothing of workers, crashes or restarts. Everything here is used on
// the front's one io_context thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/chat.h"
#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace fathom::server {

// One model that can be asked.
struct ServedModel {
  std::string id;  // [a-z0-9._-]{1,64}
  int64_t created_unix_s = 0;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: token ids only
  std::optional<ChatFamily> chat_family;       // none: no chat, plain completions only
  int64_t context_tokens = 0;
  int64_t vocab_size = 0;
  std::vector<int32_t> eos_token_ids;
  SamplingParams default_sampling;  // of its generation_config.json
  std::string fingerprint;          // system_fingerprint: "fp_" and 10 hexadecimal digits
};

struct GenerationSpec {
  std::shared_ptr<const ServedModel> model;
  Request request;  // its tenant isolates cached prompts and shares the machine fairly
  std::string request_id;
};

struct GenerationEvent {
  enum class Kind : uint8_t {
    kTokens,    // one or more tokens, in order
    kFinished,  // the answer is complete
    kFailed,    // it cannot be completed
    kIdle,      // nothing came within the time given to next()
  };
  Kind kind = Kind::kIdle;
  std::vector<SampledToken> tokens;
  FinishReason finish = FinishReason::kStop;
  Error error;
  int64_t cached_prompt_tokens = 0;  // of the prompt, found in the cache; from the first kTokens on
};

// One answer on its way. Destroying it cancels it and frees what it holds.
class Generation {
 public:
  virtual ~Generation() = default;
  // The next event. One call at a time. After kFinished or kFailed it must not be called again.
  virtual boost::asio::awaitable<GenerationEvent> next(std::chrono::milliseconds timeout) = 0;
};

class ModelService {
 public:
  virtual ~ModelService() = default;
  virtual std::vector<std::shared_ptr<const ServedModel>> models() const = 0;
  // By id or alias; null if there is none.
  virtual std::shared_ptr<const ServedModel> find(std::string_view name) const = 0;
  // Errors: kInvalidArgument (Engine::submit's), kResourceLimit (the queue is full: HTTP 429),
  // kUnavailable (no worker is up and none will be: HTTP 503).
  virtual Result<std::unique_ptr<Generation>> submit(GenerationSpec spec) = 0;
  // Starts the engines of a model that was unloaded; nothing where they run. Errors: kNotFound;
  // those of an engine in this process.
  virtual Status load(std::string_view name) = 0;
  // A model keeps its place in the list and takes no requests; once those in flight have ended, its
  // engines end and their memory is free. Errors: kNotFound.
  virtual Status unload(std::string_view name) = 0;
  // Engines forget what they hold of a tenant, in memory and on disk, before their next step; its
  // requests end with an error. Errors: kUnavailable (no engine is up).
  virtual Status erase_tenant(const std::string& tenant) = 0;
  // What GET /status shows.
  virtual nlohmann::json status() const = 0;
};

}  // namespace fathom::server
