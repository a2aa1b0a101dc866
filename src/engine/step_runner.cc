#include "engine/step_runner.h"

namespace fathom {

ModelOutput StepRunner::forward(const Model& model, const ModelContext& context, const Step& step) {
  const StepStart start = context.ops.begin_step({.token_ids = step.token_ids,
                                                  .positions = step.positions,
                                                  .sequences = step.sequences,
                                                  .kv = step.kv,
                                                  .memory = context.workspace.next(),
                                                  .owner = owner_});
  owner_ = start.owner;
  if (start.done) {
    const Recorded& r = recorded_.at(start.recording);
    context.workspace.restore(r.end);
    return r.output;
  }
  const ModelOutput out = model.forward(context, step);
  context.ops.end_step();
  if (start.recording >= 0) recorded_[start.recording] = {out, context.workspace.mark()};
  return out;
}

}  // namespace fathom
