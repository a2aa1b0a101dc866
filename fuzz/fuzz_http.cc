// Fuzzes the path of a request: bytes of a connection -> parser -> pipeline and router, as a
// connection drives them, without sockets.
//
// The first byte chooses how many bytes arrive at a time. Properties beyond "no crash": the parser
// never takes more than it was given; what it takes of the same bytes does not depend on the pieces
// in which they arrive; a body stays within its limit; every refusal has a JSON body; a path that
// reaches a route holds no "..".
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "server/http/pipeline.h"
#include "server/http/request_parser.h"
#include "server/http/router.h"

namespace fathom::server {
namespace {

constexpr int64_t kMaxBody = 1000;

// What a connection made of its bytes, to compare with another way of cutting them.
struct Outcome {
  std::vector<std::string> requests;  // method, target, body
  int status = 0;                     // of the refusal that ended it
  bool operator==(const Outcome&) const = default;
};

const Router& router() {
  static const Router* table = [] {
    auto* r = new Router;
    for (const char* method : {"GET", "POST"}) {
      for (const char* pattern :
           {"/health", "/v1/models/{model}", "/v1/chat/completions", "/files/{path*}"}) {
        Route route;
        route.method = method;
        route.pattern = pattern;
        route.permission = pattern[1] == 'h' ? Permission::kPublic : Permission::kInfer;
        route.handler = [](RequestContext&, Responder&) -> boost::asio::awaitable<void> {
          co_return;
        };
        r->add(std::move(route));
      }
    }
    r->set_error_format("/anthropic", anthropic_error_body);
    return r;
  }();
  return *table;
}

void check_refusal(const HttpError& error, ErrorFormat format) {
  FATHOM_CHECK(error.status >= 400 && error.status < 600) << error.status;
  const std::string body = format(error, "id");
  FATHOM_CHECK(utf8_is_valid(body));
  FATHOM_CHECK(nlohmann::json::accept(body)) << body;
}

void admit(const RequestHead& head) {
  static const OpenAuthenticator open({"https://app.example"}, {"fathom.example"});
  Pipeline::Options options;
  options.router = &router();
  options.authenticator = &open;
  options.cors_origins = {"https://app.example"};
  const Admission admission = Pipeline(std::move(options)).admit(head, "fuzz");
  FATHOM_CHECK_EQ((admission.route != nullptr) + admission.refusal.has_value() + admission.options,
                  1);
  if (admission.refusal) check_refusal(*admission.refusal, admission.error_format);
  if (admission.route == nullptr) return;
  const std::string& path = admission.context.path;
  FATHOM_CHECK(path.starts_with('/') && utf8_is_valid(path));
  FATHOM_CHECK(path.find("/../") == std::string::npos && !path.ends_with("/..")) << path;
  FATHOM_CHECK(path.find('\0') == std::string::npos);
}

// One connection whose bytes arrive `step` at a time.
Outcome drive(std::string_view input, std::size_t step) {
  Outcome outcome;
  std::string buffer;
  std::size_t arrived = 0;
  RequestParser::Limits limits;
  limits.max_header_bytes = 2000;
  auto parser = std::make_unique<RequestParser>(limits);
  for (;;) {
    RequestParser::Progress progress;
    const bool was_head = parser->head_complete();
    progress = was_head ? parser->parse_body(buffer) : parser->parse_head(buffer);
    FATHOM_CHECK(progress.consumed <= buffer.size());
    buffer.erase(0, progress.consumed);
    if (progress.error) {
      check_refusal(*progress.error, deepseek_error_body);
      outcome.status = progress.error->status;
      return outcome;
    }
    if (!was_head && parser->head_complete()) {
      admit(parser->head());
      parser->set_max_body_bytes(kMaxBody);
      if (!parser->complete()) continue;
    }
    FATHOM_CHECK(parser->body_bytes() <= kMaxBody);
    if (parser->head_complete() && parser->complete()) {
      const RequestHead& head = parser->head();
      outcome.requests.push_back(head.method + " " + head.target + " " + parser->take_body());
      if (!head.keep_alive) return outcome;
      parser = std::make_unique<RequestParser>(limits);
      if (!buffer.empty()) continue;
    }
    if (arrived == input.size() || buffer.size() > 4000) return outcome;
    const std::size_t bytes = std::min(step, input.size() - arrived);
    buffer.append(input.substr(arrived, bytes));
    arrived += bytes;
  }
}

}  // namespace
}  // namespace fathom::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = fathom::server::drive(input, 1 + data[0]);
  const auto bytes = fathom::server::drive(input, 1);
  FATHOM_CHECK_EQ(whole.requests.size(), bytes.requests.size());
  FATHOM_CHECK(whole.requests == bytes.requests);
  return 0;
}
