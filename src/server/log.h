// The server's log: lines of JSON or text on stderr, never waited for.
//
// Owns formatting, levels and the queue: a full one loses its oldest lines instead of holding up a
// request, and says how many it lost. Never holds prompts or answers: who logs those asks
// `log.prompts` first. spdlog stays in log.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace fathom::server {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : uint8_t { kJson, kText };

using LogValue = std::variant<std::string, int64_t, double, bool>;
using LogFields = std::vector<std::pair<std::string_view, LogValue>>;

class Log {
 public:
  // To stderr, or to the file `path` (appended) if it is not empty.
  static Result<std::unique_ptr<Log>> open(LogFormat format, LogLevel level,
                                           const std::string& path = "");
  ~Log();  // writes what is queued
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // {"ts":"2026-11-26T03:00:00.123Z","level":"info","msg":…, fields…}, in the order given.
  void write(LogLevel level, std::string_view message, const LogFields& fields = {});
  void set_level(LogLevel level);
  bool enabled(LogLevel level) const;

 private:
  class Impl;
  explicit Log(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One line as write() makes it, without the line end. `unix_ms`: the time.
std::string format_log_line(LogFormat format, int64_t unix_ms, LogLevel level,
                            std::string_view message, const LogFields& fields);

}  // namespace fathom::server
