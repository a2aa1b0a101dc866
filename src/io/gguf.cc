// The walk over a file's bytes. Values and their getters: gguf_metadata.cc.
#include "io/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"

namespace fathom {
namespace {

// The host reads the file's numbers as they stand.
static_assert(std::endian::native == std::endian::little);

struct GgmlType {
  uint32_t number;
  std::string_view name;
  std::optional<DType> dtype;  // none: fathom does not have it
};

// Numbers and names: enum ggml_type of ggml's public header.
constexpr std::array<GgmlType, 38> kGgmlTypes = {{
    {0, "F32", DType::kF32},          {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},        {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", DType::kQ5_0},        {7, "Q5_1", DType::kQ5_1},
    {8, "Q8_0", DType::kQ8_0},        {9, "Q8_1", std::nullopt},
    {10, "Q2_K", DType::kQ2_K},       {11, "Q3_K", DType::kQ3_K},
    {12, "Q4_K", DType::kQ4_K},       {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},       {15, "Q8_K", std::nullopt},
    {16, "IQ2_XXS", std::nullopt},    {17, "IQ2_XS", std::nullopt},
    {18, "IQ3_XXS", std::nullopt},    {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", std::nullopt},     {21, "IQ3_S", std::nullopt},
    {22, "IQ2_S", std::nullopt},      {23, "IQ4_XS", std::nullopt},
    {24, "I8", DType::kI8},           {25, "I16", DType::kI16},
    {26, "I32", DType::kI32},         {27, "I64", DType::kI64},
    {28, "F64", DType::kF64},         {29, "IQ1_M", std::nullopt},
    {30, "BF16", DType::kBF16},       {31, "Q4_0_4_4", std::nullopt},
    {32, "Q4_0_4_8", std::nullopt},   {33, "Q4_0_8_8", std::nullopt},
    {34, "TQ1_0", std::nullopt},      {35, "TQ2_0", std::nullopt},
    {36, "IQ4_NL_4_4", std::nullopt}, {37, "IQ4_NL_4_8", std::nullopt},
    {39, "MXFP4", DType::kMXFP4},     {40, "NVFP4", std::nullopt},
}};

std::string shown(std::string_view text) {
  return json_preview(nlohmann::json(utf8_sanitize(text)));
}

// Bytes of one scalar; 0 for strings and arrays.
uint64_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

// A place in the file that moves forward. `what` names the thing being read in messages.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, const std::string& source)
      : file_(file), source_(source) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return file_.size() - position_; }

  Error error(std::string_view what, std::string_view problem) const {
    return invalid_argument(
        fmt::format("{}: {}, at byte {}: {}", source_, what, position_, problem));
  }

  Result<std::span<const std::byte>> bytes(uint64_t count, std::string_view what) {
    if (count > left()) {
      return error(what, fmt::format("{} bytes are needed, but only {} follow: the file is "
                                     "truncated or its header lies",
                                     count, left()));
    }
    const auto part = file_.subspan(position_, count);
    position_ += count;
    return part;
  }

  template <typename T>
  Result<T> number(std::string_view what) {
    FATHOM_TRY(const auto raw, bytes(sizeof(T), what));
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }

  Result<std::string_view> string(std::string_view what) {
    FATHOM_TRY(const uint64_t length, number<uint64_t>(what));
    FATHOM_TRY(const auto raw, bytes(length, what));
    return std::string_view(reinterpret_cast<const char*>(raw.data()), raw.size());
  }

  // A key or a tensor's name: not empty, bounded, UTF-8.
  Result<std::string_view> name(std::string_view what) {
    FATHOM_TRY(const std::string_view text, string(what));
    if (text.empty() || text.size() > static_cast<uint64_t>(limits::kMaxGgufNameBytes) ||
        !utf8_is_valid(text)) {
      return error(what, fmt::format("the name is {} ({} bytes), expected 1 to {} bytes of UTF-8",
                                     shown(text), text.size(), limits::kMaxGgufNameBytes));
    }
    return text;
  }

  Result<GgufType> type(std::string_view what) {
    FATHOM_TRY(const uint32_t number, this->number<uint32_t>(what));
    if (number >= kGgufTypes) {
      return error(what,
                   fmt::format("the value's type is {}, expected 0 to {}", number, kGgufTypes - 1));
    }
    return static_cast<GgufType>(number);
  }

  std::span<const std::byte> since(uint64_t begin) const {
    return file_.subspan(begin, position_ - begin);
  }

 private:
  std::span<const std::byte> file_;
  const std::string& source_;
  uint64_t position_ = 0;
};

Result<GgufValue> read_array(Cursor& in, std::string_view what, int depth) {
  if (depth > limits::kMaxGgufArrayDepth) {
    return in.error(what, fmt::format("lists within lists, {} deep, the limit is {}", depth,
                                      limits::kMaxGgufArrayDepth));
  }
  FATHOM_TRY(const GgufType type, in.type(what));
  FATHOM_TRY(const uint64_t count, in.number<uint64_t>(what));
  // The smallest element of each kind bounds the count by the bytes that are there.
  const uint64_t smallest = type == GgufType::kString  ? 8
                            : type == GgufType::kArray ? 12
                                                       : scalar_bytes(type);
  if (count > in.left() / smallest) {
    return in.error(what, fmt::format("a list of {} values of type {}, but only {} bytes follow",
                                      count, gguf_type_name(type), in.left()));
  }
  const uint64_t begin = in.position();
  if (type == GgufType::kString) {
    for (uint64_t i = 0; i < count; ++i) FATHOM_TRY_STATUS(in.string(what));
  } else if (type == GgufType::kArray) {
    for (uint64_t i = 0; i < count; ++i) FATHOM_TRY_STATUS(read_array(in, what, depth + 1));
  } else {
    FATHOM_TRY_STATUS(in.bytes(count * scalar_bytes(type), what));
  }
  return GgufValue(type, count, in.since(begin));
}

Result<GgufValue> read_value(Cursor& in, std::string_view what) {
  FATHOM_TRY(const GgufType type, in.type(what));
  if (type == GgufType::kArray) return read_array(in, what, 1);
  if (type == GgufType::kString) {
    FATHOM_TRY(const std::string_view text, in.string(what));
    return GgufValue(type, std::as_bytes(std::span(text)));
  }
  FATHOM_TRY(const auto raw, in.bytes(scalar_bytes(type), what));
  if (type == GgufType::kBool && std::to_integer<int>(raw[0]) > 1) {
    return in.error(what, fmt::format("the value is {}, expected 0 (false) or 1 (true)",
                                      std::to_integer<int>(raw[0])));
  }
  return GgufValue(type, raw);
}

// Rank, dimensions and type of a tensor; sets its shape, outermost first, and its bytes.
Status read_shape(Cursor& in, const std::string& what, StoredTensor& t, int64_t& bytes) {
  FATHOM_TRY(const uint32_t rank, in.number<uint32_t>(what));
  if (rank < 1 || rank > static_cast<uint32_t>(limits::kMaxGgufTensorRank)) {
    return in.error(
        what, fmt::format("{} dimensions, expected 1 to {}", rank, limits::kMaxGgufTensorRank));
  }
  int64_t elements = 1;  // the largest product of some dimensions: users of a shape multiply freely
  bool empty = false;
  for (uint32_t i = 0; i < rank; ++i) {
    FATHOM_TRY(const uint64_t n, in.number<uint64_t>(what));
    empty = empty || n == 0;
    if (n > INT64_MAX || __builtin_mul_overflow(
                             elements, static_cast<int64_t>(std::max<uint64_t>(n, 1)), &elements)) {
      return in.error(what, fmt::format("dimension {} is {}, expected a product of dimensions that "
                                        "fits 63 bits",
                                        i, n));
    }
    t.shape.push_back(static_cast<int64_t>(n));
  }
  std::reverse(t.shape.begin(), t.shape.end());
  FATHOM_TRY(const uint32_t number, in.number<uint32_t>(what));
  const auto dtype = dtype_from_ggml_type(number);
  if (!dtype) {
    std::string_view name = "unknown";
    std::string known;
    for (const GgmlType& type : kGgmlTypes) {
      if (type.number == number) name = type.name;
      if (type.dtype) known += fmt::format("{}{}", known.empty() ? "" : ", ", type.name);
    }
    return in.error(what,
                    fmt::format("its type is {} ({}), expected one of {}", number, name, known));
  }
  t.dtype = *dtype;
  const DTypeBlock block = dtype_block(t.dtype);
  if (t.shape.back() % block.elements != 0) {
    return in.error(what, fmt::format("{} elements in a row, expected a multiple of {}, a block "
                                      "of {}",
                                      t.shape.back(), block.elements, dtype_name(t.dtype)));
  }
  if (__builtin_mul_overflow(elements / block.elements, block.bytes, &bytes))
    return in.error(what, fmt::format("shape {} is too large", shape_string(t.shape)));
  if (empty) bytes = 0;
  return {};
}

struct Placed {
  uint64_t offset = 0;
  int64_t bytes = 0;
  std::string_view name;
};

Status read_tensors(Cursor& in, uint64_t count, GgufFile& out, std::vector<Placed>& placed) {
  for (uint64_t i = 0; i < count; ++i) {
    FATHOM_TRY(const std::string_view name, in.name(fmt::format("tensor {} of {}", i + 1, count)));
    const std::string what = "tensor " + shown(name);
    StoredTensor t;
    t.file = out.metadata.source();
    Placed place{.name = name};
    FATHOM_TRY_STATUS(read_shape(in, what, t, place.bytes));
    FATHOM_TRY(place.offset, in.number<uint64_t>(what));
    if (place.offset % out.alignment != 0) {
      return in.error(what, fmt::format("its data begin at offset {}, expected a multiple of {} "
                                        "(general.alignment)",
                                        place.offset, out.alignment));
    }
    if (!out.tensors.emplace(name, std::move(t)).second)
      return in.error(what, "there is a second tensor of this name");
    placed.push_back(place);
  }
  return {};
}

// Gives each tensor its bytes. Gaps are padding; overlaps are refused, since no writer makes them
// and every tool that rewrites a file would have to know.
Status place_tensors(std::span<const std::byte> data, std::vector<Placed> placed, GgufFile& out) {
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return a.offset < b.offset; });
  const Placed* previous = nullptr;
  for (const Placed& p : placed) {
    const auto bytes = static_cast<uint64_t>(p.bytes);
    if (p.offset > data.size() || bytes > data.size() - p.offset) {
      return invalid_argument(fmt::format(
          "{}: tensor {} has its data at {}, {} bytes, but the file has only {} bytes of data: it "
          "is truncated",
          out.metadata.source(), shown(p.name), p.offset, bytes, data.size()));
    }
    if (bytes > 0 && previous != nullptr &&
        previous->offset + static_cast<uint64_t>(previous->bytes) > p.offset) {
      return invalid_argument(fmt::format(
          "{}: the data of tensor {} (at {}) overlap those of tensor {} (at {}, {} bytes)",
          out.metadata.source(), shown(p.name), p.offset, shown(previous->name), previous->offset,
          previous->bytes));
    }
    out.tensors.find(p.name)->second.data = data.subspan(p.offset, bytes);
    if (bytes > 0) previous = &p;
  }
  return {};
}

