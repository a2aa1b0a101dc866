#include "worker/worker_link.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include <fathom/worker.grpc.pb.h>
#include "worker/wire.h"

namespace fathom::worker {

class WorkerLink::Impl {
 public:
  Impl(const std::string& socket, Callbacks callbacks) : callbacks_(std::move(callbacks)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    // Each worker's connection is its own, and a socket that does not listen yet is tried again
    // soon.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
    stub_ = v1::Worker::NewStub(
        grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
    context_.set_wait_for_ready(true);
    reader_ = std::thread([this] { read(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    context_.TryCancel();
    changed_.notify_all();
    reader_.join();
  }

  void post(v1::ToWorker message) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      outbox_.push_back(std::move(message));
    }
    changed_.notify_all();
  }

 private:
  void read() {
    const auto stream = stub_->Serve(&context_);
    std::thread writer([&] { write(*stream); });
    v1::FromWorker message;
    while (stream->Read(&message)) {
      switch (message.kind_case()) {
        case v1::FromWorker::kReady: {
          const v1::Ready& r = message.ready();
          callbacks_.on_ready({r.build(), r.model(), r.backend()});
          break;
        }
        case v1::FromWorker::kEvents: {
          std::vector<LoopEvent> events;
          for (const v1::Event& e : message.events().events()) events.push_back(from_message(e));
          callbacks_.on_events(std::move(events));
          break;
        }
        case v1::FromWorker::kHeartbeat: {
          const v1::Heartbeat& h = message.heartbeat();
          callbacks_.on_heartbeat({.progress = h.progress(),
                                   .steps = h.steps(),
                                   .busy = h.busy(),
                                   .stats = from_message(h.stats())});
          break;
        }
        case v1::FromWorker::KIND_NOT_SET:
          break;  // of a later version
      }
    }
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    writer.join();
    stream->Finish();
    callbacks_.on_closed();
  }

  void write(grpc::ClientReaderWriter<v1::ToWorker, v1::FromWorker>& stream) {
    while (true) {
      v1::ToWorker message;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !outbox_.empty(); });
        if (closed_) return;
        message = std::move(outbox_.front());
        outbox_.pop_front();
      }
      if (!stream.Write(message)) return;
    }
  }

  const Callbacks callbacks_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  grpc::ClientContext context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::ToWorker> outbox_;
  bool closed_ = false;
  std::thread reader_;
};

WorkerLink::WorkerLink(const std::string& socket, Callbacks callbacks)
    : impl_(std::make_unique<Impl>(socket, std::move(callbacks))) {}

WorkerLink::~WorkerLink() = default;

void WorkerLink::attach(uint32_t memory) {
  v1::ToWorker message;
  message.mutable_attach()->set_memory(memory);
  impl_->post(std::move(message));
}

void WorkerLink::submit(uint64_t ticket, const Request& request) {
  v1::ToWorker message;
  to_message(ticket, request, *message.mutable_submit());
  impl_->post(std::move(message));
}

void WorkerLink::cancel(uint64_t ticket) {
  v1::ToWorker message;
  message.mutable_cancel()->set_ticket(ticket);
  impl_->post(std::move(message));
}

void WorkerLink::erase_tenant(const std::string& tenant) {
  v1::ToWorker message;
  message.mutable_erase_tenant()->set_tenant(tenant);
  impl_->post(std::move(message));
}

}  // namespace fathom::worker
