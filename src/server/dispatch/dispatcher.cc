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

constexpr std::chrono::seconds kRetirementGrace{5};
constexpr std::chrono::milliseconds kUnloadedPoll{200};

bool answers_to(const ModelHost& host, std::string_view name) {
  const auto& aliases = host.config().aliases;
  return host.model()->id == name ||
         std::find(aliases.begin(), aliases.end(), name) != aliases.end();
}

}  // namespace

Status Dispatcher::serve(const std::vector<ModelConfig>& stay, std::vector<ModelSetup> added) {
  std::vector<std::shared_ptr<ModelHost>> hosts, gone;
  for (const auto& host : hosts_) {
    const bool stays = std::find(stay.begin(), stay.end(), host->config()) != stay.end();
    (stays ? hosts : gone).push_back(host);
  }
  const auto first_added = static_cast<std::ptrdiff_t>(hosts.size());
  for (ModelSetup& setup : added) {
    std::vector<std::string> names = setup.config.aliases;
    names.push_back(setup.model.id);
    for (const std::string& name : names) {
      for (const auto& host : hosts) {
        if (answers_to(*host, name))
          return invalid_argument(fmt::format("two models answer to the name {}", name));
      }
    }
    hosts.push_back(std::make_shared<ModelHost>(io_, std::move(setup), log_));
  }
  for (auto host = hosts.begin() + first_added; host != hosts.end(); ++host)
    FATHOM_TRY_STATUS((*host)->start());
  hosts_ = std::move(hosts);
  for (auto& host : gone) retire(std::move(host));
  return {};
}

// A handler may have found the model and not have asked it yet, so it takes requests a while
// longer.
void Dispatcher::retire(std::shared_ptr<ModelHost> host) {
  retiring_.push_back(host);
  auto timer = std::make_shared<boost::asio::steady_timer>(io_, kRetirementGrace);
  timer->async_wait([this, timer, host](const boost::system::error_code& error) {
    if (error) return;
    host->unload();
    forget_when_unloaded(timer, host);
  });
}

void Dispatcher::forget_when_unloaded(std::shared_ptr<boost::asio::steady_timer> timer,
                                      std::shared_ptr<ModelHost> host) {
  if (host->state() == ModelHost::State::kUnloaded) {
    std::erase(retiring_, host);
    return;
  }
  timer->expires_after(kUnloadedPoll);
  timer->async_wait([this, timer, host](const boost::system::error_code& error) {
    if (!error) forget_when_unloaded(timer, host);
  });
}

void Dispatcher::stop() {
  for (const auto* hosts : {&hosts_, &retiring_})
    for (const auto& host : *hosts) host->stop();
}

std::vector<std::shared_ptr<const ServedModel>> Dispatcher::models() const {
  std::vector<std::shared_ptr<const ServedModel>> out;
  for (const auto& host : hosts_) out.push_back(host->model());
  return out;
}

const std::shared_ptr<ModelHost>* Dispatcher::find_host(std::string_view name) const {
  for (const auto& host : hosts_)
    if (answers_to(*host, name)) return &host;
  const bool theirs =
      std::find(kDeepseekNames.begin(), kDeepseekNames.end(), name) != kDeepseekNames.end();
  return theirs && hosts_.size() == 1 ? &hosts_[0] : nullptr;
}

std::shared_ptr<const ServedModel> Dispatcher::find(std::string_view name) const {
  const auto* host = find_host(name);
  return host != nullptr ? (*host)->model() : nullptr;
}

Result<std::unique_ptr<Generation>> Dispatcher::submit(GenerationSpec spec) {
  for (const auto* hosts : {&hosts_, &retiring_}) {
    for (const auto& host : *hosts)
      if (host->model() == spec.model) return host->submit(std::move(spec));
  }
  return not_found("the model is no longer served");
}

Status Dispatcher::load(std::string_view name) {
  const auto* host = find_host(name);
  if (host == nullptr) return not_found(fmt::format("no model {}", name));
  return (*host)->start();
}

Status Dispatcher::unload(std::string_view name) {
  const auto* host = find_host(name);
  if (host == nullptr) return not_found(fmt::format("no model {}", name));
  (*host)->unload();
  return {};
}

Status Dispatcher::erase_tenant(const std::string& tenant) {
  int told = 0;
  for (const auto& host : hosts_) told += host->erase_tenant(tenant);
  if (told > 0) return {};
  return Error{ErrorCode::kUnavailable, "no engine is running that could erase anything"};
}

nlohmann::json Dispatcher::status() const {
  nlohmann::json models = nlohmann::json::array();
  int ready = 0, failed = 0, unloaded = 0;
  for (const auto& host : hosts_) {
    models.push_back(host->status());
    ready += host->state() == ModelHost::State::kReady;
    failed += host->state() == ModelHost::State::kFailed;
    unloaded += host->state() == ModelHost::State::kUnloaded;
  }
  const auto all = static_cast<int>(hosts_.size()) - unloaded;  // that is on purpose
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