Status read_alignment(GgufFile& out) {
  const GgufValue* value = out.metadata.find("general.alignment");
  if (value == nullptr) return {};
  const auto n = value->integer();
  if (!n || *n < 8 || *n > (1 << 30) || !std::has_single_bit(static_cast<uint64_t>(*n)))
    return out.metadata.bad("general.alignment", "a power of two from 8 to 2^30");
  out.alignment = static_cast<uint64_t>(*n);
  return {};
}

Result<uint32_t> read_version(Cursor& in, const std::string& source) {
  FATHOM_TRY(const auto magic, in.bytes(4, "the first four bytes"));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    return invalid_argument(fmt::format("{}: begins with {}, expected \"GGUF\"", source,
                                        shown({reinterpret_cast<const char*>(magic.data()), 4})));
  }
  FATHOM_TRY(const uint32_t version, in.number<uint32_t>("the version"));
  if (version == 2 || version == 3) return version;
  if ((version & 0xFFFF) == 0 && version != 0) {
    return invalid_argument(fmt::format(
        "{}: a big-endian GGUF file (version {:#010x}); only little-endian ones are read", source,
        version));
  }
  return invalid_argument(fmt::format(
      "{}: GGUF version {}, expected 2 or 3; convert the model again with a current tool", source,
      version));
}

}  // namespace

