// Tests of what keys, names and seals depend on; the algorithms by their published vectors.
#include "kv_disk/crypto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "kv_disk/master_key.h"
#include "kv_disk/tenants.h"
#include "kv_disk/test_support.h"

namespace fathom::kv_disk {
namespace crypto_test {

using test::key_of;
using testing::HasSubstr;

std::string hex_of(std::span<const uint8_t> bytes) {
  std::string out;
  for (const uint8_t b : bytes) {
    out += "0123456789abcdef"[b >> 4];
    out += "0123456789abcdef"[b & 15];
  }
  return out;
}

// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14.
TEST(CryptoTest, Aes256GcmAsPublished) {
  PageCipher empty = PageCipher::seal(SecretKey(), {}, {});
  EXPECT_EQ(hex_of(empty.tag()), "530f8afbc74536b9a963b4f1c4cb738b");
  PageCipher one = PageCipher::seal(SecretKey(), {}, {});
  std::array<std::byte, 16> block{};
  one.update(block, block.data());
  EXPECT_EQ(hex_of({reinterpret_cast<const uint8_t*>(block.data()), 16}),
            "cea7403d4d606b6e074ec5d3baf39d18");
  EXPECT_EQ(hex_of(one.tag()), "d0d1c8a799996bf0265b98b5d48ab919");
}

TEST(CryptoTest, NamesAndKeysDependOnEachPart) {
  const SecretKey key = key_of(1);
  std::set<std::string> seen;
  for (const auto& digest :
       {keyed_hash(key, {as_octets("a"), as_octets("bc")}),
        keyed_hash(key, {as_octets("ab"), as_octets("c")}), keyed_hash(key, {as_octets("abc")}),
        keyed_hash(key_of(2), {as_octets("abc")})})
    seen.insert(hex(digest, 64));
  EXPECT_EQ(seen.size(), 4u);
  seen.clear();
  const std::array<uint8_t, 2> salt_a{1, 2}, salt_b{1, 3};
  for (const auto& derived : {derive_key(key, salt_a, "x"), derive_key(key, salt_b, "x"),
                              derive_key(key, salt_a, "y"), derive_key(key_of(2), salt_a, "x")})
    seen.insert(hex_of(derived.bytes()));
  EXPECT_EQ(seen.size(), 4u);
  EXPECT_NE(tenant_directory(key, "a"), tenant_directory(key, "b"));
  EXPECT_NE(tenant_directory(key, "a"), tenant_directory(key_of(2), "a"));
  EXPECT_NE(model_directory(key, "a"), model_directory(key, "b"));
}

// RFC 5869, computed with Python's hmac.
TEST(CryptoTest, HkdfAsDefined) {
  std::array<uint8_t, 32> input{};
  input.fill(0x0B);
  std::array<uint8_t, 13> salt{};
  for (std::size_t i = 0; i < salt.size(); ++i) salt[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(hex_of(derive_key(SecretKey(input), salt, "info").bytes()),
            "2f016ed50d358562e49c8ffe9f9d6ec6cc922a5db63ac43bf90041f42b0fdb81");
}

TEST(CryptoTest, PageIdsDependOnAllBefore) {
  const std::vector<int32_t> a{1, 2}, b{1, 3}, c{1, 2, 0};
  std::set<PageId> seen{page_id({}, 0, a), page_id({}, 1, a), page_id({}, 0, b), page_id({}, 0, c),
                        page_id(page_id({}, 0, a), 0, a)};
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_EQ(page_id({}, 0, a), page_id({}, 0, std::vector<int32_t>{1, 2}));
}

TEST(MasterKeyTest, IsMadeOnceForItsOwnerAlone) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "state/of/kv-disk.key";
  EXPECT_THAT(read_master_key(path).error().message, HasSubstr("no such file"));
  const auto made = read_or_make_master_key(path);
  ASSERT_TRUE(made) << made.error().message;
  const auto again = read_or_make_master_key(path);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(hex_of(made->bytes()), hex_of(again->bytes()));
  EXPECT_NE(hex_of(made->bytes()), hex_of(SecretKey().bytes()));
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory / "state/of")) {
    EXPECT_EQ(entry.path(), path);
    ++files;
  }
  EXPECT_EQ(files, 1);
}

TEST(MasterKeyTest, AnythingElseIsRefused) {
  const test::TemporaryDirectory directory;
  const std::string path = directory / "key";
  for (const std::string& text : {std::string(), std::string(31, 'x'), std::string(33, 'x')}) {
    test::put_text(path, text);
    std::filesystem::permissions(path, std::filesystem::perms{0600});
    EXPECT_THAT(read_or_make_master_key(path).error().message,
                HasSubstr(std::to_string(text.size()) + " bytes, expected 32"));
  }
  test::put_text(path, std::string(32, 'x'));
  EXPECT_TRUE(read_master_key(path));
  std::filesystem::permissions(path, std::filesystem::perms{0640});
  EXPECT_THAT(read_master_key(path).error().message, HasSubstr("(mode 0640), expected 0600"));
  EXPECT_THAT(read_or_make_master_key("/proc/nothing/key").error().message, HasSubstr("cannot"));
  EXPECT_FALSE(read_or_make_master_key(directory.path()));
}

}  // namespace crypto_test
}  // namespace fathom::kv_disk
