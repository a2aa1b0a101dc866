#include "worker/worker_server.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <fathom/worker.grpc.pb.h>
#include "worker/wire.h"

namespace fathom::worker {
namespace {

using namespace std::chrono_literals;
using Stream = grpc::ServerReaderWriter<v1::FromWorker, v1::ToWorker>;

class Service final : public v1::Worker::Service {
 public:
  explicit Service(const WorkerServerOptions& options) : options_(options) {}

  grpc::Status Serve(grpc::ServerContext*, Stream* stream) override {
    {
      const std::lock_guard lock(mutex_);
      if (served_)
        return {grpc::StatusCode::FAILED_PRECONDITION, "this worker has its front already"};
      served_ = true;
      stream_ = stream;
    }
    v1::FromWorker ready;
    ready.mutable_ready()->set_protocol(kProtocol);
    ready.mutable_ready()->set_build(options_.fingerprint.build);
    ready.mutable_ready()->set_model(options_.fingerprint.model);
    ready.mutable_ready()->set_backend(options_.fingerprint.backend);
    write(ready);
    std::thread heart([this] { beat(); });
    v1::ToWorker message;
    while (stream->Read(&message) && failure_) take(message);
    {
      const std::lock_guard lock(mutex_);
      stream_ = nullptr;
      over_ = true;
    }
    changed_.notify_all();
    heart.join();
    return grpc::Status::OK;
  }

  const Status& failure() const { return failure_; }

  // False if no front came in time.
  bool wait() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 30s, [this] { return served_; })) return false;
    changed_.wait(lock, [this] { return over_; });
    return true;
  }

 private:
  void take(const v1::ToWorker& message) {
    switch (message.kind_case()) {
      case v1::ToWorker::kAttach:
        return attach(message.attach().memory());
      case v1::ToWorker::kSubmit:
        if (loop_) loop_->submit(message.submit().ticket(), from_message(message.submit()));
        return;
      case v1::ToWorker::kCancel:
        if (loop_) loop_->cancel(message.cancel().ticket());
        return;
      case v1::ToWorker::kEraseTenant:
        if (loop_) loop_->erase_tenant(message.erase_tenant().tenant());
        return;
      case v1::ToWorker::KIND_NOT_SET:
        return;  // of a later version
    }
  }

  void attach(uint32_t memory) {
    if (loop_) return;
    auto engine = options_.make_engine(memory);
    if (!engine) {
      failure_ = engine.error();
      return;
    }
    auto loop = std::make_unique<EngineLoop>(
        *std::move(engine), [this](std::vector<LoopEvent> events) { send(events); });
    const std::lock_guard lock(mutex_);
    loop_ = std::move(loop);
  }

  void send(const std::vector<LoopEvent>& events) {
    v1::FromWorker message;
    for (const LoopEvent& e : events) to_message(e, *message.mutable_events()->add_events());
    write(message);
  }

  void write(const v1::FromWorker& message) {
    const std::lock_guard lock(mutex_);
    if (stream_ != nullptr) stream_->Write(message);
  }

  void beat() {
    v1::FromWorker message;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, 100ms, [this] { return over_; })) return;
      }
      v1::Heartbeat& h = *message.mutable_heartbeat();
      if (options_.progress != nullptr)
        h.set_progress(options_.progress->load(std::memory_order_relaxed));
      EngineLoop* loop = nullptr;
      {
        const std::lock_guard lock(mutex_);
        loop = loop_.get();
      }
      if (loop != nullptr) {
        h.set_steps(loop->steps());
        h.set_busy(loop->busy());
        to_message(loop->stats(), *h.mutable_stats());
      }
      write(message);
    }
  }

  const WorkerServerOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Stream* stream_ = nullptr;
  bool served_ = false, over_ = false;
  Status failure_;
  std::unique_ptr<EngineLoop> loop_;  // last: its thread uses the above
};

}  // namespace

Status serve_worker(const WorkerServerOptions& options) {
  Service service(options);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + options.socket, grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(-1);  // prompts; the front bounds them
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr)
    return Error{ErrorCode::kUnavailable, fmt::format("cannot listen on {}", options.socket)};
  const bool came = service.wait();
  server->Shutdown(std::chrono::system_clock::now() + 100ms);
  if (!came)
    return Error{ErrorCode::kUnavailable, "no front came within 30 s: a worker is started by one"};
  return service.failure();
}

}  // namespace fathom::worker
