// Byte-pair encoding of one piece: start from single characters (or bytes), then join the
// neighbours whose merge has the lowest rank, leftmost first, until none is left.
//
// Owns the merge table and the two ways to run it: a plain scan for short pieces, a priority queue
// for long ones (O(n log n)). Does not own the cutting into pieces. Source: Sennrich et al. 2016
// (arXiv 1508.07909); details of unknown characters as in the `tokenizers` library's BPE.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

// (left id, right id) → (rank, merged id). Open addressing: one cache line a look-up, mostly.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  static constexpr Merge kNoMerge{UINT32_MAX, -1};
  void reserve(std::size_t count);
  // The last one put for a pair counts. Requires that `reserve` was called with the final count.
  void put(int32_t left, int32_t right, Merge merge);
  // kNoMerge if the pair has none.
  Merge find(int32_t left, int32_t right) const {
    for (uint64_t i = home(left, right);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.left == left && slot.right == right) return slot.merge;
      if (slot.left < 0) return kNoMerge;
    }
  }

 private:
  struct Slot {
    int32_t left = -1;  // -1: free
    int32_t right = -1;
    Merge merge = kNoMerge;
  };
  uint64_t home(int32_t left, int32_t right) const {
    const uint64_t key =
        (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
    uint64_t h = (key ^ (key >> 29)) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
    return (h >> 32) & mask_;
  }
  std::vector<Slot> slots_ = std::vector<Slot>(1);
  uint64_t mask_ = 0;
};

// Working memory of one thread's calls.
struct BpeScratch {
  struct Symbol {
    int32_t id;
    int32_t previous;  // -1: none
    int32_t next;      // -1: none
    bool gone;
  };
  struct Candidate {
    uint32_t rank;
    int32_t position;
    int32_t id;
  };
  std::vector<int32_t> ids;
  std::vector<MergeTable::Merge> merges;
  std::vector<Symbol> symbols;
  std::vector<Candidate> queue;
};

class Bpe {
 public:
  // Keeps views into `spec.vocab`: the spec must outlive this at its address.
  // `byte_pieces`: pieces are raw bytes (Pretokenizer::emits_bytes), else text of the vocabulary.
  // Errors: invalid argument for a merge that names an unknown token or gives one.
  static Result<Bpe> create(const TokenizerSpec& spec, bool byte_pieces);

  // Appends the ids of one piece. Characters that the vocabulary lacks become <0xNN> tokens or
  // unk_token where the spec says so, and vanish otherwise (as in the reference).
  // Errors: unk_token is needed and not in the vocabulary.
  Status encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const;

 private:
  Status add_merges(const TokenizerSpec& spec);
  Status start(std::string_view piece, std::vector<int32_t>& ids) const;
  void find_first_merges(std::string_view piece, BpeScratch& scratch) const;
  Status add_unknown(std::string_view unit, int32_t& pending, std::vector<int32_t>& ids) const;
  void merge_short(BpeScratch& scratch, std::vector<int32_t>& out) const;
  void merge_long(BpeScratch& scratch, std::vector<int32_t>& out) const;

  std::string source_;
  bool byte_pieces_ = false;
  bool ignore_merges_ = false;
  bool fuse_unk_ = false;
  std::string unk_token_;
  int32_t unk_id_ = kNone;  // kNone: no unk_token; kMissing: there is one, without an id
  std::array<int32_t, 256> byte_ids_{};      // of the byte's character; kNone: not a token
  std::array<int32_t, 256> fallback_ids_{};  // of "<0xNN>"; kNone: not a token or not wanted
  std::unordered_map<std::string_view, int32_t> vocab_;  // by content
  std::unordered_map<std::string, int32_t> by_bytes_;    // filled for ignore_merges on byte pieces
  MergeTable merges_;
  // Of two bytes, for byte pieces: half of all look-ups are for these. [256 * left + right]; empty
  // if some byte is not a token.
  std::vector<MergeTable::Merge> byte_merges_;

  static constexpr int32_t kNone = -1;
  static constexpr int32_t kMissing = -2;
};

}  // namespace fathom
