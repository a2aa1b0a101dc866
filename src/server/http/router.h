// The table of routes: which handler answers which method and path, and under which conditions.
//
// Owns matching; default deny: what has no row is 404. Every alias is a row of its own, so that the
// table shows all there is. Does not check permissions or run handlers (pipeline.h, connection.cc).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/http_error.h"
#include "server/http/request_context.h"
#include "server/http/responder.h"

namespace fathom::server {

// Both outlive the returned coroutine.
using Handler = std::function<boost::asio::awaitable<void>(RequestContext&, Responder&)>;

// What a request counts against (quota.h).
enum class QuotaClass : uint8_t {
  kNone,
  kLight,      // answered at once
  kInference,  // occupies an engine
};

struct Route {
  std::string method;   // "GET" also answers HEAD
  std::string pattern;  // "/v1/models/{model}"; a last "{name*}" takes all that is left
  Permission permission = Permission::kAdmin;
  QuotaClass quota = QuotaClass::kNone;
  std::string audit;  // what an audit log calls it: "chat.create"; empty: not worth one
  Handler handler;
  int64_t max_body_bytes = 0;  // 0: the server's limit; never above it
  ErrorFormat error_format = deepseek_error_body;
};

class Router {
 public:
  // A second row with the same method and pattern is a programmer error, as is a malformed pattern.
  void add(Route route);
  // Errors under `prefix` that no row answers (404, 405) have this form; "/anthropic".
  void set_error_format(std::string prefix, ErrorFormat format);

  struct Match {
    const Route* route = nullptr;  // none: see `allowed`
    std::vector<std::pair<std::string, std::string>> params;
    std::vector<std::string> allowed;  // methods of the rows whose pattern fits; empty: 404
  };
  // Literal segments win over {param}, and those over {param*}.
  Match match(std::string_view method, const std::vector<std::string>& segments) const;
  ErrorFormat error_format(std::string_view path) const;
  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;
  std::vector<std::vector<std::string>> patterns_;  // segments of routes_[i].pattern
  std::vector<std::pair<std::string, ErrorFormat>> formats_;
};

}  // namespace fathom::server
