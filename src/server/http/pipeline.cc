// The checks before a handler, in order. See pipeline.h.
#include "server/http/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/limits.h"
#include "server/http/target.h"

namespace fathom::server {
namespace {

bool is_sane_request_id(std::string_view id) {
  return !id.empty() && id.size() <= limits::kHttpMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == ':';
         });
}

void set_request_id(std::string id, Admission& admission) {
  admission.headers.emplace_back("x-request-id", id);
  admission.headers.emplace_back("x-ds-trace-id", id);
  admission.context.request_id = std::move(id);
}

HttpError not_allowed(std::string_view method, const std::vector<std::string>& allowed) {
  const std::string list = fmt::format("{}", fmt::join(allowed, ", "));
  HttpError error =
      http_error(405, fmt::format("Method {} is not allowed here, expected {}", method, list));
  error.headers.emplace_back("Allow", list);
  return error;
}

}  // namespace

std::string make_request_id() {
  std::array<unsigned char, 16> bytes{};
  FATHOM_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

Admission Pipeline::refuse(HttpError error) const {
  Admission admission;
  set_request_id(make_request_id(), admission);
  admission.refusal = std::move(error);
  return admission;
}

void Pipeline::add_cors(const RequestHead& head, const std::vector<std::string>& allowed,
                        Admission& admission) const {
  if (options_.cors_origins.empty()) return;
  admission.headers.emplace_back("Vary", "Origin");
  const auto origin = head.headers.get("origin");
  if (!origin) return;
  const auto& origins = options_.cors_origins;
  const bool all = std::find(origins.begin(), origins.end(), "*") != origins.end();
  if (!all && std::find(origins.begin(), origins.end(), *origin) == origins.end()) return;
  admission.headers.emplace_back("Access-Control-Allow-Origin", all ? "*" : std::string(*origin));
  admission.headers.emplace_back("Access-Control-Expose-Headers",
                                 "x-request-id, x-ds-trace-id, Retry-After");
  if (head.method != "OPTIONS" || !head.headers.get("access-control-request-method")) return;
  admission.headers.emplace_back("Access-Control-Allow-Methods",
                                 fmt::format("{}", fmt::join(allowed, ", ")));
  admission.headers.emplace_back(
      "Access-Control-Allow-Headers",
      "Authorization, Content-Type, X-Api-Key, X-Request-Id, Anthropic-Version, Anthropic-Beta, "
      "Idempotency-Key, Last-Event-ID");
  admission.headers.emplace_back("Access-Control-Max-Age", "600");
}

std::optional<HttpError> Pipeline::authorize(Admission& admission) const {
  RequestContext& context = admission.context;
  const Route& route = *context.route;
  if (route.permission == Permission::kPublic) return std::nullopt;
  if (options_.authenticator == nullptr)
    return http_error(403, "This server answers public paths only");
  auto identity = options_.authenticator->authenticate(context.headers);
  if (auto* refused = std::get_if<HttpError>(&identity)) return std::move(*refused);
  context.principal = std::move(std::get<Principal>(identity));
  if (!context.principal.permissions.has(route.permission))
    return http_error(403, fmt::format("'{}' may not call {} {}", context.principal.name,
                                       route.method, route.pattern));
  return std::nullopt;
}

Admission Pipeline::admit(const RequestHead& head, std::string remote_address) const {
  Admission admission;
  RequestContext& context = admission.context;
  context.method = head.method;
  context.remote_address = std::move(remote_address);
  const auto id = head.headers.get("x-request-id");
  set_request_id(id && is_sane_request_id(*id) ? std::string(*id) : make_request_id(), admission);

  auto target = parse_target(head.target);
  if (!target || (target->asterisk && head.method != "OPTIONS")) {
    admission.refusal = http_error(
        400, target ? "Malformed request: '*' is for OPTIONS only" : target.error().message);
    return admission;
  }
  context.path = target->path;
  context.queries = std::move(target->queries);
  context.headers = head.headers;
  // An absolute target wins over the Host field (RFC 9112, section 3.2.2).
  if (!target->authority.empty()) context.headers.set("Host", std::move(target->authority));
  if (target->asterisk) {
    admission.options = true;
    return admission;
  }
  Router::Match match = options_.router->match(head.method, target->segments);
  admission.error_format = options_.router->error_format(context.path);
  add_cors(head, match.allowed, admission);
  if (match.route == nullptr) {
    if (match.allowed.empty()) {
      admission.refusal = http_error(404, fmt::format("No such path: {}", context.path));
    } else if (head.method == "OPTIONS") {
      admission.options = true;
      admission.headers.emplace_back("Allow", fmt::format("{}", fmt::join(match.allowed, ", ")));
    } else {
      admission.refusal = not_allowed(head.method, match.allowed);
    }
    return admission;
  }
  context.params = std::move(match.params);
  context.route = match.route;
  admission.error_format = match.route->error_format;
  admission.refusal = authorize(admission);
  if (admission.refusal) return admission;
  if (const auto coding = head.headers.get("content-encoding");
      coding && !equals_ignoring_case(*coding, "identity")) {
    admission.refusal =
        http_error(415, "Content-Encoding is not supported, send the body as it is");
    return admission;
  }
  if (options_.quota != nullptr) {
    QuotaDecision decision = options_.quota->enter(context, match.route->quota);
    if (!decision.allowed) {
      admission.refusal = http_error(429, std::move(decision.message));
      admission.refusal->retry_after_s = decision.retry_after_s;
      return admission;
    }
    admission.quota_lease = std::move(decision.lease);
  }
  admission.route = match.route;
  return admission;
}

}  // namespace fathom::server
