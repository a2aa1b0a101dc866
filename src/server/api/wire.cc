#include "server/api/wire.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace fathom::server::api {

std::string wire_text(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string sse_text(const SseEvent& event) {
  std::string out;
  if (!event.event.empty()) out += "event: " + event.event + "\n";
  if (!event.id.empty()) out += "id: " + event.id + "\n";
  out += "data: " + event.data + "\n\n";
  return out;
}

SseEvent SseCounter::event(std::string name, std::string data) {
  return {std::move(name), fmt::format("{}/{}", request_id_, next_++), std::move(data)};
}

}  // namespace fathom::server::api
