// TokenConstraint: what the next token may be, for answers that must have a form (ConstraintSpec).
//
// The engine masks logits with it before it draws; what the form is, is grammar/'s business.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"
#include "engine/request.h"

namespace fathom {

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Sets the logits of tokens that may not come next to −inf. logits: [vocab].
  virtual void mask(std::span<float> logits) = 0;
  // `token` came. It is one that mask() left, or a token of an answer that is taken up again.
  virtual void accept(int32_t token) = 0;
};

// Makes the constraint of a request. Errors: what is wrong with the spec.
using ConstraintFactory =
    std::function<Result<std::unique_ptr<TokenConstraint>>(const ConstraintSpec& spec)>;

}  // namespace fathom
