#include "kv_disk/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace fathom::kv_disk {
namespace {

void append(std::vector<uint8_t>& to, std::span<const uint8_t> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void append(std::vector<uint8_t>& to, uint64_t number) {
  for (int shift = 0; shift < 64; shift += 8) to.push_back(static_cast<uint8_t>(number >> shift));
}

}  // namespace

SecretKey::SecretKey(std::span<const uint8_t, kBytes> bytes) {
  std::copy(bytes.begin(), bytes.end(), bytes_.begin());
}

SecretKey::~SecretKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

void fill_random(std::span<uint8_t> out) {
  FATHOM_CHECK(RAND_bytes(out.data(), static_cast<int>(out.size())) == 1);
}

void overwrite(std::span<uint8_t> secret) { OPENSSL_cleanse(secret.data(), secret.size()); }

std::span<const uint8_t> as_octets(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Digest keyed_hash(const SecretKey& key, std::initializer_list<std::span<const uint8_t>> parts) {
  std::vector<uint8_t> message;
  for (const auto part : parts) {
    append(message, part.size());
    append(message, part);
  }
  Digest digest{};
  unsigned int length = 0;
  FATHOM_CHECK(HMAC(EVP_sha256(), key.bytes().data(), static_cast<int>(key.bytes().size()),
                    message.data(), message.size(), digest.data(), &length) != nullptr);
  FATHOM_CHECK_EQ(length, digest.size());
  return digest;
}

SecretKey derive_key(const SecretKey& from, std::span<const uint8_t> salt, std::string_view info) {
  EVP_KDF* const kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  EVP_KDF_CTX* const context = EVP_KDF_CTX_new(kdf);
  char digest[] = "SHA256";
  const auto octets = [](const char* name, std::span<const uint8_t> bytes) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<uint8_t*>(bytes.data()),
                                             bytes.size());
  };
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      octets(OSSL_KDF_PARAM_KEY, from.bytes()), octets(OSSL_KDF_PARAM_SALT, salt),
      octets(OSSL_KDF_PARAM_INFO, as_octets(info)), OSSL_PARAM_construct_end()};
  std::array<uint8_t, SecretKey::kBytes> out{};
  const int done = EVP_KDF_derive(context, out.data(), out.size(), parameters);
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  FATHOM_CHECK_EQ(done, 1);
  const SecretKey key(out);
  OPENSSL_cleanse(out.data(), out.size());
  return key;
}

bool equal_in_constant_time(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string hex(const Digest& digest, std::size_t digits) {
  std::string out;
  for (const uint8_t byte : digest)
    for (const int shift : {4, 0}) out += "0123456789abcdef"[byte >> shift & 15];
  return out.substr(0, digits);
}

PageId page_id(const PageId& parent, int64_t prompt_tokens, std::span<const int32_t> tokens) {
  static thread_local std::vector<uint8_t> message;
  message.clear();
  append(message, parent);
  append(message, static_cast<uint64_t>(prompt_tokens));
  append(message, tokens.size());
  for (const int32_t token : tokens)
    for (int shift = 0; shift < 32; shift += 8)
      message.push_back(static_cast<uint8_t>(static_cast<uint32_t>(token) >> shift));
  PageId id{};
  FATHOM_CHECK_EQ(
      EVP_Digest(message.data(), message.size(), id.data(), nullptr, EVP_sha256(), nullptr), 1);
  return id;
}

struct PageCipher::Context {
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  ~Context() { EVP_CIPHER_CTX_free(context); }
};

PageCipher::PageCipher(bool seals, const SecretKey& key, const Nonce& nonce,
                       std::initializer_list<std::span<const uint8_t>> bound)
    : context_(std::make_unique<Context>()) {
  EVP_CIPHER_CTX* const c = context_->context;
  FATHOM_CHECK_EQ(EVP_CipherInit_ex(c, EVP_aes_256_gcm(), nullptr, key.bytes().data(), nonce.data(),
                                    seals ? 1 : 0),
                  1);
  int written = 0;
  for (const auto part : bound) {
    FATHOM_CHECK_EQ(
        EVP_CipherUpdate(c, nullptr, &written, part.data(), static_cast<int>(part.size())), 1);
  }
}

PageCipher PageCipher::seal(const SecretKey& key, const Nonce& nonce,
                            std::initializer_list<std::span<const uint8_t>> bound) {
  return {true, key, nonce, bound};
}

PageCipher PageCipher::open(const SecretKey& key, const Nonce& nonce,
                            std::initializer_list<std::span<const uint8_t>> bound) {
  return {false, key, nonce, bound};
}

PageCipher::~PageCipher() = default;
PageCipher::PageCipher(PageCipher&&) noexcept = default;

void PageCipher::update(std::span<const std::byte> in, std::byte* out) {
  int written = 0;
  FATHOM_CHECK_EQ(EVP_CipherUpdate(context_->context, reinterpret_cast<unsigned char*>(out),
                                   &written, reinterpret_cast<const unsigned char*>(in.data()),
                                   static_cast<int>(in.size())),
                  1);
  FATHOM_CHECK_EQ(static_cast<std::size_t>(written), in.size());
}

PageCipher::Tag PageCipher::tag() {
  Tag out{};
  int written = 0;
  FATHOM_CHECK_EQ(EVP_CipherFinal_ex(context_->context, out.data(), &written), 1);
  FATHOM_CHECK_EQ(EVP_CIPHER_CTX_ctrl(context_->context, EVP_CTRL_AEAD_GET_TAG,
                                      static_cast<int>(out.size()), out.data()),
                  1);
  return out;
}

bool PageCipher::matches(const Tag& t) {
  Tag expected = t;
  FATHOM_CHECK_EQ(EVP_CIPHER_CTX_ctrl(context_->context, EVP_CTRL_AEAD_SET_TAG,
                                      static_cast<int>(expected.size()), expected.data()),
                  1);
  int written = 0;
  return EVP_CipherFinal_ex(context_->context, expected.data(), &written) == 1;
}

}  // namespace fathom::kv_disk
