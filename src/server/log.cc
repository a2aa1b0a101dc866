// Lines to spdlog's queue. See log.h.
#include "server/log.h"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/limits.h"

namespace fathom::server {
namespace {

using Json = nlohmann::ordered_json;

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

std::string_view name_of(LogLevel level) {
  constexpr std::string_view kNames[] = {"debug", "info", "warning", "error"};
  return kNames[static_cast<std::size_t>(level)];
}

std::string timestamp(int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     unix_ms % 1000);
}

// One line, whatever bytes the text holds.
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json to_json(const LogValue& value) {
  return std::visit([](const auto& v) { return Json(v); }, value);
}

}  // namespace

std::string format_log_line(LogFormat format, int64_t unix_ms, LogLevel level,
                            std::string_view message, const LogFields& fields) {
  if (format == LogFormat::kJson) {
    Json line;
    line["ts"] = timestamp(unix_ms);
    line["level"] = name_of(level);
    line["msg"] = message;
    for (const auto& [name, value] : fields) line[std::string(name)] = to_json(value);
    return dump(line);
  }
  std::string line = fmt::format("{} {:<7} ", timestamp(unix_ms), name_of(level));
  // Quoted only where it has to be: control characters must not make a second line.
  const std::string quoted = dump(Json(message));
  line += quoted.size() == message.size() + 2 ? std::string(message) : quoted;
  for (const auto& [name, value] : fields)
    line += fmt::format(" {}={}", name, dump(to_json(value)));
  return line;
}

class Log::Impl {
 public:
  LogFormat format = LogFormat::kJson;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
  std::atomic<std::size_t> lost_reported = 0;
};

Log::Log(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Log::~Log() {
  if (impl_->logger) impl_->logger->flush();
  impl_->logger.reset();
  impl_->pool.reset();  // joins its thread once the queue is empty
}

Result<std::unique_ptr<Log>> Log::open(LogFormat format, LogLevel level, const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->format = format;
  try {
    spdlog::sink_ptr sink;
    if (path.empty())
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    else
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    impl->pool = std::make_shared<spdlog::details::thread_pool>(limits::kMaxQueuedLogLines, 1);
    impl->logger = std::make_shared<spdlog::async_logger>(
        "fathom", std::move(sink), impl->pool, spdlog::async_overflow_policy::overrun_oldest);
    impl->logger->set_pattern("%v");
    impl->logger->set_level(to_spdlog(level));
    impl->logger->flush_on(spdlog::level::debug);
  } catch (const std::exception& error) {
    return invalid_argument(fmt::format("log: cannot open '{}': {}", path, error.what()));
  }
  return std::unique_ptr<Log>(new Log(std::move(impl)));
}

void Log::write(LogLevel level, std::string_view message, const LogFields& fields) {
  if (!enabled(level)) return;
  const auto unix_ms = [] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const std::size_t lost = impl_->pool->overrun_counter();
  const std::size_t reported = impl_->lost_reported.exchange(lost);
  if (lost > reported) {
    LogFields count;
    count.emplace_back("lines", static_cast<int64_t>(lost - reported));
    impl_->logger->log(
        spdlog::level::warn,
        format_log_line(impl_->format, unix_ms(), LogLevel::kWarning,
                        "log lines were lost: whoever reads the log is too slow", count));
  }
  impl_->logger->log(to_spdlog(level),
                     format_log_line(impl_->format, unix_ms(), level, message, fields));
}

void Log::set_level(LogLevel level) { impl_->logger->set_level(to_spdlog(level)); }
bool Log::enabled(LogLevel level) const { return impl_->logger->should_log(to_spdlog(level)); }

}  // namespace fathom::server
