// The registry over prometheus-cpp. See metrics.h.
#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <mutex>

#include "base/check.h"
#include "base/limits.h"
#include "base/utf8.h"

namespace fathom::server {
namespace {

class CounterSeries final : public Counter {
 public:
  explicit CounterSeries(prometheus::Counter& series) : series_(series) {}
  void add(double amount) override { series_.Increment(amount); }

 private:
  prometheus::Counter& series_;
};

class GaugeSeries final : public Gauge {
 public:
  explicit GaugeSeries(prometheus::Gauge& series) : series_(series) {}
  void set(double value) override { series_.Set(value); }

 private:
  prometheus::Gauge& series_;
};

class HistogramSeries final : public Histogram {
 public:
  explicit HistogramSeries(prometheus::Histogram& series) : series_(series) {}
  void observe(double value) override { series_.Observe(value); }

 private:
  prometheus::Histogram& series_;
};

// All series of one kind, by name and labels.
template <typename Family, typename Series, typename Base>
struct Kind {
  struct Named {
    Family* family = nullptr;
    std::map<MetricLabels, std::unique_ptr<Series>> series;
  };
  std::map<std::string, Named> names;

  template <typename Register, typename... Arguments>
  Base& get(const std::string& name, MetricLabels labels, const Register& register_family,
            const Arguments&... arguments) {
    Named& named = names[name];
    if (named.family == nullptr) named.family = &register_family();
    if (const auto it = named.series.find(labels); it != named.series.end()) return *it->second;
    if (static_cast<int64_t>(named.series.size()) >= limits::kMaxMetricSeries)
      for (auto& label : labels) label.second = "other";
    auto& place = named.series[labels];
    if (!place) {
      std::map<std::string, std::string> plain;
      for (const auto& [key, value] : labels) plain[key] = utf8_sanitize(value);
      place = std::make_unique<Series>(named.family->Add(plain, arguments...));
    }
    return *place;
  }
};

}  // namespace

class Metrics::Impl {
 public:
  // prometheus-cpp throws on names that are malformed or taken by another kind.
  template <typename Builder>
  auto& make(Builder builder, const std::string& name, const std::string& help) {
    try {
      return builder.Name(name).Help(help).Register(registry);
    } catch (const std::exception& error) {
      FATHOM_CHECK(false) << name << ": " << error.what();
      throw;
    }
  }

  std::mutex mutex;
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Throw};
  Kind<prometheus::Family<prometheus::Counter>, CounterSeries, Counter> counters;
  Kind<prometheus::Family<prometheus::Gauge>, GaugeSeries, Gauge> gauges;
  Kind<prometheus::Family<prometheus::Histogram>, HistogramSeries, Histogram> histograms;
  std::vector<std::function<void()>> updates;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::counter(const std::string& name, const std::string& help,
                          const MetricLabels& labels) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->counters.get(
      name, labels, [&]() -> auto& { return impl_->make(prometheus::BuildCounter(), name, help); });
}

Gauge& Metrics::gauge(const std::string& name, const std::string& help,
                      const MetricLabels& labels) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->gauges.get(
      name, labels, [&]() -> auto& { return impl_->make(prometheus::BuildGauge(), name, help); });
}

Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                              const std::vector<double>& bounds, const MetricLabels& labels) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->histograms.get(
      name, labels,
      [&]() -> auto& { return impl_->make(prometheus::BuildHistogram(), name, help); }, bounds);
}

void Metrics::on_render(std::function<void()> update) {
  const std::lock_guard lock(impl_->mutex);
  impl_->updates.push_back(std::move(update));
}

std::string Metrics::render() {
  std::vector<std::function<void()>> updates;
  {
    const std::lock_guard lock(impl_->mutex);
    updates = impl_->updates;
  }
  for (const auto& update : updates) update();
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace fathom::server
