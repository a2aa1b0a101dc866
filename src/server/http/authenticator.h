// Who is calling: from the headers of a request to a Principal.
//
// Owns the seam where identities and roles plug in, and two ways: open (this machine only), and API
// keys from a file. What a principal may do on which route is the router's table.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "server/http/http_error.h"
#include "server/http/request_context.h"

namespace fathom::server {

class Authenticator {
 public:
  virtual ~Authenticator() = default;
  // The caller, or the answer to give it (401, 403).
  virtual std::variant<Principal, HttpError> authenticate(const Headers& headers) const = 0;
  // Nobody has to prove anything: not to be offered beyond this machine.
  virtual bool is_open() const = 0;
};

// Everybody is welcome who reaches the port. Browsers are the exception, since any web page can
// make them send requests to this machine: the Host must be an address, "localhost" or a name of
// `host_names` (else a page could give its own name our address), and an Origin must be the
// server itself or one of `allowed_origins`.
class OpenAuthenticator : public Authenticator {
 public:
  explicit OpenAuthenticator(std::vector<std::string> allowed_origins = {},
                             std::vector<std::string> host_names = {})
      : allowed_origins_(std::move(allowed_origins)), host_names_(std::move(host_names)) {}
  std::variant<Principal, HttpError> authenticate(const Headers& headers) const override;
  bool is_open() const override { return true; }

 private:
  std::vector<std::string> allowed_origins_;
  std::vector<std::string> host_names_;
};

// Keys from a file, one a line:
//   sk-…                 a key
//   NAME:sk-…            with a name, [A-Za-z0-9._-]{1,64}, for logs and quotas; else "key<line>"
//   [NAME:]sha256:HEX    the SHA-256 of a key, so that the file does not hold it
//   # …                  a comment; blank lines too
// A key is 8 to 512 bytes of visible ASCII. One that holds a colon needs a name before it.
class ApiKeyAuthenticator : public Authenticator {
 public:
  // Errors name file and line, never the key.
  static Result<ApiKeyAuthenticator> open(const std::string& path);
  // Reads the file again. On an error the keys stay as they were.
  Status reload();
  // What the operator should know of the file: that others may read it.
  const std::vector<std::string>& warnings() const { return warnings_; }
  std::size_t size() const { return keys_.size(); }

  // From "Authorization: Bearer KEY", else "x-api-key: KEY".
  std::variant<Principal, HttpError> authenticate(const Headers& headers) const override;
  bool is_open() const override { return false; }

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    std::string name;
    Digest digest;
  };
  explicit ApiKeyAuthenticator(std::string path) : path_(std::move(path)) {}
  static Result<Key> parse_line(std::string_view line, int64_t number, const std::string& path);

  std::string path_;
  std::vector<Key> keys_;
  std::vector<std::string> warnings_;
};

}  // namespace fathom::server
