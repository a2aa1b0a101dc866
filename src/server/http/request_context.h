// What a handler knows about the request it answers: no sockets, no Beast.
//
// Owns the plain data: headers, target, principal. Filled by the parser, the router and the
// authenticator before the handler is called; the handler may move out of it what it needs.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::server {

struct Route;

// Names are compared without regard to case; order and spelling are the client's.
class Headers {
 public:
  void add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
  }
  // Replaces the first field of that name, or adds one.
  void set(std::string_view name, std::string value);
  // The first field of that name.
  std::optional<std::string_view> get(std::string_view name) const;
  std::size_t count(std::string_view name) const;
  const std::vector<std::pair<std::string, std::string>>& all() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

bool equals_ignoring_case(std::string_view a, std::string_view b);

// What a route asks of whoever calls it.
enum class Permission : uint8_t {
  kPublic,   // nothing: no identity is asked for
  kInfer,    // answers, token counts, the list of models
  kObserve,  // the state of the server
  kMetrics,
  kAdmin,  // changes what is served
};

class PermissionSet {
 public:
  PermissionSet() = default;
  static PermissionSet all() {
    PermissionSet set;
    set.bits_ = ~uint32_t{0};
    return set;
  }
  PermissionSet& add(Permission p) {
    bits_ |= bit(p);
    return *this;
  }
  bool has(Permission p) const { return p == Permission::kPublic || (bits_ & bit(p)) != 0; }

 private:
  static uint32_t bit(Permission p) { return uint32_t{1} << static_cast<unsigned>(p); }
  uint32_t bits_ = 0;
};

struct Principal {
  enum class Kind : uint8_t {
    kAnonymous,  // a public route: nobody asked
    kLocal,      // the server is open, and listens on this machine only
    kApiKey,
  };
  Kind kind = Kind::kAnonymous;
  std::string name;  // of the key; "local"; empty for kAnonymous
  PermissionSet permissions;
};

struct RequestContext {
  std::string method;                                        // as sent; HEAD stays HEAD
  std::string path;                                          // decoded: "/v1/models"
  std::vector<std::pair<std::string, std::string>> params;   // {param} segments, decoded
  std::vector<std::pair<std::string, std::string>> queries;  // decoded, in order
  Headers headers;
  std::string body;            // complete, without transfer coding
  std::string remote_address;  // "127.0.0.1:51234", "unix"
  std::string request_id;      // the client's if it was sane, else made here
  Principal principal;
  std::chrono::steady_clock::time_point start;  // when its first byte came
  const Route* route = nullptr;

  // The decoded {name} segment; empty if the pattern has none of that name.
  std::string_view param(std::string_view name) const;
  // The first ?name=value; none if it is absent.
  std::optional<std::string_view> query(std::string_view name) const;
};

}  // namespace fathom::server
