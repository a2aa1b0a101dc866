#include "kv_disk/page_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kv_disk/files.h"

namespace fathom::kv_disk {
namespace {

constexpr std::size_t kHeadBytes = 32;
constexpr std::size_t kTagBytes = sizeof(PageCipher::Tag);
constexpr std::size_t kPiece = 256 << 10;  // stays in the processor's cache
constexpr char kMagic[] = "fathomkv";

void put(std::span<std::byte> to, uint64_t number) {
  for (std::size_t i = 0; i < to.size(); ++i)
    to[i] = static_cast<std::byte>(i < 8 ? number >> (8 * i) : 0);
}

// What stands in front of the page's bytes.
std::vector<std::byte> description(const PageTier::Page& page) {
  std::vector<std::byte> out(page.parent.size() + 16 + 4 * page.tokens.size());
  std::memcpy(out.data(), page.parent.data(), page.parent.size());
  auto rest = std::span(out).subspan(page.parent.size());
  put(rest.first(8), static_cast<uint64_t>(page.prompt_tokens));
  put(rest.subspan(8, 8), page.tokens.size());
  rest = rest.subspan(16);
  for (std::size_t i = 0; i < page.tokens.size(); ++i)
    put(rest.subspan(4 * i, 4), static_cast<uint32_t>(page.tokens[i]));
  return out;
}

struct Head {
  std::array<std::byte, kHeadBytes> bytes{};
  PageCipher::Nonce nonce() const {
    PageCipher::Nonce out;
    std::memcpy(out.data(), bytes.data() + 12, out.size());
    return out;
  }
  std::span<const uint8_t> octets() const {
    return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  }
};

Head make_head(const PageCipher::Nonce& nonce, std::size_t content_bytes) {
  Head head;
  std::memcpy(head.bytes.data(), kMagic, 8);
  put(std::span(head.bytes).subspan(8, 4), kPageFileVersion);
  std::memcpy(head.bytes.data() + 12, nonce.data(), nonce.size());
  put(std::span(head.bytes).subspan(24, 8), content_bytes);
  return head;
}

// The last two directories and the name: a file is valid only where it was written.
std::string place_of(const PageFile& file) {
  const std::string path = file.path();
  std::size_t at = path.size();
  for (int i = 0; i < 3 && at != 0 && at != std::string::npos; ++i) at = path.rfind('/', at - 1);
  return at == std::string::npos ? path : path.substr(at);
}

std::size_t bytes_of(const PageTier::Page& page) {
  std::size_t bytes = 0;
  for (const std::span<std::byte> part : page.bytes) bytes += part.size();
  return bytes;
}

// f(piece) for all bytes, until one fails.
Status for_pieces(const PageTier::Page& page, const auto& f) {
  for (const std::span<std::byte> part : page.bytes)
    for (std::size_t at = 0; at < part.size(); at += kPiece)
      FATHOM_TRY_STATUS(f(part.subspan(at, std::min(kPiece, part.size() - at))));
  return {};
}

Status write_sealed(const File& to, const PageFile& file, const SecretKey& key,
                    const PageTier::Page& page) {
  const std::vector<std::byte> front = description(page);
  PageCipher::Nonce nonce;
  fill_random(nonce);
  const Head head = make_head(nonce, front.size() + bytes_of(page));
  FATHOM_TRY_STATUS(to.write(head.bytes));
  const std::string place = place_of(file);
  PageCipher cipher = PageCipher::seal(key, nonce, {head.octets(), as_octets(place)});
  std::vector<std::byte> sealed(std::max(front.size(), std::min(kPiece, bytes_of(page))));
  const auto put_out = [&](std::span<const std::byte> piece) {
    cipher.update(piece, sealed.data());
    return to.write(std::span(sealed).first(piece.size()));
  };
  FATHOM_TRY_STATUS(put_out(front));
  FATHOM_TRY_STATUS(for_pieces(page, put_out));
  const PageCipher::Tag tag = cipher.tag();
  return to.write(std::as_bytes(std::span(tag)));
}

}  // namespace

int64_t page_file_bytes(const PageTier::Page& page) {
  return static_cast<int64_t>(kHeadBytes + page.parent.size() + 16 + 4 * page.tokens.size() +
                              bytes_of(page) + kTagBytes);
}

Status write_page(const PageFile& file, const SecretKey& key, const PageTier::Page& page,
                  struct timespec used) {
  const std::string temporary = file.directory + std::string(kUnfinished);
  FATHOM_TRY_STATUS(remove_file(temporary));
  const auto write = [&]() -> Status {
    FATHOM_TRY(const File to, File::create(temporary));
    FATHOM_TRY_STATUS(write_sealed(to, file, key, page));
    FATHOM_TRY_STATUS(to.set_used(used));
    if (std::rename(temporary.c_str(), file.path().c_str()) != 0)
      return system_error(file.path(), "make");
    return {};
  };
  const Status written = write();
  if (!written) ::unlink(temporary.c_str());
  return written;
}

Result<PageRead> read_page(const PageFile& file, const SecretKey& key, const PageTier::Page& page) {
  FATHOM_TRY(const std::optional<File> from, File::open(file.path()));
  if (!from) return PageRead::kMissing;
  FATHOM_TRY(const struct stat info, from->info());
  if (info.st_size != page_file_bytes(page)) return PageRead::kDamaged;
  Head head;
  FATHOM_TRY_STATUS(from->read(head.bytes, 0));
  const std::vector<std::byte> front = description(page);
  const Head expected = make_head(head.nonce(), front.size() + bytes_of(page));
  if (head.bytes != expected.bytes) return PageRead::kDamaged;
  const std::string place = place_of(file);
  PageCipher cipher = PageCipher::open(key, head.nonce(), {head.octets(), as_octets(place)});
  std::vector<std::byte> sealed(std::max(front.size(), std::min(kPiece, bytes_of(page))));
  int64_t offset = kHeadBytes;
  const auto take_in = [&](std::span<std::byte> piece) -> Status {
    const auto part = std::span(sealed).first(piece.size());
    FATHOM_TRY_STATUS(from->read(part, offset));
    cipher.update(part, piece.data());
    offset += static_cast<int64_t>(piece.size());
    return {};
  };
  std::vector<std::byte> found(front.size());
  FATHOM_TRY_STATUS(take_in(found));
  if (found != front) return PageRead::kDamaged;
  FATHOM_TRY_STATUS(for_pieces(page, take_in));
  PageCipher::Tag tag;
  FATHOM_TRY_STATUS(from->read(std::as_writable_bytes(std::span(tag)), offset));
  return cipher.matches(tag) ? PageRead::kRead : PageRead::kDamaged;
}

}  // namespace fathom::kv_disk
