#include "server/dispatch/worker_process.h"

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

extern char** environ;

namespace fathom::server {
namespace {

using Clock = std::chrono::steady_clock;

// A process group of its own: Ctrl-C at the terminal is for the front, which drains first.
Result<int> spawn(std::vector<std::string> command, std::span<const int> memory) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  // Its standard output is ours for answers; what it has to say goes to standard error.
  posix_spawn_file_actions_adddup2(&files, 2, 1);
  for (std::size_t i = 0; i < memory.size(); ++i)
    posix_spawn_file_actions_adddup2(&files, memory[i], static_cast<int>(3 + i));
  posix_spawn_file_actions_addclosefrom_np(&files, static_cast<int>(3 + memory.size()));
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, command[0].c_str(), &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return Error{ErrorCode::kUnavailable,
                 fmt::format("cannot start {}: {}", command[0], std::strerror(error))};
  }
  return static_cast<int>(pid);
}

}  // namespace

Status WorkerProcess::start(std::vector<std::string> command, std::span<const int> memory,
                            Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  ::unlink(socket_.c_str());
  command.insert(command.end(), {"--socket", socket_});
  FATHOM_TRY(pid_, spawn(std::move(command), memory));
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  if (fd < 0) {
    const int error = errno;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    gone_ = true;
    return Error{ErrorCode::kUnavailable,
                 fmt::format("cannot watch process {}: {}", pid_, std::strerror(error))};
  }
  exit_.assign(fd);
  started_ = heard_ = moved_ = Clock::now();
  wait_for_exit();
  connect();
  watch();
  return {};
}

// The link's callbacks come on its own thread and go on here if this is still wanted.
void WorkerProcess::connect() {
  const auto here = [this](auto what) {
    boost::asio::post(io_, [weak = weak_from_this(), what = std::move(what)]() mutable {
      if (const auto self = weak.lock(); self && !self->gone_) what(*self);
    });
  };
  link_ = std::make_unique<worker::WorkerLink>(
      socket_,
      worker::WorkerLink::Callbacks{
          .on_ready =
              [here](worker::Fingerprint fingerprint) {
                here([fingerprint = std::move(fingerprint)](WorkerProcess& self) {
                  self.ready_ = true;
                  self.heard_ = self.moved_ = Clock::now();
                  self.callbacks_.on_ready(fingerprint);
                });
              },
          .on_events =
              [here](std::vector<LoopEvent> events) {
                here([events = std::move(events)](WorkerProcess& self) mutable {
                  self.heard_ = self.moved_ = Clock::now();
                  self.callbacks_.on_events(std::move(events));
                });
              },
          .on_heartbeat =
              [here](worker::Heartbeat heartbeat) {
                here([heartbeat](WorkerProcess& self) {
                  self.heard_ = Clock::now();
                  if (!heartbeat.busy || heartbeat.progress != self.heartbeat_.progress)
                    self.moved_ = self.heard_;
                  self.heartbeat_ = heartbeat;
                  self.callbacks_.on_heartbeat(heartbeat);
                });
              },
          .on_closed =
              [here] { here([](WorkerProcess& self) { self.kill("it closed its connection"); }); },
      });
}

void WorkerProcess::watch() {
  watch_.expires_after(std::chrono::milliseconds(100));
  watch_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || self == nullptr || self->gone_) return;
    const auto now = Clock::now();
    if (self->ready_ && now - self->heard_ > kHeartbeatTimeout) {
      self->kill("it gave no sign of life");
    } else if (self->ready_ && now - self->moved_ > kStallTimeout) {
      self->kill("it made no progress");
    }
    self->watch();
  });
}

void WorkerProcess::wait_for_exit() {
  exit_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                   [weak = weak_from_this()](const boost::system::error_code& error) {
                     const auto self = weak.lock();
                     if (error || self == nullptr || self->gone_) return;
                     int status = 0;
                     ::waitpid(self->pid_, &status, 0);
                     self->gone_ = true;
                     self->ready_ = false;
                     self->link_.reset();
                     ::unlink(self->socket_.c_str());
                     self->callbacks_.on_exit(status);
                   });
}

void WorkerProcess::kill(const std::string& reason) {
  if (gone_) return;
  if (killed_because_.empty()) killed_because_ = reason;
  ready_ = false;
  ::kill(pid_, SIGKILL);
}

void WorkerProcess::abandon() {
  if (gone_) return;
  gone_ = true;
  link_.reset();
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  ::unlink(socket_.c_str());
}

WorkerProcess::~WorkerProcess() { abandon(); }

}  // namespace fathom::server
