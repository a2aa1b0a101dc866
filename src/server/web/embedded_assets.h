// What the generated embedded_assets.cc holds; besides web_assets.cc, server/handlers/page.cc lists
// them for its rows.
#pragma once

#include <span>
#include <string_view>

#include "server/web/web_assets.h"

namespace fathom::server {

struct EmbeddedAsset {
  std::string_view path;  // with its leading slash
  WebAsset asset;
};

// In the order of their paths, compared as bytes.
std::span<const EmbeddedAsset> embedded_assets();

}  // namespace fathom::server
