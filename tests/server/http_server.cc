// The HTTP server with a few routes and no engine, for scripts: prints its port, then serves until
// SIGTERM. Settings come as in fathom.yaml: http_server [FILE].
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>

#include "server/config/load_config.h"
#include "server/http/listener.h"
#include "server/http/observe.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;

void add(Router& router, std::string path, Handler handler) {
  Route route;
  route.method = "GET";
  route.pattern = std::move(path);
  route.permission = Permission::kInfer;
  route.handler = std::move(handler);
  router.add(std::move(route));
}

// An event every 10 ms, ?events=N of them, as a stream of tokens would be.
asio::awaitable<void> events(RequestContext& context, Responder& responder) {
  const int count = std::atoi(std::string(context.query("events").value_or("100")).c_str());
  bool there = co_await responder.start(200, "text/event-stream", {});
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (int i = 0; i < count && there; ++i) {
    there = co_await responder.write(fmt::format("data: {}\n\n", i));
    timer.expires_after(std::chrono::milliseconds(10));
    co_await timer.async_wait(asio::use_awaitable);
  }
  if (there) co_await responder.finish();
}

asio::awaitable<void> flood(RequestContext&, Responder& responder) {
  bool there = co_await responder.start(200, "application/octet-stream", {});
  while (there) there = co_await responder.write(std::string(16 << 10, 'x'));
}

int serve(const ServerConfig& config) {
  raise_file_limit();
  asio::io_context io{1};
  Metrics metrics;
  HttpMetrics http_metrics(metrics);
  Router router;
  OpenAuthenticator open;
  add(router, "/health", [](RequestContext&, Responder& r) -> asio::awaitable<void> {
    co_await r.send(200, "application/json", "{\"status\":\"ok\"}", {});
  });
  add(router, "/metrics", [&metrics](RequestContext&, Responder& r) -> asio::awaitable<void> {
    co_await r.send(200, std::string(kMetricsContentType), metrics.render(), {});
  });
  add(router, "/events", events);
  add(router, "/flood", flood);
  Listener::Options options;
  options.pipeline.router = &router;
  options.pipeline.authenticator = &open;
  options.limits = config.http;
  options.on_access = [&](const AccessRecord& record) { http_metrics.count(record); };
  Listener listener(io, std::move(options));
  http_metrics.show(listener);
  if (const Status listening = listener.listen("127.0.0.1", 0); !listening) {
    fmt::print(stderr, "{}\n", listening.error().message);
    return 1;
  }
  listener.start();
  asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&](const boost::system::error_code&, int) {
    asio::co_spawn(io, listener.drain(config.drain_timeout),
                   [&](std::exception_ptr) { io.stop(); });
  });
  fmt::print("{}\n", listener.port());
  std::fflush(stdout);
  io.run();
  return 0;
}

}  // namespace
}  // namespace fathom::server

int main(int argc, char** argv) {
  fathom::server::ConfigSources sources;
  if (argc > 1) sources.file = argv[1];
  const auto config = fathom::server::load_config(sources);
  if (!config) {
    fmt::print(stderr, "{}\n", config.error().message);
    return 2;
  }
  return fathom::server::serve(*config);
}
