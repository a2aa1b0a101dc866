// The groups together, and the defaults of what the caller left out. See routes.h.
#include "server/handlers/routes.h"

#include <random>

#include "server/handlers/generation_metrics.h"
#include "server/handlers/groups.h"
#include "server/handlers/response_store.h"
#include "server/http/pipeline.h"

namespace fathom::server {
namespace {

uint64_t system_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

void add_routes(Router& router, HandlerDeps& deps) {
  if (!deps.make_id) deps.make_id = make_request_id;
  if (!deps.random_seed) deps.random_seed = system_seed;
  deps.generation_metrics = std::make_shared<GenerationMetrics>(deps.metrics);
  deps.generation_metrics->show(deps.service);
  deps.responses = std::make_shared<ResponseStore>(ResponseStore::Limits());
  add_chat_routes(router, deps);
  add_completion_routes(router, deps);
  add_response_routes(router, deps);
  add_anthropic_routes(router, deps);
  add_misc_routes(router, deps);
  add_ops_routes(router, deps);
  add_page_routes(router);
}

void stop_background(HandlerDeps& deps) {
  if (deps.responses != nullptr) deps.responses->cancel_all();
}

}  // namespace fathom::server
