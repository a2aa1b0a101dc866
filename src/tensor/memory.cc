#include "tensor/memory.h"

#include <cstdlib>
#include <cstring>

namespace fathom {
namespace {

class HostMemory final : public Memory {
 public:
  std::byte* allocate(std::size_t bytes) override {
    constexpr std::size_t kAlign = 64;
    return static_cast<std::byte*>(
        std::aligned_alloc(kAlign, (bytes + kAlign - 1) / kAlign * kAlign));
  }
  void release(std::byte* p) override { std::free(p); }
  void zero(std::byte* p, std::size_t bytes) override { std::memset(p, 0, bytes); }
  bool on_host() const override { return true; }
};

}  // namespace

Memory& host_memory() {
  static HostMemory memory;
  return memory;
}

}  // namespace fathom
