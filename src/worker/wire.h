// Requests and events as messages of worker.proto, and back.
//
// Internal to this folder: the generated headers stay in its .cc files.
#pragma once

#include <vector>

#include <fathom/worker.pb.h>
#include "engine/engine_loop.h"

namespace fathom::worker {

void to_message(uint64_t ticket, const Request& request, v1::Submit& out);
Request from_message(const v1::Submit& in);

void to_message(const LoopEvent& event, v1::Event& out);
LoopEvent from_message(const v1::Event& in);

void to_message(const EngineStats& stats, v1::Stats& out);
EngineStats from_message(const v1::Stats& in);

}  // namespace fathom::worker
