// API keys and the open server. See authenticator.h.
//
// Keys are kept and compared as SHA-256 digests: the comparison takes the same time whatever the
// key is and whether it is there, and a dump of memory shows none.
#include "server/http/authenticator.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/check.h"
#include "base/file.h"
#include "base/limits.h"

namespace fathom::server {
namespace {

constexpr std::size_t kMinApiKeyBytes = 8;

std::string_view trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

bool is_visible_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

std::array<unsigned char, 32> sha256(std::string_view text) {
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  FATHOM_CHECK(
      EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  FATHOM_CHECK_EQ(length, 32u);
  return digest;
}

bool parse_hex(std::string_view text, std::array<unsigned char, 32>& digest) {
  if (text.size() != 64) return false;
  for (std::size_t i = 0; i < 64; ++i) {
    const char c = text[i];
    int value = 0;
    if (c >= '0' && c <= '9')
      value = c - '0';
    else if (c >= 'a' && c <= 'f')
      value = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
      value = c - 'A' + 10;
    else
      return false;
    digest[i / 2] = static_cast<unsigned char>(i % 2 == 0 ? value << 4 : digest[i / 2] | value);
  }
  return true;
}

HttpError unauthorized(std::string message) {
  HttpError error = http_error(401, std::move(message));
  error.headers.emplace_back("WWW-Authenticate", "Bearer");
  return error;
}

// The key the client sent; empty: none.
std::string_view key_of(const Headers& headers) {
  if (const auto authorization = headers.get("authorization")) {
    const std::size_t space = authorization->find(' ');
    if (space == std::string_view::npos ||
        !equals_ignoring_case(authorization->substr(0, space), "bearer"))
      return {};
    return trim(authorization->substr(space + 1));
  }
  return headers.get("x-api-key").value_or("");
}

// "localhost:8080" -> "localhost", "[::1]:80" -> "[::1]".
std::string_view without_port(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || host.ends_with(']')) return host;
  return host.substr(0, colon);
}

bool is_address(std::string_view host) {
  if (host.starts_with('[')) return true;
  return !host.empty() && std::all_of(host.begin(), host.end(),
                                      [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
}

}  // namespace

std::variant<Principal, HttpError> OpenAuthenticator::authenticate(const Headers& headers) const {
  const std::string_view host = headers.get("host").value_or("");
  const std::string_view name = without_port(host);
  const auto is_name_of_ours = [name](const std::string& n) {
    return equals_ignoring_case(n, name);
  };
  if (!host.empty() && !is_address(name) && !equals_ignoring_case(name, "localhost") &&
      std::none_of(host_names_.begin(), host_names_.end(), is_name_of_ours))
    return http_error(403,
                      "This server asks for no key and answers only to an address or to "
                      "localhost in the Host header");
  if (const auto origin = headers.get("origin")) {
    const bool ours = equals_ignoring_case(*origin, fmt::format("http://{}", host)) ||
                      equals_ignoring_case(*origin, fmt::format("https://{}", host));
    const bool allowed = std::any_of(
        allowed_origins_.begin(), allowed_origins_.end(),
        [&](const std::string& o) { return o == "*" || equals_ignoring_case(o, *origin); });
    if (!ours && !allowed)
      return http_error(403,
                        "This server asks for no key and answers no web page of another origin; "
                        "see cors.origins");
  }
  Principal principal;
  principal.kind = Principal::Kind::kLocal;
  principal.name = "local";
  principal.permissions = PermissionSet::all();
  return principal;
}

Result<ApiKeyAuthenticator::Key> ApiKeyAuthenticator::parse_line(std::string_view line,
                                                                 int64_t number,
                                                                 const std::string& path) {
  Key key;
  key.name = fmt::format("key{}", number);
  const std::size_t colon = line.find(':');
  if (colon != std::string_view::npos && line.substr(0, colon) != "sha256") {
    if (!is_name(line.substr(0, colon)))
      return invalid_argument(fmt::format(
          "{}:{}: what stands before the colon is no name, expected [A-Za-z0-9._-]{{1,64}}", path,
          number));
    key.name = line.substr(0, colon);
    line = trim(line.substr(colon + 1));
  }
  if (line.starts_with("sha256:")) {
    if (!parse_hex(line.substr(7), key.digest))
      return invalid_argument(
          fmt::format("{}:{}: expected 64 hexadecimal digits after 'sha256:'", path, number));
    return key;
  }
  if (line.size() < kMinApiKeyBytes || line.size() > limits::kMaxApiKeyBytes)
    return invalid_argument(fmt::format("{}:{}: a key of {} bytes, expected {} to {}", path, number,
                                        line.size(), kMinApiKeyBytes, limits::kMaxApiKeyBytes));
  if (!is_visible_ascii(line))
    return invalid_argument(
        fmt::format("{}:{}: a key may hold visible ASCII characters only", path, number));
  key.digest = sha256(line);
  return key;
}

Result<ApiKeyAuthenticator> ApiKeyAuthenticator::open(const std::string& path) {
  ApiKeyAuthenticator authenticator(path);
  FATHOM_TRY_STATUS(authenticator.reload());
  return authenticator;
}

Status ApiKeyAuthenticator::reload() {
  FATHOM_TRY(const std::string text, read_file(path_, limits::kMaxApiKeyFileBytes));
  std::vector<Key> keys;
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = trim(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.starts_with('#')) continue;
    FATHOM_TRY(Key key, parse_line(line, number, path_));
    keys.push_back(std::move(key));
    if (static_cast<int64_t>(keys.size()) > limits::kMaxApiKeys)
      return resource_limit(fmt::format("{}: more than {} keys", path_, limits::kMaxApiKeys));
  }
  if (keys.empty())
    return invalid_argument(fmt::format("{}: holds no key, expected at least one line", path_));
  warnings_.clear();
  struct stat info{};
  if (::stat(path_.c_str(), &info) == 0 && (info.st_mode & (S_IRGRP | S_IROTH)) != 0)
    warnings_.push_back(fmt::format("{}: others may read this file (mode {:04o}); run chmod 600 {}",
                                    path_, info.st_mode & 07777, path_));
  keys_ = std::move(keys);
  return {};
}

std::variant<Principal, HttpError> ApiKeyAuthenticator::authenticate(const Headers& headers) const {
  const std::string_view key = key_of(headers);
  if (key.empty())
    return unauthorized("Authentication Fails (auth header format should be Bearer sk-...)");
  const Digest digest = sha256(key);
  std::size_t found = keys_.size();
  for (std::size_t i = 0; i < keys_.size(); ++i)  // all of them, whatever is found
    if (CRYPTO_memcmp(keys_[i].digest.data(), digest.data(), digest.size()) == 0) found = i;
  if (found == keys_.size()) {
    // The last characters help people to see which of their keys it was; a short text is not shown.
    const std::string_view tail =
        key.size() >= 12 && is_visible_ascii(key) ? key.substr(key.size() - 4) : "";
    return unauthorized(fmt::format("Authentication Fails, Your api key: ****{} is invalid", tail));
  }
  Principal principal;
  principal.kind = Principal::Kind::kApiKey;
  principal.name = keys_[found].name;
  principal.permissions = PermissionSet::all();
  return principal;
}

}  // namespace fathom::server
