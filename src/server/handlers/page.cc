// The web page's files: public, with caching, compression and the headers that confine the page.
//
// Owns no content (web/). One row per file, so that a path that is none stays 404.
#include <algorithm>
#include <string>
#include <utility>

#include "server/handlers/groups.h"
#include "server/http/router.h"
#include "server/web/embedded_assets.h"
#include "server/web/web_assets.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls fn with each entry of a list that is separated by commas, until it returns true.
template <typename Fn>
bool any_entry(std::string_view list, const Fn& fn) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (fn(trimmed(list.substr(0, comma)))) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

// "gzip", and not "gzip;q=0" (RFC 9110, 12.5.3).
bool accepts_gzip(const Headers& headers) {
  return any_entry(headers.get("Accept-Encoding").value_or(""), [](std::string_view entry) {
    const std::size_t semicolon = std::min(entry.find(';'), entry.size());
    if (!equals_ignoring_case(trimmed(entry.substr(0, semicolon)), "gzip")) return false;
    std::string_view rest = trimmed(entry.substr(std::min(semicolon + 1, entry.size())));
    if (!rest.starts_with("q=") && !rest.starts_with("Q=")) return true;
    rest.remove_prefix(2);
    // More than zero: some digit is not 0.
    return rest.find_first_of("123456789") != rest.npos;
  });
}

// Either form's tag says that the client has the file (RFC 9110, 13.1.2: weak comparison).
bool is_known(const Headers& headers, const WebAsset& asset) {
  return any_entry(headers.get("If-None-Match").value_or(""), [&](std::string_view tag) {
    if (tag == "*") return true;
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    return tag == asset.etag || (!asset.gzip_etag.empty() && tag == asset.gzip_etag);
  });
}

asio::awaitable<void> send_asset(WebAsset asset, RequestContext& context, Responder& responder) {
  const bool gzip = !asset.gzip_body.empty() && accepts_gzip(context.headers);
  ExtraHeaders headers;
  headers.emplace_back("ETag", gzip ? asset.gzip_etag : asset.etag);
  headers.emplace_back("Cache-Control", asset.cache_control);
  headers.emplace_back("Vary", "Accept-Encoding");
  headers.emplace_back("Content-Security-Policy", kContentSecurityPolicy);
  headers.emplace_back("Referrer-Policy", "no-referrer");
  if (is_known(context.headers, asset)) {
    co_await responder.send(304, "", "", std::move(headers));
    co_return;
  }
  if (gzip) headers.emplace_back("Content-Encoding", "gzip");
  std::string body(gzip ? asset.gzip_body : asset.body);
  co_await responder.send(200, std::string(asset.content_type), std::move(body),
                          std::move(headers));
}

void add_file(Router& router, std::string pattern, const WebAsset& asset) {
  Route route;
  route.method = "GET";
  route.pattern = std::move(pattern);
  route.permission = Permission::kPublic;
  route.handler = [asset](RequestContext& context, Responder& responder) {
    return send_asset(asset, context, responder);
  };
  router.add(std::move(route));
}

}  // namespace

void add_page_routes(Router& router) {
  if (const auto page = find_web_asset("/")) add_file(router, "/", *page);
  for (const EmbeddedAsset& file : embedded_assets())
    add_file(router, std::string(file.path), file.asset);
}

}  // namespace fathom::server
