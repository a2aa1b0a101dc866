// Tables of request fields, and the reader that validates a JSON object against one.
//
// One table per kind of object says name, type, range and meaning of each field. The reader takes
// its rules from it and refuses (FATHOM_CHECK) to read what is not in it; openapi.h prints it. So
// the document cannot say anything else than the code does.
//
// A field that is null counts as absent, since clients send null for what they leave out. Fields
// that are not in the table are ignored, as both public APIs do with most of theirs.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/api_error.h"

namespace fathom::server::api {

enum class FieldType : uint8_t {
  kBoolean,
  kInteger,
  kNumber,
  kString,
  kObject,
  kList,
  kOther,  // several types: `schema` says which, and the table's user checks
};

inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();

struct FieldSpec {
  std::string_view name;
  FieldType type = FieldType::kOther;
  std::string_view doc;
  bool required = false;
  // The range of a number, the bytes of a string, the entries of a list.
  double min = -kNoLimit;
  double max = kNoLimit;
  std::string_view values = {};  // kString: the only ones allowed, with commas between
  std::string_view schema = {};  // JSON, instead of what the above amounts to; items of a kList
};

using FieldTable = std::span<const FieldSpec>;

// A JSON object of the client. The object and the table must outlive the reader.
class FieldReader {
 public:
  // `path`: where the object stands in the body ("" for the top).
  FieldReader(const nlohmann::ordered_json& object, FieldTable table, std::string path = "");

  // Presence, types and ranges of all fields. The typed getters are for after this.
  ApiStatus check() const;

  // Null if absent or null.
  const nlohmann::ordered_json* find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::optional<bool> boolean(std::string_view name) const;
  std::optional<int64_t> integer(std::string_view name) const;
  std::optional<double> number(std::string_view name) const;
  std::optional<std::string> string(std::string_view name) const;

  // "thinking.type"
  std::string path(std::string_view name) const;
  // "temperature is 3, expected …", with the path as param.
  ApiError bad(std::string_view name, std::string_view expected) const;

 private:
  ApiStatus check_field(const FieldSpec& spec) const;

  const nlohmann::ordered_json& object_;
  FieldTable table_;
  std::string path_;
};

// The body of a request as an object.
ApiResult<nlohmann::ordered_json> parse_body(std::string_view body);

// A value for messages: short, one line, valid UTF-8.
std::string preview(const nlohmann::ordered_json& value);
ApiError bad_value(std::string path, const nlohmann::ordered_json* seen, std::string_view expected);

// A list of strings, or one string; ≤ max_entries, each 1 to max_bytes bytes.
struct StringListRule {
  std::size_t max_entries = 0;
  std::size_t max_bytes = 0;
};
ApiResult<std::vector<std::string>> read_strings(const FieldReader& fields, std::string_view name,
                                                 const StringListRule& rule);

// [a-zA-Z0-9_-]{1,64}: names of tools and schemas.
bool is_api_name(std::string_view text);

}  // namespace fathom::server::api
