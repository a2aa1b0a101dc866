// Memory: where tensors live. The host's, unless a backend brings its own.
#pragma once

#include <cstddef>

namespace fathom {

class Memory {
 public:
  virtual ~Memory() = default;
  // Uninitialised, aligned to 64 bytes or more. Null if there is no room.
  virtual std::byte* allocate(std::size_t bytes) = 0;
  virtual void release(std::byte* p) = 0;
  virtual void zero(std::byte* p, std::size_t bytes) = 0;
  // Whether the host may read and write it.
  virtual bool on_host() const = 0;
};

Memory& host_memory();

}  // namespace fathom
