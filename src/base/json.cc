#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <type_traits>

#include "base/file.h"

namespace fathom {
namespace {

using nlohmann::json;

// Builds a json value from SAX events, keeping the path of keys for messages. nlohmann's own DOM
// builder keeps the last of two equal keys; a model file with duplicates is a lie, so it is
// refused. Json: nlohmann::json or ordered_json.
template <typename Json>
class StrictBuilder : public nlohmann::json_sax<Json> {
  using Sax = nlohmann::json_sax<Json>;
  static constexpr bool kOrdered = std::is_same_v<Json, nlohmann::ordered_json>;

 public:
  using typename Sax::binary_t;
  using typename Sax::number_float_t;
  using typename Sax::number_integer_t;
  using typename Sax::number_unsigned_t;
  using typename Sax::string_t;

  StrictBuilder(std::string_view text, std::string_view source, const JsonLimits& limits)
      : text_(text), source_(source), limits_(limits) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool v) override { return add(v); }
  bool number_integer(number_integer_t v) override { return add(v); }
  bool number_unsigned(number_unsigned_t v) override { return add(v); }
  bool number_float(number_float_t v, const string_t& text) override {
    if constexpr (kOrdered) {
      if (text.find_first_of(".eE") == string_t::npos)
        return add(Json::binary(std::vector<uint8_t>(text.begin(), text.end())));
    }
    if (!std::isfinite(v)) return fail(fmt::format("{}, expected a finite number", text));
    return add(v);
  }
  bool string(string_t& v) override { return add(std::move(v)); }
  bool binary(binary_t&) override { return fail("binary data, expected JSON text"); }
  bool start_object(std::size_t) override { return push(Json::object()); }
  bool start_array(std::size_t) override { return push(Json::array()); }
  bool end_object() override { return pop(); }
  bool end_array() override { return pop(); }

  bool key(string_t& v) override {
    Level& top = stack_.back();
    top.key = std::move(v);
    if constexpr (kOrdered) {
      if (!top.keys.insert(top.key).second) return fail(kTwice);
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override {
    constexpr int kNumberOverflow = 406;  // nlohmann's id of "number overflow parsing"
    if (error.id == kNumberOverflow) {
      return fail(
          fmt::format("{}, expected a number that fits a double", json_preview(json(last_token))));
    }
    std::size_t begin = position > 20 ? position - 20 : 0;
    while (begin > 0 && begin < text_.size() && (static_cast<uint8_t>(text_[begin]) & 0xC0) == 0x80)
      --begin;
    const std::string context(text_.substr(std::min(begin, text_.size()), 40));
    return fail(fmt::format("not valid JSON at byte {} (read '{}', near {})", position,
                            json_preview(json(last_token)), json_preview(json(context))));
  }

  Result<Json> take(bool ok) && {
    if (!ok) return invalid_argument(error_);
    return std::move(root_);
  }

 private:
  static constexpr std::string_view kTwice = "the key stands twice, expected once";

  struct Level {
    Json value;
    std::string key;
    // Of an ordered object, which cannot look its keys up quickly. Not a hash set: who writes the
    // text could choose keys that collide.
    std::set<std::string> keys;
  };

  bool add(Json v) {
    if (++values_ > limits_.max_values)
      return fail(fmt::format("more than {} values", limits_.max_values));
    if (stack_.empty()) {
      root_ = std::move(v);
    } else if (Level& top = stack_.back(); top.value.is_array()) {
      top.value.push_back(std::move(v));
    } else if constexpr (kOrdered) {
      // The key is known to be absent, and looking for it would be linear in this type.
      top.value.template get_ref<typename Json::object_t&>().emplace_back(top.key, std::move(v));
    } else {
      auto& object = top.value.template get_ref<typename Json::object_t&>();
      if (!object.emplace(top.key, std::move(v)).second) return fail(kTwice);
    }
    return true;
  }
  bool push(Json v) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth)
      return fail(fmt::format("nested deeper than {} levels", limits_.max_depth));
    stack_.push_back({std::move(v), "", {}});
    return true;
  }
  bool pop() {
    Json v = std::move(stack_.back().value);
    stack_.pop_back();
    return add(std::move(v));
  }
  bool fail(std::string_view what) {
    std::string path;
    for (const Level& level : stack_) {
      if (level.value.is_array()) {
        path += fmt::format("[{}]", level.value.size());
      } else if (!level.key.empty()) {
        path += (path.empty() ? "" : ".") + level.key;
      }
    }
    // The path is foreign text: printed through json so that it stays valid, one-line UTF-8.
    // Of a long one the end is kept: it says which field.
    constexpr std::size_t kMaxShownBytes = 200;
    if (path.size() > kMaxShownBytes) path = "…" + path.substr(path.size() - kMaxShownBytes);
    const std::string shown = json(path).dump(-1, ' ', false, json::error_handler_t::replace);
    error_ = path.empty() ? fmt::format("{}: {}", source_, what)
                          : fmt::format("{}: field {}: {}", source_, shown, what);
    return false;
  }

  std::string_view text_;
  std::string source_;
  JsonLimits limits_;
  std::vector<Level> stack_;
  Json root_;
  int64_t values_ = 0;
  std::string error_;
};

template <typename Json>
Result<Json> parse_strictly(std::string_view text, std::string_view source,
                            const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    return resource_limit(fmt::format("{}: {} bytes of JSON, the limit is {}", source, text.size(),
                                      limits.max_bytes));
  }
  // nlohmann takes a zero byte for the end of the text and would not look at what follows it.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    return invalid_argument(
        fmt::format("{}: not valid JSON at byte {} (a zero byte)", source, zero));
  StrictBuilder<Json> builder(text, source, limits);
  const bool ok = Json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).take(ok);
}

}  // namespace

