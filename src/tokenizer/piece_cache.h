// A small, bounded memory of pieces already encoded: most of a text's words are words it had
// before.
//
// Owned by one call at a time (Tokenizer keeps a few and lends them out), so it needs no lock.
// Direct-mapped: a new piece simply takes the place of the old one. Never changes a result.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace fathom {

class PieceCache {
 public:
  // The ids of `piece`; none if it is not in the cache.
  std::span<const int32_t> find(std::string_view piece) const {
    if (piece.size() > kMaxBytes) return {};
    const Entry& entry = entries_[slot(piece)];
    const bool same =
        entry.bytes == piece.size() && std::memcmp(entry.piece, piece.data(), piece.size()) == 0;
    return same ? std::span(entry.ids, entry.count) : std::span<const int32_t>();
  }

  // Keeps short pieces with few ids and leaves the others alone. Requires a piece that is not
  // empty.
  void put(std::string_view piece, std::span<const int32_t> ids) {
    if (piece.size() > kMaxBytes || ids.size() > kMaxIds || ids.empty()) return;
    Entry& entry = entries_[slot(piece)];
    entry.bytes = static_cast<uint8_t>(piece.size());
    entry.count = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.piece, piece.data(), piece.size());
    std::memcpy(entry.ids, ids.data(), ids.size_bytes());
  }

 private:
  static constexpr std::size_t kMaxBytes = 30;
  static constexpr std::size_t kMaxIds = 8;
  static constexpr std::size_t kEntries = 1 << 14;  // 1 MiB

  struct Entry {
    uint8_t bytes = 0;  // 0: free
    uint8_t count = 0;
    char piece[kMaxBytes];
    int32_t ids[kMaxIds];
  };

  static std::size_t slot(std::string_view piece) {
    uint64_t h = piece.size();
    const char* p = piece.data();
    std::size_t n = piece.size();
    for (; n >= 8; p += 8, n -= 8) {
      uint64_t word = 0;
      std::memcpy(&word, p, 8);
      h = (h ^ word) * 0x9E3779B97F4A7C15u;
      h ^= h >> 32;
    }
    uint64_t word = 0;
    std::memcpy(&word, p, n);
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>(h >> 50);  // 14 bits
  }

  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

}  // namespace fathom
