// What the disk tier's files are locked with: keys and names derived from one master key, and
// AES-256-GCM. OpenSSL's libcrypto stands behind it, in the .cc file alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/page_tier.h"

namespace fathom::kv_disk {

// 256 bits that are overwritten when they are no longer needed.
class SecretKey {
 public:
  static constexpr std::size_t kBytes = 32;
  SecretKey() = default;
  explicit SecretKey(std::span<const uint8_t, kBytes> bytes);
  SecretKey(const SecretKey&) = default;
  SecretKey& operator=(const SecretKey&) = default;
  ~SecretKey();
  std::span<const uint8_t, kBytes> bytes() const { return bytes_; }

 private:
  std::array<uint8_t, kBytes> bytes_{};
};

using Digest = std::array<uint8_t, 32>;

void fill_random(std::span<uint8_t> out);
void overwrite(std::span<uint8_t> secret);
std::span<const uint8_t> as_octets(std::string_view text);

// HMAC-SHA-256 (RFC 2104) of the parts, each behind its length.
Digest keyed_hash(const SecretKey& key, std::initializer_list<std::span<const uint8_t>> parts);
// HKDF-SHA-256 (RFC 5869).
SecretKey derive_key(const SecretKey& from, std::span<const uint8_t> salt, std::string_view info);
bool equal_in_constant_time(std::span<const uint8_t> a, std::span<const uint8_t> b);
// Hexadecimal digits of the names of directories and of pages' files.
inline constexpr std::size_t kDirectoryDigits = 32, kPageDigits = 40;
// The first `digits` hexadecimal digits.
std::string hex(const Digest& digest, std::size_t digits);

// SHA-256 of all that a page was computed from. Stays in memory.
PageId page_id(const PageId& parent, int64_t prompt_tokens, std::span<const int32_t> tokens);

// AES-256-GCM (NIST SP 800-38D) of one message, piece by piece.
class PageCipher {
 public:
  using Nonce = std::array<uint8_t, 12>;
  using Tag = std::array<uint8_t, 16>;
  // `bound`: authenticated, not encrypted.
  static PageCipher seal(const SecretKey& key, const Nonce& nonce,
                         std::initializer_list<std::span<const uint8_t>> bound);
  static PageCipher open(const SecretKey& key, const Nonce& nonce,
                         std::initializer_list<std::span<const uint8_t>> bound);
  ~PageCipher();
  PageCipher(PageCipher&&) noexcept;
  PageCipher& operator=(PageCipher&&) = delete;

  // out: as many bytes as `in`; may be the same memory.
  void update(std::span<const std::byte> in, std::byte* out);
  Tag tag();                   // of a sealed message, at its end
  bool matches(const Tag& t);  // of an opened one: before this is true, what update() gave is no
                               // word of ours

 private:
  struct Context;
  PageCipher(bool seals, const SecretKey& key, const Nonce& nonce,
             std::initializer_list<std::span<const uint8_t>> bound);
  std::unique_ptr<Context> context_;
};

}  // namespace fathom::kv_disk
