// How many threads computing pays for: the physical cores that this process may run on.
//
// Reads the system's own files, in microseconds, since every command asks; the whole topology is
// backend/cpu/topology's.
#pragma once

#include <string>
#include <vector>

namespace fathom {

// Physical cores among the processors `allowed` (a second hardware thread adds nothing to a core
// that streams weights), but no more than whole processors in the control group's quota; at least
// 1. `root` stands before /sys and /proc: "" for this machine, a directory of files in tests.
int usable_cores(const std::string& root, const std::vector<int>& allowed);

// Processors in this process's affinity mask; empty if the system does not tell.
std::vector<int> allowed_processors();

}  // namespace fathom
