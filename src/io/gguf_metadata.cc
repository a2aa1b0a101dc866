// GGUF values and their typed getters. The bytes were checked by parse_gguf (gguf.cc): a value's
// span holds what its type says.
#include <algorithm>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/utf8.h"
#include "io/gguf.h"

namespace fathom {
namespace {

template <typename T>
T load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

std::size_t integer_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
      return 8;
    default:
      return 0;
  }
}

std::optional<int64_t> load_integer(GgufType type, const std::byte* data) {
  switch (type) {
    case GgufType::kU8:
      return load<uint8_t>(data);
    case GgufType::kI8:
      return load<int8_t>(data);
    case GgufType::kU16:
      return load<uint16_t>(data);
    case GgufType::kI16:
      return load<int16_t>(data);
    case GgufType::kU32:
      return load<uint32_t>(data);
    case GgufType::kI32:
      return load<int32_t>(data);
    case GgufType::kI64:
      return load<int64_t>(data);
    case GgufType::kU64: {
      const auto value = load<uint64_t>(data);
      if (value > INT64_MAX) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  static constexpr std::array<std::string_view, kGgufTypes> kNames = {
      "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "list", "u64", "i64", "f64"};
  return kNames[static_cast<std::size_t>(type)];
}

std::optional<int64_t> GgufValue::integer() const { return load_integer(type_, data_.data()); }

std::optional<double> GgufValue::number() const {
  if (type_ == GgufType::kF32) return load<float>(data_.data());
  if (type_ == GgufType::kF64) return load<double>(data_.data());
  if (type_ == GgufType::kU64) return static_cast<double>(load<uint64_t>(data_.data()));
  const auto i = integer();
  if (!i) return std::nullopt;
  return static_cast<double>(*i);
}

std::optional<bool> GgufValue::boolean() const {
  if (type_ != GgufType::kBool) return std::nullopt;
  return data_[0] != std::byte{0};
}

std::optional<std::string_view> GgufValue::string() const {
  if (type_ != GgufType::kString) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(data_.data()), data_.size());
}

std::optional<std::vector<int64_t>> GgufValue::integers() const {
  const std::size_t bytes = integer_bytes(element_type_);
  if (type_ != GgufType::kArray || bytes == 0) return std::nullopt;
  std::vector<int64_t> out;
  out.reserve(count_);
  for (uint64_t i = 0; i < count_; ++i) {
    const auto value = load_integer(element_type_, data_.data() + i * bytes);
    if (!value) return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

std::optional<std::vector<float>> GgufValue::floats() const {
  if (type_ != GgufType::kArray || element_type_ != GgufType::kF32) return std::nullopt;
  std::vector<float> out;
  out.reserve(count_);
  for (uint64_t i = 0; i < count_; ++i)
    out.push_back(load<float>(data_.data() + i * sizeof(float)));
  return out;
}

std::optional<std::vector<std::string_view>> GgufValue::strings() const {
  if (type_ != GgufType::kArray || element_type_ != GgufType::kString) return std::nullopt;
  std::vector<std::string_view> out;
  out.reserve(count_);
  const std::byte* p = data_.data();
  for (uint64_t i = 0; i < count_; ++i) {
    const auto length = load<uint64_t>(p);
    out.emplace_back(reinterpret_cast<const char*>(p) + sizeof(length), length);
    p += sizeof(length) + length;
  }
  return out;
}

std::string GgufValue::preview() const {
  if (const auto text = string())  // a character has at most 4 bytes, and the preview fewer of them
    return json_preview(nlohmann::json(utf8_sanitize(text->substr(0, 300))));
  if (const auto flag = boolean()) return *flag ? "true" : "false";
  if (const auto i = integer()) return std::to_string(*i);
  if (const auto x = number()) return fmt::format("{}", *x);
  return fmt::format("a list of {} values of type {}", count_, gguf_type_name(element_type_));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

void GgufMetadata::for_each(
    const std::function<void(std::string_view, const GgufValue&)>& visit) const {
  for (const auto& [key, value] : values_) visit(key, value);
}

bool GgufMetadata::insert(std::string_view key, const GgufValue& value) {
  return values_.emplace(key, value).second;
}

Error GgufMetadata::bad(std::string_view key, std::string_view expected) const {
  const GgufValue* value = find(key);
  return invalid_argument(fmt::format("{}: {} is {}, expected {}", source_, key,
                                      value == nullptr ? "missing" : value->preview(), expected));
}

Result<int64_t> GgufMetadata::integer(std::string_view key, int64_t min, int64_t max) const {
  const GgufValue* value = find(key);
  std::optional<int64_t> n;
  if (value != nullptr) n = value->integer();
  if (value != nullptr && value->type() == GgufType::kArray) {
    const auto list = value->integers();
    bool equal = list.has_value() && !list->empty();
    for (std::size_t i = 1; equal && i < list->size(); ++i) equal = (*list)[i] == (*list)[0];
    if (!equal) return bad(key, "one integer, or a list of equal ones");
    n = (*list)[0];
  }
  if (!n || *n < min || *n > max)
    return bad(key, fmt::format("an integer from {} to {}", min, max));
  return *n;
}

Result<int64_t> GgufMetadata::integer_or(std::string_view key, int64_t fallback, int64_t min,
                                         int64_t max) const {
  if (!has(key)) return fallback;
  return integer(key, min, max);
}

Result<double> GgufMetadata::number(std::string_view key, double min, double max) const {
  const GgufValue* value = find(key);
  auto x = value == nullptr ? std::nullopt : value->number();
  if (const auto list = value == nullptr ? std::nullopt : value->floats()) {
    const auto same = [&](float other) { return other == list->front(); };
    if (list->empty() || !std::all_of(list->begin(), list->end(), same))
      return bad(key, "one number, or a list of equal ones");
    x = list->front();
  }
  if (!x || !(*x >= min && *x <= max))
    return bad(key, fmt::format("a number from {} to {}", min, max));
  return *x;
}

Result<double> GgufMetadata::number_or(std::string_view key, double fallback, double min,
                                       double max) const {
  if (!has(key)) return fallback;
  return number(key, min, max);
}

Result<bool> GgufMetadata::boolean_or(std::string_view key, bool fallback) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return fallback;
  const auto flag = value->boolean();
  if (!flag) return bad(key, "true or false");
  return *flag;
}

Result<std::string> GgufMetadata::string(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto text = value == nullptr ? std::nullopt : value->string();
  if (!text || !utf8_is_valid(*text)) return bad(key, "a string of UTF-8");
  return std::string(*text);
}

Result<std::string> GgufMetadata::string_or(std::string_view key, std::string_view fallback) const {
  if (!has(key)) return std::string(fallback);
  return string(key);
}

Result<std::string> GgufMetadata::label_or(std::string_view key, std::string_view fallback) const {
  constexpr int kMaxCharacters = 200;
  FATHOM_TRY(const std::string text, string_or(key, utf8_sanitize(fallback)));
  std::string out;
  int characters = 0;
  for (std::size_t i = 0; i < text.size() && characters < kMaxCharacters; ++characters) {
    const std::size_t length = utf8_valid_length(text, i);
    const char32_t c = utf8_decode(text, i, length);
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);  // C0, DEL, C1
    utf8_append(out, control ? char32_t{0xFFFD} : c);
    i += length;
  }
  return out;
}

}  // namespace fathom
