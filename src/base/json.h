// Strict reading of foreign JSON: bounded size and depth, duplicate keys refused, NaN and Infinity
// refused, and errors that name the file and the field.
//
// Owns parsing and typed access. Does not own any schema: each reader asks for its own fields.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "base/result.h"

namespace fathom {

struct JsonLimits {
  int64_t max_bytes = limits::kMaxJsonBytes;
  int max_depth = limits::kMaxJsonDepth;
  int64_t max_values = INT64_MAX;  // scalars, lists and objects together: what memory grows with
};

// Parses `text`. `source` (a file name) begins every error message; the error names the field at
// which parsing stopped, what was seen there, and what was expected.
Result<nlohmann::json> parse_json(std::string_view text, std::string_view source,
                                  const JsonLimits& limits = {});

// As parse_json, but objects keep their keys in the order of the text (chat templates print tools
// as the caller wrote them). An integer that no 64-bit type holds arrives as a binary value of its
// digits, which JSON text cannot hold otherwise: nothing is rounded.
Result<nlohmann::ordered_json> parse_ordered_json(std::string_view text, std::string_view source,
                                                  const JsonLimits& limits = {});

// Reads and parses a file.
Result<nlohmann::json> read_json_file(const std::string& path, const JsonLimits& limits = {});

// A JSON object with typed getters. Each names file, field, value seen and value expected when it
// fails. A field that is absent or null is "missing". The json must outlive the reader.
class JsonReader {
 public:
  // `source`: the file's name; `path`: where in it this object stands ("" for the top).
  JsonReader(const nlohmann::json& object, std::string source, std::string path = "");

  bool has(std::string_view field) const;
  // Integers: also accepts 64.0; anything outside [min, max] is an error.
  Result<int64_t> integer(std::string_view field, int64_t min, int64_t max) const;
  Result<int64_t> integer_or(std::string_view field, int64_t fallback, int64_t min,
                             int64_t max) const;
  // Finite numbers within [min, max].
  Result<double> number(std::string_view field, double min, double max) const;
  Result<double> number_or(std::string_view field, double fallback, double min, double max) const;
  Result<bool> boolean_or(std::string_view field, bool fallback) const;
  Result<std::string> string(std::string_view field) const;
  Result<std::string> string_or(std::string_view field, std::string_view fallback) const;
  // An integer or an array of integers (eos_token_id comes in both forms).
  Result<std::vector<int64_t>> integer_list(std::string_view field, int64_t min, int64_t max) const;
  // The object in `field`; none if missing; an error if it is something else.
  Result<std::optional<JsonReader>> object(std::string_view field) const;

  const nlohmann::json& value() const { return *json_; }
  const std::string& source() const { return source_; }
  // "config.json: rope_scaling.factor" for messages.
  std::string where(std::string_view field) const;
  // An invalid-argument error: "<where>: <seen>, expected <expected>".
  Error bad(std::string_view field, std::string_view expected) const;

 private:
  const nlohmann::json* find(std::string_view field) const;
  const nlohmann::json* json_;
  std::string source_;
  std::string path_;
};

// A short printable form of a value for error messages (at most 60 bytes, valid UTF-8).
std::string json_preview(const nlohmann::json& value);
std::string json_preview_text(std::string_view text);

}  // namespace fathom
