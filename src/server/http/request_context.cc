// Look-ups of RequestContext and Headers. See request_context.h.
#include "server/http/request_context.h"

#include <algorithm>

namespace fathom::server {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

void Headers::set(std::string_view name, std::string value) {
  for (auto& field : fields_) {
    if (!equals_ignoring_case(field.first, name)) continue;
    field.second = std::move(value);
    return;
  }
  add(std::string(name), std::move(value));
}

std::optional<std::string_view> Headers::get(std::string_view name) const {
  for (const auto& [key, value] : fields_)
    if (equals_ignoring_case(key, name)) return value;
  return std::nullopt;
}

std::size_t Headers::count(std::string_view name) const {
  return static_cast<std::size_t>(
      std::count_if(fields_.begin(), fields_.end(),
                    [name](const auto& field) { return equals_ignoring_case(field.first, name); }));
}

std::string_view RequestContext::param(std::string_view name) const {
  for (const auto& [key, value] : params)
    if (key == name) return value;
  return {};
}

std::optional<std::string_view> RequestContext::query(std::string_view name) const {
  for (const auto& [key, value] : queries)
    if (key == name) return value;
  return std::nullopt;
}

}  // namespace fathom::server
