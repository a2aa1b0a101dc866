// What happens to a request between its head and its handler: target, route, identity, permission,
// quota, cross-origin headers. Default deny.
//
// Owns the order of these checks, and no I/O: the connection feeds it heads and sends what it says.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/http/authenticator.h"
#include "server/http/http_error.h"
#include "server/http/quota.h"
#include "server/http/request_context.h"
#include "server/http/request_parser.h"
#include "server/http/responder.h"
#include "server/http/router.h"

namespace fathom::server {

// How one request goes on.
struct Admission {
  RequestContext context;
  // Exactly one of the three: a handler is called, the request is refused, or it is answered here
  // (OPTIONS) by 204 and `headers`.
  const Route* route = nullptr;
  std::optional<HttpError> refusal;
  bool options = false;

  ErrorFormat error_format = deepseek_error_body;
  ExtraHeaders headers;  // of every answer: request ids, CORS
  std::shared_ptr<void> quota_lease;
};

class Pipeline {
 public:
  struct Options {
    const Router* router = nullptr;                // must outlive this, as must the two below
    const Authenticator* authenticator = nullptr;  // null: only public routes answer
    Quota* quota = nullptr;                        // null: none
    std::vector<std::string> cors_origins;         // "*": all; empty: no CORS headers
  };
  explicit Pipeline(Options options) : options_(std::move(options)) {}

  Admission admit(const RequestHead& head, std::string remote_address) const;
  // An admission for what could not be parsed: `error`, with a request id.
  Admission refuse(HttpError error) const;

 private:
  void add_cors(const RequestHead& head, const std::vector<std::string>& allowed,
                Admission& admission) const;
  std::optional<HttpError> authorize(Admission& admission) const;
  Options options_;
};

// 32 hexadecimal digits from the system's random generator.
std::string make_request_id();

}  // namespace fathom::server
