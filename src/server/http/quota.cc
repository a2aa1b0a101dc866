// Counting of concurrent requests. See quota.h.
#include "server/http/quota.h"

#include <fmt/format.h>

namespace fathom::server {

QuotaDecision ConcurrencyQuota::enter(const RequestContext& context, QuotaClass quota_class) {
  QuotaDecision decision;
  if (quota_class != QuotaClass::kInference) return decision;
  const std::string& name = context.principal.name;
  int64_t& count = (*counts_)[name];
  if (count >= max_inference_) {
    decision.allowed = false;
    decision.message =
        fmt::format("Rate limit reached: {} requests at a time are allowed, wait for one to finish",
                    max_inference_);
    return decision;
  }
  ++count;
  decision.lease = std::shared_ptr<void>(nullptr, [counts = counts_, name](void*) {
    const auto it = counts->find(name);
    if (--it->second == 0) counts->erase(it);
  });
  return decision;
}

}  // namespace fathom::server
