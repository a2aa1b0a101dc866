#include "tensor/dtype.h"

#include <array>

#include "base/check.h"

namespace fathom {
namespace {

struct Entry {
  DType type;
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array<Entry, 16> kEntries = {{
    {DType::kF32, "F32", 4},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kI64, "I64", 8},
    {DType::kI32, "I32", 4},
    {DType::kI8, "I8", 1},
    {DType::kU8, "U8", 1},
    {DType::kF64, "F64", 8},
    {DType::kU64, "U64", 8},
    {DType::kU32, "U32", 4},
    {DType::kI16, "I16", 2},
    {DType::kU16, "U16", 2},
    {DType::kBool, "BOOL", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
    {DType::kF8E8M0, "F8_E8M0", 1},
}};

const Entry& entry(DType type) {
  const auto i = static_cast<std::size_t>(type);
  FATHOM_CHECK_LT(i, kEntries.size());
  FATHOM_CHECK(kEntries[i].type == type) << "kEntries is out of order";
  return kEntries[i];
}

}  // namespace

std::size_t dtype_bytes(DType type) { return entry(type).bytes; }
std::string_view dtype_name(DType type) { return entry(type).name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Entry& e : kEntries)
    if (e.name == name) return e.type;
  return std::nullopt;
}

}  // namespace fathom
