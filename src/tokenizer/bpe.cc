// Building the tables, and the two merge loops.
//
// The queue's order (rank, then position) and its test for entries that are out of date are those
// of the reference; the scan gives the same result for the same reason: the lowest rank, leftmost
// first.
#include "tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/json.h"
#include "base/utf8.h"
#include "tokenizer/byte_alphabet.h"

namespace fathom {
namespace {

// Up to here the scan beats the queue (measured on English and Chinese text with V3's vocabulary).
constexpr std::size_t kShortPiece = 48;

// A min-heap for std::push_heap, which keeps the maximum in front.
bool later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
}

}  // namespace

void MergeTable::reserve(std::size_t count) {
  slots_.assign(std::bit_ceil(count * 2 + 2), Slot{});
  mask_ = slots_.size() - 1;
}

void MergeTable::put(int32_t left, int32_t right, Merge merge) {
  for (uint64_t i = home(left, right);; i = (i + 1) & mask_) {
    Slot& slot = slots_[i];
    if (slot.left >= 0 && (slot.left != left || slot.right != right)) continue;
    slot = {left, right, merge};
    return;
  }
}

Result<Bpe> Bpe::create(const TokenizerSpec& spec, bool byte_pieces) {
  Bpe out;
  out.source_ = spec.source;
  out.byte_pieces_ = byte_pieces;
  out.ignore_merges_ = spec.ignore_merges;
  out.fuse_unk_ = spec.fuse_unk;
  out.vocab_.reserve(spec.vocab.size());
  for (const VocabEntry& entry : spec.vocab) out.vocab_.emplace(entry.content, entry.id);
  const auto id_of = [&](std::string_view content) {
    const auto it = out.vocab_.find(content);
    return it == out.vocab_.end() ? kNone : it->second;
  };
  for (int b = 0; b < 256; ++b) {
    out.byte_ids_[b] = id_of(byte_to_alphabet(static_cast<uint8_t>(b)));
    out.fallback_ids_[b] = spec.byte_fallback ? id_of(fmt::format("<0x{:02X}>", b)) : kNone;
  }
  if (spec.unk_token) {
    out.unk_token_ = *spec.unk_token;
    const int32_t id = id_of(*spec.unk_token);
    out.unk_id_ = id == kNone ? kMissing : id;
  }
  if (byte_pieces && spec.ignore_merges) {
    for (const VocabEntry& entry : spec.vocab) {
      if (auto bytes = alphabet_to_bytes(entry.content)) {
        out.by_bytes_.emplace(std::move(*bytes), entry.id);
      }
    }
  }
  FATHOM_TRY_STATUS(out.add_merges(spec));
  const bool all_bytes = std::all_of(out.byte_ids_.begin(), out.byte_ids_.end(),
                                     [](int32_t id) { return id != kNone; });
  if (byte_pieces && all_bytes) {
    out.byte_merges_.resize(256 * 256);
    for (int pair = 0; pair < 256 * 256; ++pair) {
      out.byte_merges_[pair] =
          out.merges_.find(out.byte_ids_[pair / 256], out.byte_ids_[pair % 256]);
    }
  }
  return out;
}

Status Bpe::add_merges(const TokenizerSpec& spec) {
  merges_.reserve(spec.merges.size());
  std::string joined;
  for (std::size_t i = 0; i < spec.merges.size(); ++i) {
    const MergeSpec& merge = spec.merges[i];
    joined = merge.left;
    joined += merge.right;
    int32_t ids[3];
    const std::string_view names[3] = {merge.left, merge.right, joined};
    for (int k = 0; k < 3; ++k) {
      const auto it = vocab_.find(names[k]);
      if (it == vocab_.end()) {
        return invalid_argument(
            fmt::format("{}: model.merges[{}] {} {} {}, expected a token of model.vocab", source_,
                        i, json_preview_text(merge.left + " " + merge.right),
                        k < 2 ? "names" : "gives", json_preview_text(names[k])));
      }
      ids[k] = it->second;
    }
    merges_.put(ids[0], ids[1], {static_cast<uint32_t>(i), ids[2]});
  }
  return {};
}

// A unit that is no token. `pending`: an unk_token that is not in `ids` yet, or kNone. (The
// reference holds it back to fuse it with its neighbours, and lets <0xNN> tokens pass in front of
// it.)
Status Bpe::add_unknown(std::string_view unit, int32_t& pending, std::vector<int32_t>& ids) const {
  const bool fallback = std::all_of(unit.begin(), unit.end(), [&](char b) {
    return fallback_ids_[static_cast<uint8_t>(b)] != kNone;
  });
  if (fallback) {
    for (const char b : unit) ids.push_back(fallback_ids_[static_cast<uint8_t>(b)]);
    return {};
  }
  if (unk_id_ == kNone) return {};
  if (unk_id_ == kMissing) {
    return invalid_argument(
        fmt::format("{}: model.unk_token is {}, expected a token of model.vocab", source_,
                    json_preview_text(unk_token_)));
  }
  if (pending != kNone && !fuse_unk_) ids.push_back(pending);
  pending = unk_id_;
  return {};
}

