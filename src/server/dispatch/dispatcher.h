// Dispatcher: the models that this server serves, by name.
//
// Implements ModelService over one ModelHost a model. On the io thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "server/dispatch/model_host.h"
#include "server/service.h"

namespace fathom::server {

class Dispatcher final : public ModelService {
 public:
  Dispatcher(boost::asio::io_context& io, Log& log) : io_(io), log_(log) {}

  // From now on these are served: the ones configured as in `stay`, and those in `added`. All
  // others are found no more; their requests end, and then their engines. On an error nothing
  // changes. Errors: ModelHost::start's; two models with a name in common.
  Status serve(const std::vector<ModelConfig>& stay, std::vector<ModelSetup> added);
  void stop();

  std::vector<std::shared_ptr<const ServedModel>> models() const override;
  // With one model alone, DeepSeek's own names find it too.
  std::shared_ptr<const ServedModel> find(std::string_view name) const override;
  Result<std::unique_ptr<Generation>> submit(GenerationSpec spec) override;
  Status load(std::string_view name) override;
  Status unload(std::string_view name) override;
  Status erase_tenant(const std::string& tenant) override;
  nlohmann::json status() const override;

 private:
  const std::shared_ptr<ModelHost>* find_host(std::string_view name) const;
  void retire(std::shared_ptr<ModelHost> host);
  void forget_when_unloaded(std::shared_ptr<boost::asio::steady_timer> timer,
                            std::shared_ptr<ModelHost> host);

  boost::asio::io_context& io_;
  Log& log_;
  std::vector<std::shared_ptr<ModelHost>> hosts_;
  std::vector<std::shared_ptr<ModelHost>> retiring_;  // served no more; requests may be in flight
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace fathom::server
