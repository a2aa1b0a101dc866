// What generations leave in the metrics: counts, tokens and latencies per model, and the engines'
// state as ModelService::status() tells it.
//
// Owns names and labels, after vLLM's with the prefix fathom_. The only label that is open is the
// model's id, of which there are as many as models are served.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>

#include "server/metrics.h"
#include "server/service.h"

namespace fathom::server {

class GenerationMetrics {
 public:
  struct Series;
  // `metrics` must outlive this.
  explicit GenerationMetrics(Metrics& metrics);
  ~GenerationMetrics();

  // Shows the service's state at every rendering; it must outlive the last one.
  void show(const ModelService& service);

  Series& of_model(const std::string& id);
  void count_end(const std::string& model, const char* finish_reason);

 private:
  void update(const ModelService& service);
  // A counter that follows a total which starts again at 0 when a worker does.
  void follow(const char* name, const char* help, const std::string& model, double total);

  Metrics& metrics_;
  std::map<std::string, std::unique_ptr<Series>> models_;
  std::map<std::tuple<std::string, std::string>, double> totals_;
};

// One request's way through them. Ended by its destructor as "abort" if nothing else came.
class RequestMeter {
 public:
  using Clock = std::chrono::steady_clock;
  RequestMeter(GenerationMetrics& metrics, std::string model, std::size_t choices,
               Clock::time_point start);
  ~RequestMeter();
  RequestMeter(const RequestMeter&) = delete;
  RequestMeter& operator=(const RequestMeter&) = delete;

  void prompt(int64_t tokens);
  void tokens(int choice, std::size_t count);
  // One answer is complete: "stop", "length", "tool_calls".
  void finished(const char* reason);
  void failed();

 private:
  void end(const char* reason);

  GenerationMetrics& metrics_;
  std::string model_;
  GenerationMetrics::Series& series_;
  std::vector<Clock::time_point> last_;  // token of each answer; epoch: none yet
  Clock::time_point start_;
  std::size_t open_;
};

}  // namespace fathom::server