// The piece's first symbols, one a byte or character.
Status Bpe::start(std::string_view piece, std::vector<int32_t>& ids) const {
  ids.clear();
  int32_t pending = kNone;
  const auto add = [&](int32_t id, std::string_view unit) -> Status {
    if (id == kNone) return add_unknown(unit, pending, ids);
    if (pending != kNone) ids.push_back(pending);
    pending = kNone;
    ids.push_back(id);
    return {};
  };
  if (byte_pieces_) {
    for (const char b : piece) {
      const auto byte = static_cast<uint8_t>(b);
      FATHOM_TRY_STATUS(add(byte_ids_[byte], byte_to_alphabet(byte)));
    }
  } else {
    for (std::size_t i = 0; i < piece.size();) {
      const std::string_view unit = piece.substr(i, utf8_valid_length(piece, i));
      const auto it = vocab_.find(unit);
      FATHOM_TRY_STATUS(add(it == vocab_.end() ? kNone : it->second, unit));
      i += unit.size();
    }
  }
  if (pending != kNone) ids.push_back(pending);
  return {};
}

// merges[i]: of ids[i] and ids[i + 1]; the last one is kNoMerge.
void Bpe::find_first_merges(std::string_view piece, BpeScratch& scratch) const {
  const auto& ids = scratch.ids;
  auto& merges = scratch.merges;
  merges.assign(ids.size(), MergeTable::kNoMerge);
  if (!byte_merges_.empty()) {
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      merges[i] =
          byte_merges_[static_cast<uint8_t>(piece[i]) * 256 + static_cast<uint8_t>(piece[i + 1])];
    }
  } else {
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) merges[i] = merges_.find(ids[i], ids[i + 1]);
  }
}

void Bpe::merge_short(BpeScratch& scratch, std::vector<int32_t>& out) const {
  auto& ids = scratch.ids;
  auto& merges = scratch.merges;
  std::size_t n = ids.size();
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].id < 0) break;
    ids[best] = merges[best].id;
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      ids[i] = ids[i + 1];
      merges[i] = merges[i + 1];
    }
    --n;
    if (best > 0) merges[best - 1] = merges_.find(ids[best - 1], ids[best]);
    merges[best] = best + 1 < n ? merges_.find(ids[best], ids[best + 1]) : MergeTable::kNoMerge;
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n));
}

void Bpe::merge_long(BpeScratch& scratch, std::vector<int32_t>& out) const {
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  const auto n = static_cast<int32_t>(scratch.ids.size());
  symbols.clear();
  queue.clear();
  for (int32_t i = 0; i < n; ++i) {
    symbols.push_back({scratch.ids[i], i - 1, i + 1 < n ? i + 1 : -1, false});
    const MergeTable::Merge merge = scratch.merges[i];
    if (merge.id >= 0) queue.push_back({merge.rank, i, merge.id});
  }
  std::make_heap(queue.begin(), queue.end(), later);
  const auto consider = [&](int32_t left, int32_t right) {
    const MergeTable::Merge merge = merges_.find(symbols[left].id, symbols[right].id);
    if (merge.id < 0) return;
    queue.push_back({merge.rank, left, merge.id});
    std::push_heap(queue.begin(), queue.end(), later);
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), later);
    const BpeScratch::Candidate top = queue.back();
    queue.pop_back();
    BpeScratch::Symbol& left = symbols[top.position];
    if (left.gone || left.next < 0) continue;
    BpeScratch::Symbol& right = symbols[left.next];
    if (merges_.find(left.id, right.id).id != top.id) continue;  // out of date
    left.id = top.id;
    left.next = right.next;
    right.gone = true;
    if (left.next >= 0) symbols[left.next].previous = top.position;
    if (left.previous >= 0) consider(left.previous, top.position);
    if (left.next >= 0) consider(top.position, left.next);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) out.push_back(symbols[i].id);
}

Status Bpe::encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const {
  if (ignore_merges_ && byte_pieces_) {
    if (const auto it = by_bytes_.find(std::string(piece)); it != by_bytes_.end()) {
      out.push_back(it->second);
      return {};
    }
  } else if (ignore_merges_) {
    if (const auto it = vocab_.find(piece); it != vocab_.end()) {
      out.push_back(it->second);
      return {};
    }
  }
  FATHOM_TRY_STATUS(start(piece, scratch.ids));
  find_first_merges(piece, scratch);
  if (scratch.ids.size() <= kShortPiece) {
    merge_short(scratch, out);
  } else {
    merge_long(scratch, out);
    // One huge piece must not hold its memory for ever.
    constexpr std::size_t kKeep = 1 << 16;
    if (scratch.symbols.capacity() > kKeep) scratch = BpeScratch();
  }
  return {};
}

}  // namespace fathom
