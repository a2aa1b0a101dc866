// See generation_metrics.h.
#include "server/handlers/generation_metrics.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "server/handlers/common.h"

namespace fathom::server {
namespace {

using nlohmann::json;

const std::vector<double>& first_token_bounds() {
  static const std::vector<double> bounds{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08,
                                          0.1,   0.25,  0.5,  0.75, 1,    2.5,  5,
                                          7.5,   10,    20,   40,   80,   160,  640};
  return bounds;
}

const std::vector<double>& inter_token_bounds() {
  static const std::vector<double> bounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                          0.2,   0.3,    0.4,   0.5,  0.75,  1,    2.5,   5,   10};
  return bounds;
}

const std::vector<double>& request_bounds() {
  static const std::vector<double> bounds{0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,  15,
                                          20,  30,  40,  50,  60, 120, 240, 480, 960, 1920};
  return bounds;
}

double number_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

const json& list_of(const json& object, const char* name) {
  static const json empty = json::array();
  if (!object.is_object()) return empty;
  const auto found = object.find(name);
  return found != object.end() && found->is_array() ? *found : empty;
}

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

struct GenerationMetrics::Series {
  Counter& prompt_tokens;
  Counter& generation_tokens;
  Histogram& first_token;
  Histogram& inter_token;
  Histogram& request;
};

GenerationMetrics::GenerationMetrics(Metrics& metrics) : metrics_(metrics) {}
GenerationMetrics::~GenerationMetrics() = default;

GenerationMetrics::Series& GenerationMetrics::of_model(const std::string& id) {
  std::unique_ptr<Series>& place = models_[id];
  if (place != nullptr) return *place;
  const MetricLabels labels{{"model", id}};
  place = std::make_unique<Series>(Series{
      metrics_.counter("fathom_prompt_tokens_total", "Tokens of prompts.", labels),
      metrics_.counter("fathom_generation_tokens_total", "Tokens of answers.", labels),
      metrics_.histogram("fathom_time_to_first_token_seconds",
                         "From a request's first byte to its first token.", first_token_bounds(),
                         labels),
      metrics_.histogram("fathom_inter_token_latency_seconds",
                         "From one token of an answer to the next.", inter_token_bounds(), labels),
      metrics_.histogram("fathom_e2e_request_latency_seconds",
                         "From a request's first byte to the end of its last answer.",
                         request_bounds(), labels)});
  return *place;
}

void GenerationMetrics::count_end(const std::string& model, const char* finish_reason) {
  metrics_
      .counter("fathom_request_success_total",
               "Answers by how they ended; abort: nobody waited any more.",
               {{"model", model}, {"finish_reason", finish_reason}})
      .add();
}

void GenerationMetrics::show(const ModelService& service) {
  metrics_.on_render([this, &service] { update(service); });
}

void GenerationMetrics::follow(const char* name, const char* help, const std::string& model,
                               double total) {
  double& last = totals_[{name, model}];
  metrics_.counter(name, help, {{"model", model}}).add(total >= last ? total - last : total);
  last = total;
}

void GenerationMetrics::update(const ModelService& service) {
  const json status = service.status();
  for (const json& model : list_of(status, "models")) {
    const std::string id = string_of(model, "id");
    const auto gauge = [&](const char* name, const char* help, double value) {
      metrics_.gauge(name, help, {{"model", id}}).set(value);
    };
    gauge("fathom_num_requests_running", "Answers being computed.", number_of(model, "running"));
    gauge("fathom_num_requests_waiting", "Requests that wait.", number_of(model, "waiting"));
    const double pages = number_of(model, "kv_pages_total");
    gauge("fathom_kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.",
          pages > 0 ? number_of(model, "kv_pages_used") / pages : 0);
    follow("fathom_prefix_cache_queries_total", "Prompt tokens looked up in the cache.", id,
           number_of(model, "prefix_cache_queries_total"));
    follow("fathom_prefix_cache_hits_total", "Prompt tokens found in the cache.", id,
           number_of(model, "prefix_cache_hits_total"));
    follow("fathom_preemptions_total", "Answers that had to make room for others.", id,
           number_of(model, "preemptions_total"));
    if (const auto disk = model.find("kv_disk"); disk != model.end()) {
      follow("fathom_kv_disk_queries_total", "Tokens looked up in the disk tier.", id,
             number_of(*disk, "queries_total"));
      follow("fathom_kv_disk_hits_total", "Tokens whose cache came from the disk tier.", id,
             number_of(*disk, "hits_total"));
      follow("fathom_kv_disk_read_bytes_total", "Read from the disk tier.", id,
             number_of(*disk, "read_bytes_total"));
      follow("fathom_kv_disk_written_bytes_total", "Written to the disk tier.", id,
             number_of(*disk, "written_bytes_total"));
      follow("fathom_kv_disk_pages_skipped_total", "Pages for which there was no time or room.", id,
             number_of(*disk, "pages_skipped_total"));
      follow("fathom_kv_disk_pages_damaged_total", "Pages that were found damaged and not used.",
             id, number_of(*disk, "pages_damaged_total"));
      follow("fathom_kv_disk_errors_total", "Errors of the system with the disk tier.", id,
             number_of(*disk, "errors_total"));
      gauge("fathom_kv_disk_bytes", "What the disk tier's directory takes, all models together.",
            number_of(*disk, "bytes"));
    }
    double restarts = 0;
    std::map<std::string, int> states{
        {"starting", 0}, {"ready", 0}, {"restarting", 0}, {"failed", 0}};
    for (const json& worker : list_of(model, "workers")) {
      restarts += number_of(worker, "restarts");
      const auto state = states.find(string_of(worker, "state"));
      if (state != states.end()) ++state->second;
    }
    follow("fathom_worker_restarts_total", "Workers that were started again.", id, restarts);
    for (const auto& [state, count] : states)
      metrics_.gauge("fathom_workers", "Workers by state.", {{"model", id}, {"state", state}})
          .set(count);
  }
}

RequestMeter::RequestMeter(GenerationMetrics& metrics, std::string model, std::size_t choices,
                           Clock::time_point start)
    : metrics_(metrics),
      model_(std::move(model)),
      series_(metrics.of_model(model_)),
      last_(choices),
      start_(start),
      open_(choices) {}

RequestMeter::~RequestMeter() {
  while (open_ > 0) end("abort");
}

void RequestMeter::prompt(int64_t tokens) {
  series_.prompt_tokens.add(static_cast<double>(tokens));
}

void RequestMeter::tokens(int choice, std::size_t count) {
  if (count == 0) return;
  const Clock::time_point now = Clock::now();
  Clock::time_point& last = last_[static_cast<std::size_t>(choice)];
  series_.generation_tokens.add(static_cast<double>(count));
  std::size_t behind = count;
  if (last == Clock::time_point{}) {
    series_.first_token.observe(seconds(now - start_));
    --behind;
    last = now;
  }
  // Tokens that came together share the time since the last ones.
  const double each = seconds(now - last) / static_cast<double>(count);
  for (; behind > 0; --behind) series_.inter_token.observe(each);
  last = now;
}

void RequestMeter::finished(const char* reason) { end(reason); }

void RequestMeter::failed() {
  while (open_ > 0) end("error");
}

void RequestMeter::end(const char* reason) {
  if (open_ == 0) return;
  metrics_.count_end(model_, reason);
  if (--open_ == 0) series_.request.observe(seconds(Clock::now() - start_));
}

}  // namespace fathom::server
