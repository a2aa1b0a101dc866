// The generator behind sampling: a pure function of (seed, position), so that a draw can be
// repeated by any process at any time without carrying state.
//
// Philox4x32-10: J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace fathom {

// Ten rounds of Philox on `counter` under `key`.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A double in [0, 1) with 53 random bits, for draw number `stream` at token `position`.
double uniform(uint64_t seed, uint64_t position, uint32_t stream = 0);

}  // namespace fathom
