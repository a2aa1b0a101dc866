// A JSON schema as the compiler sees it: one Schema per different subschema, keywords checked.
//
// Owns the reading of keywords and the errors that name them by path ($.properties.x.pattern). Does
// not own what keywords mean together (schema_compiler.h). Internal to this folder.
//
// Keywords fall into four groups: enforced ones; ones that say nothing about validity (title,
// default, …, and any name JSON Schema does not know), which are left out; ones that are not
// enforced but change what is valid (not, if, contains, …), which are errors; and $ref, which stays
// a reference so that schemas may be recursive.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/number_range.h"

namespace fathom::grammar {

using SchemaId = uint32_t;

namespace types {
inline constexpr uint8_t kNull = 1;
inline constexpr uint8_t kBoolean = 2;
inline constexpr uint8_t kInteger = 4;
inline constexpr uint8_t kFraction = 8;  // numbers that are no integers
inline constexpr uint8_t kNumber = kInteger | kFraction;
inline constexpr uint8_t kString = 16;
inline constexpr uint8_t kArray = 32;
inline constexpr uint8_t kObject = 64;
inline constexpr uint8_t kAll = 127;
}  // namespace types

struct Schema {
  std::string path;  // where it stands first, for messages

  uint8_t types = types::kAll;
  // The texts of enum's or const's values (an enum may be empty).
  std::optional<std::vector<std::string>> values;
  NumberRange numbers;
  int64_t min_length = 0;
  int64_t max_length = -1;  // < 0: without end; so are all the maxima
  std::vector<std::string> patterns;
  std::vector<std::string> formats;

  std::vector<std::pair<std::string, SchemaId>> properties;
  std::vector<std::pair<std::string, SchemaId>> pattern_properties;
  std::vector<std::string> required;
  std::optional<SchemaId> additional;
  int64_t min_properties = 0;
  int64_t max_properties = -1;

  std::vector<SchemaId> prefix_items;
  std::optional<SchemaId> items;
  int64_t min_items = 0;
  int64_t max_items = -1;
  bool unique_items = false;

  // All of these hold as well: every one of all_of, one of each group, and the reference.
  std::vector<SchemaId> all_of;
  std::vector<std::vector<SchemaId>> any_of;
  std::optional<uint32_t> reference;  // into SchemaSet's targets

  // Says something itself, beside all_of, any_of and reference.
  bool asserts = false;
};

// All subschemas of one schema text.
class SchemaSet {
 public:
  // Errors: invalid argument or resource limit; `source` begins the message.
  static Result<SchemaSet> parse(std::string_view text, std::string_view source);

  SchemaId root() const { return root_; }
  const Schema& operator[](SchemaId id) const { return schemas_[id]; }
  SchemaId target(uint32_t reference) const { return targets_[reference]; }
  std::size_t size() const { return schemas_.size(); }
  // A schema that asks for an object and no more.
  SchemaId any_object() const { return any_object_; }

 private:
  friend class SchemaParser;
  std::deque<Schema> schemas_;
  std::vector<SchemaId> targets_;
  SchemaId root_ = 0;
  SchemaId any_object_ = 0;
};

// oneOf is taken as anyOf, which is right only if no value satisfies two of the options. Accepts if
// that is evident: different types, values or ranges, or a property that all require and that tells
// them apart. Errors: invalid argument. `work` counts over all oneOfs of a schema.
Status check_one_of(const SchemaSet& schemas, const std::vector<SchemaId>& options,
                    const std::string& where, int64_t& work);

}  // namespace fathom::grammar