std::optional<uint32_t> ggml_type_number(DType type) {
  for (const GgmlType& t : kGgmlTypes)
    if (t.dtype == type) return t.number;
  return std::nullopt;
}

std::optional<DType> dtype_from_ggml_type(uint32_t number) {
  for (const GgmlType& t : kGgmlTypes)
    if (t.number == number) return t.dtype;
  return std::nullopt;
}

Result<GgufFile> parse_gguf(std::span<const std::byte> file, const std::string& source) {
  Cursor in(file, source);
  GgufFile out;
  out.metadata = GgufMetadata(source);
  FATHOM_TRY(out.version, read_version(in, source));
  FATHOM_TRY(const uint64_t tensors, in.number<uint64_t>("the number of tensors"));
  FATHOM_TRY(const uint64_t keys, in.number<uint64_t>("the number of keys"));
  if (tensors > static_cast<uint64_t>(limits::kMaxTensorsPerModel)) {
    return resource_limit(fmt::format("{}: {} tensors, the limit is {}", source, tensors,
                                      limits::kMaxTensorsPerModel));
  }
  if (keys > static_cast<uint64_t>(limits::kMaxGgufKeys)) {
    return resource_limit(
        fmt::format("{}: {} keys, the limit is {}", source, keys, limits::kMaxGgufKeys));
  }
  for (uint64_t i = 0; i < keys; ++i) {
    FATHOM_TRY(const std::string_view key, in.name(fmt::format("key {} of {}", i + 1, keys)));
    const std::string what = "key " + shown(key);
    FATHOM_TRY(const GgufValue value, read_value(in, what));
    if (!out.metadata.insert(key, value)) return in.error(what, "it stands there twice");
  }
  FATHOM_TRY_STATUS(read_alignment(out));
  std::vector<Placed> placed;
  FATHOM_TRY_STATUS(read_tensors(in, tensors, out, placed));
  const uint64_t begin = (in.position() + out.alignment - 1) / out.alignment * out.alignment;
  const auto data = file.subspan(std::min<uint64_t>(begin, file.size()));
  FATHOM_TRY_STATUS(place_tensors(data, std::move(placed), out));
  return out;
}

}  // namespace fathom
