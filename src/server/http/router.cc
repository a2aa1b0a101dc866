// Matching of paths against the table. See router.h.
#include "server/http/router.h"

#include <algorithm>

#include "base/check.h"

namespace fathom::server {
namespace {

std::vector<std::string> split(std::string_view pattern) {
  std::vector<std::string> segments;
  FATHOM_CHECK(pattern.starts_with('/')) << pattern;
  std::size_t begin = 1;
  while (begin <= pattern.size()) {
    const std::size_t end = std::min(pattern.find('/', begin), pattern.size());
    segments.emplace_back(pattern.substr(begin, end - begin));
    begin = end + 1;
  }
  return segments;
}

bool is_param(std::string_view segment) { return segment.starts_with('{'); }
bool is_rest(std::string_view segment) { return segment.ends_with("*}"); }

// How literal a fitting pattern is: larger wins; -1: it does not fit. `params` is filled.
int fit(const std::vector<std::string>& pattern, const std::vector<std::string>& segments,
        std::vector<std::pair<std::string, std::string>>& params) {
  const bool rest = is_rest(pattern.back());
  if (rest ? segments.size() < pattern.size() : segments.size() != pattern.size()) return -1;
  int score = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const std::string& segment = pattern[i];
    score *= 3;
    if (!is_param(segment)) {
      if (segment != segments[i]) return -1;
      score += 2;
    } else if (rest && i + 1 == pattern.size()) {
      std::string tail = segments[i];
      for (std::size_t k = i + 1; k < segments.size(); ++k) tail += "/" + segments[k];
      params.emplace_back(segment.substr(1, segment.size() - 3), std::move(tail));
    } else {
      if (segments[i].empty()) return -1;  // "/models/" names no model
      params.emplace_back(segment.substr(1, segment.size() - 2), segments[i]);
      score += 1;
    }
  }
  return score;
}

void add_once(std::vector<std::string>& list, std::string_view method) {
  if (std::find(list.begin(), list.end(), method) == list.end()) list.emplace_back(method);
}

}  // namespace

void Router::add(Route route) {
  FATHOM_CHECK(route.handler != nullptr) << route.pattern;
  FATHOM_CHECK(!route.method.empty()) << route.pattern;
  std::vector<std::string> pattern = split(route.pattern);
  FATHOM_CHECK(pattern.size() <= 16) << route.pattern;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (!is_param(pattern[i])) continue;
    FATHOM_CHECK(pattern[i].ends_with('}') && pattern[i].size() > 2) << route.pattern;
    FATHOM_CHECK(!is_rest(pattern[i]) || i + 1 == pattern.size()) << route.pattern;
  }
  for (const Route& other : routes_)
    FATHOM_CHECK(other.method != route.method || other.pattern != route.pattern) << route.pattern;
  patterns_.push_back(std::move(pattern));
  routes_.push_back(std::move(route));
}

void Router::set_error_format(std::string prefix, ErrorFormat format) {
  formats_.emplace_back(std::move(prefix), format);
}

Router::Match Router::match(std::string_view method,
                            const std::vector<std::string>& segments) const {
  Match best;
  int best_score = -1;
  int exact_score = -1;  // a HEAD row wins over the GET row of the same pattern
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    const Route& route = routes_[i];
    std::vector<std::pair<std::string, std::string>> params;
    const int score = fit(patterns_[i], segments, params);
    if (score < 0) continue;
    add_once(best.allowed, route.method);
    if (route.method == "GET") add_once(best.allowed, "HEAD");
    const bool exact = route.method == method;
    if (!exact && !(method == "HEAD" && route.method == "GET")) continue;
    if (score < best_score || (score == best_score && (!exact || exact_score == score))) continue;
    best_score = score;
    if (exact) exact_score = score;
    best.route = &route;
    best.params = std::move(params);
  }
  if (!best.allowed.empty()) add_once(best.allowed, "OPTIONS");
  std::sort(best.allowed.begin(), best.allowed.end());
  return best;
}

ErrorFormat Router::error_format(std::string_view path) const {
  for (const auto& [prefix, format] : formats_)
    if (path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/'))
      return format;
  return deepseek_error_body;
}

}  // namespace fathom::server
