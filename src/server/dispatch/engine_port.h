// EnginePort: where requests go to be computed, in this process or in another.
//
// Events come back to EngineSink, on the io thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine_loop.h"

namespace fathom::server {

class EnginePort {
 public:
  virtual ~EnginePort() = default;
  // Never wait.
  virtual void submit(uint64_t ticket, const Request& request) = 0;
  virtual void cancel(uint64_t ticket) = 0;
  virtual void erase_tenant(const std::string& tenant) = 0;
};

}  // namespace fathom::server
