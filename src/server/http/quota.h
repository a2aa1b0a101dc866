// May this caller ask now? The hook between authentication and handlers.
//
// Owns the interface and one policy, a limit on requests at a time per principal. Rates and budgets
// of tokens are other implementations of the same hook.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "server/http/request_context.h"
#include "server/http/router.h"

namespace fathom::server {

struct QuotaDecision {
  bool allowed = true;
  // Held until the request is answered; its destruction gives back what it counts.
  std::shared_ptr<void> lease;
  std::string message;  // if not allowed: becomes a 429 with Retry-After
  int retry_after_s = 1;
};

class Quota {
 public:
  virtual ~Quota() = default;
  // On the io thread, before the body is read.
  virtual QuotaDecision enter(const RequestContext& context, QuotaClass quota_class) = 0;
};

// At most `max_inference` requests of class kInference at a time per principal.
class ConcurrencyQuota : public Quota {
 public:
  explicit ConcurrencyQuota(int64_t max_inference) : max_inference_(max_inference) {}
  QuotaDecision enter(const RequestContext& context, QuotaClass quota_class) override;

 private:
  int64_t max_inference_;
  // By principal. Shared with the leases, which may outlive this.
  using Counts = std::map<std::string, int64_t, std::less<>>;
  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

}  // namespace fathom::server
