// The lookup. The table itself is made by embed_assets.cmake.
#include "server/web/web_assets.h"

#include <algorithm>

#include "server/web/embedded_assets.h"

namespace fathom::server {

std::optional<WebAsset> find_web_asset(std::string_view path) {
  if (path == "/") path = "/index.html";
  const auto assets = embedded_assets();
  const auto found = std::lower_bound(
      assets.begin(), assets.end(), path,
      [](const EmbeddedAsset& entry, std::string_view wanted) { return entry.path < wanted; });
  if (found == assets.end() || found->path != path) return std::nullopt;
  return found->asset;
}

}  // namespace fathom::server
