// Fuzzes fathom.yaml: the guard, yaml-cpp behind it, and the walk by the table.
//
// Properties beyond "no crash": an error has a message of valid UTF-8 that begins with the file's
// name; a text that the guard refuses is refused as a whole; a second parse gives the same answer.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "server/config/load_config.h"
#include "server/config/yaml_guard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using fathom::server::parse_config;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = parse_config(text, "f.yaml");
  const bool plain = fathom::server::check_yaml(text, "f.yaml").has_value();
  FATHOM_CHECK(plain || !config);
  if (!config) {
    FATHOM_CHECK(fathom::utf8_is_valid(config.error().message));
    FATHOM_CHECK(config.error().message.starts_with("f.yaml:")) << config.error().message;
  }
  const auto again = parse_config(text, "f.yaml");
  FATHOM_CHECK_EQ(again.has_value(), config.has_value());
  return 0;
}
