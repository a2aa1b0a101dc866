// The OpenAPI 3.1 document at GET /openapi.json, made of the tables that validate requests.
//
// Request schemas cannot drift from the code: they are printed from the field tables. Response
// schemas are written here, and the tests hold every body and event that the formatters make
// against them. api_routes() lists what the router must serve, and no more.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fathom::server::api {

struct ApiRoute {
  std::string_view method;  // "post"
  std::string_view path;    // "/v1/models/{model}"
  std::string_view summary;
  std::string_view request;   // a component; "" for none
  std::string_view response;  // a component; "" for text that is not JSON
  bool streams = false;       // may answer with server-sent events
  bool open = false;          // needs no key
};

std::span<const ApiRoute> api_routes();
std::string openapi_body(std::string_view version);

}  // namespace fathom::server::api
