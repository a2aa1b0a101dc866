// Sequence: a request that the engine has accepted, and how far it is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/page_tier.h"
#include "engine/prefix_cache.h"
#include "engine/request.h"
#include "engine/token_constraint.h"
#include "ops/kv_pages.h"

namespace fathom {

struct Sequence {
  uint64_t id = 0;
  Request request;
  std::vector<int32_t> answer;
  std::unique_ptr<TokenConstraint> constraint;  // null: none

  // The cache. `computed` tokens have their rows; the pages cover them and those being scheduled.
  PageTables tables;
  int64_t computed = 0;
  int64_t cached_pages = 0;  // of tables.pages, that the prefix cache knows
  PrefixCache::Node last_node = PrefixCache::kNoNode;  // of the last of them
  int64_t cached_tokens = -1;  // of the prompt, found in the cache when it first started; −1 before

  // The second tier.
  std::vector<PageId> page_ids;  // of the first pages, as far as they were asked for
  int64_t stored_pages = 0;      // of `cached_pages`, handed over
  bool loading = false;          // pages behind `cached_pages` are being read, or a window
  int64_t loading_window = 0;    // behind so many pages; 0: none
  std::vector<int32_t> loaded_window;

  // The step being built.
  int64_t scheduled = 0;                              // rows, a drafted one included
  PositionClass step_class = PositionClass::kPrompt;  // of these rows
  int64_t logits_row = -1;  // the first row that a token is drawn from; −1: none

  // Speculation: the token that the MTP module expects next, behind the last of the answer.
  int32_t draft = -1;
  bool drafts = false;  // the MTP module's cache rows are there
  int64_t foreign_tokens =
      0;  // up to here pages may be others' too, and full: not to be written to

  int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t size() const { return prompt_size() + static_cast<int64_t>(answer.size()); }
  bool done() const { return id == 0; }
  int32_t token(int64_t position) const {
    return position < prompt_size() ? request.prompt[static_cast<std::size_t>(position)]
                                    : answer[static_cast<std::size_t>(position - prompt_size())];
  }
  // The next tokens to compute, all of one position class.
  std::span<const int32_t> pending() const {
    const auto from = static_cast<std::size_t>(computed);
    if (computed < prompt_size()) return std::span(request.prompt).subspan(from);
    return std::span(answer).subspan(from - request.prompt.size());
  }
  PositionClass pending_class() const {
    return computed < prompt_size() ? PositionClass::kPrompt : PositionClass::kGenerated;
  }
};

}  // namespace fathom
