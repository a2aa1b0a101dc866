// Counters, gauges and histograms, and their text form for Prometheus.
//
// Owns the registry. Whoever counts something registers it here and keeps the reference. Names are
// fathom_<part>_<what>_<unit>, counters end in _total; labels have few values, never what clients
// send: past the limit of series a family counts everything else under "other".
// Thread-safe. prometheus-cpp stays in metrics.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::server {

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void add(double amount = 1) = 0;  // not negative
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void set(double value) = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void observe(double value) = 0;
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The series of that name and those labels; the same one for the same labels. A name that is
  // malformed or already of another kind is a programmer error. References live as long as this.
  Counter& counter(const std::string& name, const std::string& help,
                   const MetricLabels& labels = {});
  Gauge& gauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  // `bounds`: upper ends of the buckets, ascending; the same for all series of the name.
  Histogram& histogram(const std::string& name, const std::string& help,
                       const std::vector<double>& bounds, const MetricLabels& labels = {});

  // Runs before each rendering: sets gauges from what they show.
  void on_render(std::function<void()> update);
  // Prometheus' text exposition format 0.0.4.
  std::string render();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace fathom::server
