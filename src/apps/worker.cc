// fathom worker: one engine for a server, which starts it.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "apps/served_engine.h"
#include "base/limits.h"

namespace fathom {
namespace worker_command {

struct Options {
  ServedEngineOptions engine;
  std::string socket;
  int front = 0;  // its process; 0: not asked
};

Status run(const Options& o) {
  // Without its front a worker is of no use.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It may have ended before the line above; in a container it may be process 1.
  if (o.front != 0 && ::getppid() != o.front)
    return Error{ErrorCode::kUnavailable, "the server that started this is gone"};
  FATHOM_TRY(const auto served, load_served_engine(o.engine));
  return worker::serve_worker({.socket = o.socket,
                               .fingerprint = served->fingerprint,
                               .progress = &served->progress->count(),
                               // The front gave us its memory as files 3, 4, …
                               .make_engine = [&](uint32_t memory) {
                                 return make_engine(*served, static_cast<int>(3 + memory));
                               }});
}

}  // namespace worker_command

Action add_worker(CLI::App& program, CLI::App*& command) {
  using namespace worker_command;
  command = program.add_subcommand("worker", "An engine process of fathom serve, which starts it");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->engine.model, "Model directory, file or bundled name")
      ->required();
  command->add_option("--socket", o->socket, "Unix socket to serve on")->required();
  command->add_option("--front", o->front, "Process that starts this: without it, this ends");
  command->add_option("--context", o->engine.context_tokens, "Longest prompt and answer together")
      ->check(CLI::Range(int64_t{0}, limits::kMaxContextTokens));
  command->add_option("--cache-tokens", o->engine.cache_tokens, "Tokens that the KV cache holds")
      ->check(CLI::Range(int64_t{0}, limits::kMaxContextTokens));
  command->add_option("--max-running", o->engine.max_running, "Answers computed at a time")
      ->check(CLI::Range(1, 4096));
  command->add_option("--speculate", o->engine.speculate_up_to, "Answers at a time with drafts")
      ->check(CLI::Range(0, 4096));
  KvDiskOptions& disk = o->engine.kv_disk;
  command->add_option("--kv-disk", disk.directory, "Directory for pages of the KV cache");
  command->add_option("--kv-disk-max", disk.max_bytes, "What it may take, in bytes");
  command->add_option("--kv-disk-key-file", disk.key_file, "The key of its files");
  o->engine.compute.add_to(*command);
  command->footer("Example:\n  fathom worker nano --socket /run/fathom/nano.0");
  return [o] { return run(*o); };
}

}  // namespace fathom
