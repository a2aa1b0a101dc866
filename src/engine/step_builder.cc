#include "engine/step_builder.h"

namespace fathom {

void StepBuilder::clear() {
  token_ids_.clear();
  positions_.clear();
  sequences_.clear();
}

void StepBuilder::add(std::span<const int32_t> tokens, int64_t start_position,
                      PositionClass position_class, const PageTables& tables) {
  FATHOM_CHECK(sequences_.empty() || position_class == PositionClass::kGenerated ||
               sequences_.back().position_class == PositionClass::kPrompt)
      << "prompt rows must come before generated rows";
  sequences_.push_back({.first_row = rows(),
                        .num_rows = static_cast<int64_t>(tokens.size()),
                        .start_position = start_position,
                        .position_class = position_class,
                        .pages = tables.pages,
                        .window_pages = tables.window_pages});
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    token_ids_.push_back(tokens[i]);
    positions_.push_back(static_cast<int32_t>(start_position + static_cast<int64_t>(i)));
  }
}

Step StepBuilder::step(const KvCache& cache) const {
  return {.token_ids = token_ids_,
          .positions = positions_,
          .sequences = sequences_,
          .kv = cache.layers()};
}

}  // namespace fathom
