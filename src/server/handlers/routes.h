// The rows of the router, and the handlers behind them: what joins HTTP to the pure code of api/.
//
// Owns the endpoints' order of steps: parse, find the model, prepare, submit, send. Does not own
// sockets (http/), what requests and answers look like (api/), or engines (service.h). Everything
// runs on the front's one io_context thread; long parsing and tokenising goes to `pool`.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "server/http/router.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/service.h"

namespace boost::asio {
class thread_pool;
}

namespace fathom::server {

class GenerationMetrics;
class ResponseStore;

// All that is referred to must outlive the handlers, those that run detached included: call
// stop_background() and let the io_context run dry, or destroy the io_context first.
struct HandlerDeps {
  ModelService& service;
  Metrics& metrics;
  boost::asio::thread_pool& pool;
  std::string version;

  Log* log = nullptr;         // null: nothing is logged
  bool log_prompts = false;   // prompts and answers too
  bool metrics_open = false;  // GET /metrics asks for no key

  // A stream that has nothing to say sends a comment this often.
  std::chrono::milliseconds keep_alive{10'000};
  // A whole answer that is not ready by then begins with status 200 and blank lines, so that
  // proxies do not give up (nginx does after 60 s). Its status then no longer tells of a failure,
  // so this is late.
  std::chrono::milliseconds body_keep_alive{30'000};

  std::function<std::string()> make_id;   // empty: 32 random hexadecimal digits
  std::function<uint64_t()> random_seed;  // empty: the system's generator
  std::function<void(nlohmann::json&)>
      complete_status;  // adds to /status what only the caller knows

  // Made by add_routes().
  std::shared_ptr<GenerationMetrics> generation_metrics;
  std::shared_ptr<ResponseStore> responses;
};

// `deps` is kept by reference. Call once per Router and HandlerDeps.
void add_routes(Router& router, HandlerDeps& deps);

// Cancels the responses that run in the background, as a drain does with the others.
void stop_background(HandlerDeps& deps);

}  // namespace fathom::server