std::string json_preview(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  constexpr std::size_t kMax = 60;
  if (text.size() > kMax) {
    std::size_t cut = kMax;
    while (cut > 0 && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
    text.resize(cut);
    text += "…";
  }
  return text;
}

std::string json_preview_text(std::string_view text) { return json_preview(json(text)); }

Result<nlohmann::json> parse_json(std::string_view text, std::string_view source,
                                  const JsonLimits& limits) {
  return parse_strictly<json>(text, source, limits);
}

Result<nlohmann::ordered_json> parse_ordered_json(std::string_view text, std::string_view source,
                                                  const JsonLimits& limits) {
  return parse_strictly<nlohmann::ordered_json>(text, source, limits);
}

Result<nlohmann::json> read_json_file(const std::string& path, const JsonLimits& limits) {
  FATHOM_TRY(std::string text, read_file(path, limits.max_bytes));
  return parse_json(text, path, limits);
}

JsonReader::JsonReader(const nlohmann::json& object, std::string source, std::string path)
    : json_(&object), source_(std::move(source)), path_(std::move(path)) {
  FATHOM_CHECK(object.is_object()) << "JsonReader over " << json_preview(object);
}

const nlohmann::json* JsonReader::find(std::string_view field) const {
  const auto it = json_->find(field);
  return it == json_->end() || it->is_null() ? nullptr : &*it;
}

bool JsonReader::has(std::string_view field) const { return find(field) != nullptr; }

std::string JsonReader::where(std::string_view field) const {
  return fmt::format("{}: {}{}{}", source_, path_, path_.empty() ? "" : ".", field);
}

Error JsonReader::bad(std::string_view field, std::string_view expected) const {
  const json* v = find(field);
  return invalid_argument(fmt::format("{} is {}, expected {}", where(field),
                                      v ? json_preview(*v) : std::string("missing"), expected));
}

Result<double> JsonReader::number(std::string_view field, double min, double max) const {
  const json* v = find(field);
  const std::string expected = fmt::format("a number from {} to {}", min, max);
  if (v == nullptr || !v->is_number()) return bad(field, expected);
  const double d = v->get<double>();
  if (!std::isfinite(d) || d < min || d > max) return bad(field, expected);
  return d;
}

Result<double> JsonReader::number_or(std::string_view field, double fallback, double min,
                                     double max) const {
  if (!has(field)) return fallback;
  return number(field, min, max);
}

Result<int64_t> JsonReader::integer(std::string_view field, int64_t min, int64_t max) const {
  const json* v = find(field);
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  if (v == nullptr || !v->is_number()) return bad(field, expected);
  if (v->is_number_unsigned()) {
    const auto u = v->get<uint64_t>();
    if (max < 0 || u > static_cast<uint64_t>(max) || (min > 0 && u < static_cast<uint64_t>(min)))
      return bad(field, expected);
    return static_cast<int64_t>(u);
  }
  if (v->is_number_float()) {
    const double d = v->get<double>();
    if (!std::isfinite(d) || d != std::floor(d) || std::abs(d) > 9e15) return bad(field, expected);
    const auto i = static_cast<int64_t>(d);
    if (i < min || i > max) return bad(field, expected);
    return i;
  }
  const auto i = v->get<int64_t>();
  if (i < min || i > max) return bad(field, expected);
  return i;
}

Result<int64_t> JsonReader::integer_or(std::string_view field, int64_t fallback, int64_t min,
                                       int64_t max) const {
  if (!has(field)) return fallback;
  return integer(field, min, max);
}

Result<bool> JsonReader::boolean_or(std::string_view field, bool fallback) const {
  const json* v = find(field);
  if (v == nullptr) return fallback;
  if (!v->is_boolean()) return bad(field, "true or false");
  return v->get<bool>();
}

Result<std::string> JsonReader::string(std::string_view field) const {
  const json* v = find(field);
  if (v == nullptr || !v->is_string()) return bad(field, "a string");
  return v->get<std::string>();
}

Result<std::string> JsonReader::string_or(std::string_view field, std::string_view fallback) const {
  if (!has(field)) return std::string(fallback);
  return string(field);
}

Result<std::vector<int64_t>> JsonReader::integer_list(std::string_view field, int64_t min,
                                                      int64_t max) const {
  const json* v = find(field);
  std::vector<int64_t> out;
  if (v == nullptr) return out;
  if (!v->is_array()) {
    FATHOM_TRY(const int64_t one, integer(field, min, max));
    out.push_back(one);
    return out;
  }
  for (const json& e : *v) {
    if (!e.is_number_integer()) return bad(field, "an integer or a list of integers");
    const bool too_large = e.is_number_unsigned() && e.get<uint64_t>() > INT64_MAX;
    const auto i = too_large ? 0 : e.get<int64_t>();
    if (too_large || i < min || i > max) {
      return bad(field, fmt::format("integers from {} to {}", min, max));
    }
    out.push_back(i);
  }
  return out;
}

Result<std::optional<JsonReader>> JsonReader::object(std::string_view field) const {
  const json* v = find(field);
  if (v == nullptr) return std::optional<JsonReader>();
  if (!v->is_object()) return bad(field, "an object");
  return std::optional<JsonReader>(
      JsonReader(*v, source_, path_ + (path_.empty() ? "" : ".") + std::string(field)));
}

}  // namespace fathom
