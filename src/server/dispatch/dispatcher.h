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

  // Errors: ModelHost::start's; a name that is taken.
  Status add(ModelSetup setup);
  void stop();

  std::vector<std::shared_ptr<const ServedModel>> models() const override;
  // With one model alone, DeepSeek's own names find it too.
  std::shared_ptr<const ServedModel> find(std::string_view name) const override;
  Result<std::unique_ptr<Generation>> submit(GenerationSpec spec) override;
  nlohmann::json status() const override;

 private:
  boost::asio::io_context& io_;
  Log& log_;
  std::vector<std::shared_ptr<ModelHost>> hosts_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace fathom::server
