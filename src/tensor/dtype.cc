#include "tensor/dtype.h"

#include <array>

#include "base/check.h"

namespace fathom {
namespace {

struct Entry {
  DType type;
  std::string_view name;
  int64_t bytes;
  int64_t elements = 1;
};

constexpr std::array<Entry, 28> kEntries = {{
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
    {DType::kF4E2M1, "F4_E2M1", 1, 2},
    {DType::kQ4_0, "Q4_0", 18, 32},
    {DType::kQ4_1, "Q4_1", 20, 32},
    {DType::kQ5_0, "Q5_0", 22, 32},
    {DType::kQ5_1, "Q5_1", 24, 32},
    {DType::kQ8_0, "Q8_0", 34, 32},
    {DType::kQ2_K, "Q2_K", 84, 256},
    {DType::kQ3_K, "Q3_K", 110, 256},
    {DType::kQ4_K, "Q4_K", 144, 256},
    {DType::kQ5_K, "Q5_K", 176, 256},
    {DType::kQ6_K, "Q6_K", 210, 256},
    {DType::kMXFP4, "MXFP4", 17, 32},
}};

const Entry& entry(DType type) {
  const auto i = static_cast<std::size_t>(type);
  FATHOM_CHECK_LT(i, kEntries.size());
  FATHOM_CHECK(kEntries[i].type == type) << "kEntries is out of order";
  return kEntries[i];
}

}  // namespace

std::size_t dtype_bytes(DType type) {
  const Entry& e = entry(type);
  FATHOM_CHECK_EQ(e.elements, 1);
  return static_cast<std::size_t>(e.bytes);
}

DTypeBlock dtype_block(DType type) {
  const Entry& e = entry(type);
  return {e.elements, e.bytes};
}

int64_t dtype_row_bytes(DType type, int64_t cols) {
  const Entry& e = entry(type);
  FATHOM_CHECK_EQ(cols % e.elements, 0);
  return cols / e.elements * e.bytes;
}

std::string_view dtype_name(DType type) { return entry(type).name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Entry& e : kEntries)
    if (e.name == name) return e.type;
  return std::nullopt;
}

}  // namespace fathom
