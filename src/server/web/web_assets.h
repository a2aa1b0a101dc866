// The web page as it is compiled into the program: web/'s built files, looked up by their path.
//
// Owns no HTTP: server/http chooses between body and gzip_body and writes the headers. The files
// stand in assets/, built by scripts/build_web.sh and committed, so that building fathom needs no
// npm.
#pragma once

#include <optional>
#include <string_view>

namespace fathom::server {

// All views last as long as the program.
struct WebAsset {
  std::string_view content_type;
  std::string_view
      etag;  // with its quotes; gzip_body has the same with "-gz" before the last quote
  std::string_view gzip_etag;  // empty if gzip_body is
  std::string_view body;
  std::string_view gzip_body;      // Content-Encoding: gzip; empty where compression gains nothing
  std::string_view cache_control;  // "no-cache", or a year for files whose name holds their hash
};

// path: of the request, without the query, e.g. "/" or "/static/index-CdEf.js". "/" is the page
// itself.
std::optional<WebAsset> find_web_asset(std::string_view path);

// Header Content-Security-Policy of every asset. The page asks this server only, runs no inline
// script, and takes HTML from the sanitiser alone; nobody may frame it. The same policy, less the
// framing, stands in the page.
inline constexpr std::string_view kContentSecurityPolicy =
    "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify; frame-ancestors 'none'";

}  // namespace fathom::server
