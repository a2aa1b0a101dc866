#include "server/dispatch/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "server/dispatch/host_usage.h"

namespace fathom::server {
namespace {

// Names of DeepSeek's API, the retired ones too: clients still send them.
constexpr std::array<std::string_view, 5> kDeepseekNames = {
    "deepseek-chat", "deepseek-reasoner", "deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro"};

bool answers_to(const ModelHost& host, std::string_view name) {
  const auto& aliases = host.config().aliases;
  return host.model()->id == name ||
         std::find(aliases.begin(), aliases.end(), name) != aliases.end();
}

}  // namespace

Status Dispatcher::add(ModelSetup setup) {
  std::vector<std::string> names = setup.config.aliases;
  names.push_back(setup.model.id);
  for (const std::string& name : names) {
    for (const auto& host : hosts_) {
      if (answers_to(*host, name))
        return invalid_argument(fmt::format("two models answer to the name {}", name));
    }
  }
  auto host = std::make_shared<ModelHost>(io_, std::move(setup), log_);
  FATHOM_TRY_STATUS(host->start());
  hosts_.push_back(std::move(host));
  return {};
}

void Dispatcher::stop() {
  for (const auto& host : hosts_) host->stop();
}

std::vector<std::shared_ptr<const ServedModel>> Dispatcher::models() const {
  std::vector<std::shared_ptr<const ServedModel>> out;
  for (const auto& host : hosts_) out.push_back(host->model());
  return out;
}

std::shared_ptr<const ServedModel> Dispatcher::find(std::string_view name) const {
  for (const auto& host : hosts_)
    if (answers_to(*host, name)) return host->model();
  const bool theirs =
      std::find(kDeepseekNames.begin(), kDeepseekNames.end(), name) != kDeepseekNames.end();
  return theirs && hosts_.size() == 1 ? hosts_[0]->model() : nullptr;
}

Result<std::unique_ptr<Generation>> Dispatcher::submit(GenerationSpec spec) {
  for (const auto& host : hosts_)
    if (host->model() == spec.model) return host->submit(std::move(spec));
  return not_found("the model is no longer served");
}

nlohmann::json Dispatcher::status() const {
  nlohmann::json models = nlohmann::json::array();
  int ready = 0, failed = 0;
  for (const auto& host : hosts_) {
    models.push_back(host->status());
    ready += host->state() == ModelHost::State::kReady;
    failed += host->state() == ModelHost::State::kFailed;
  }
  const auto all = static_cast<int>(hosts_.size());
  const double uptime =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  return {{"uptime_s", uptime},
          {"state", ready == all ? "ok"
                    : ready > 0  ? "degraded"
                    : failed > 0 ? "failed"
                                 : "loading"},
          {"models", std::move(models)},
          {"host", host_usage()}};
}

}  // namespace fathom::server
