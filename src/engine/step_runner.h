// StepRunner: runs Model::forward, or lets a backend that has recorded a step of the same shape
// repeat it (Ops::begin_step).
#pragma once

#include <cstdint>
#include <unordered_map>

#include "model/model.h"

namespace fathom {

class StepRunner {
 public:
  // The workspace is that of every call, reset before. Results live there.
  ModelOutput forward(const Model& model, const ModelContext& context, const Step& step);

 private:
  struct Recorded {
    ModelOutput output;
    Workspace::Mark end;  // of what the step allocated
  };
  int64_t owner_ = 0;  // the backend's name for this
  std::unordered_map<int64_t, Recorded> recorded_;
};

}  // namespace fathom
