// fathom serve: the front. Reads the configuration, loads what it needs of each model, starts the
// engines, listens, and ends gracefully.
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cctype>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/served_engine.h"
#include "apps/service_manager.h"
#include "base/file.h"
#include "kv_disk/disk_tier.h"
#include "kv_disk/master_key.h"
#include "server/config/load_config.h"
#include "server/config/settings.h"
#include "server/dispatch/dispatcher.h"
#include "server/handlers/routes.h"
#include "server/http/listener.h"
#include "server/http/observe.h"
#include "server/http/offload.h"
#include "server/log.h"
#include "server/metrics.h"

extern char** environ;

namespace fathom {
namespace serve_command {

using namespace server;

struct Options {
  ConfigSources sources;
};

// "DeepSeek-R1-Distill.Q4_K.gguf" -> "deepseek-r1-distill.q4_k": what the API calls a model whose
// configuration gives it no name.
std::string id_from_path(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  std::string name = std::filesystem::path(path).filename().string();
  for (const std::string_view suffix : {".gguf", ".safetensors"})
    if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  for (char& c : name) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '_' && c != '-')
      c = '-';
  }
  return name.substr(0, 64);
}

ServedEngineOptions engine_options(const ModelConfig& m, const KvDiskOptions& disk,
                                   const std::string& path) {
  ServedEngineOptions o;
  o.model = path;
  o.context_tokens = m.context_tokens;
  o.cache_tokens = m.cache_tokens;
  o.max_running = m.max_running;
  o.speculate_up_to = m.speculate_up_to;
  o.compute.threads = static_cast<int>(m.threads);
  o.compute.numa = m.numa;
  o.compute.compute = m.compute;
  o.compute.kv = m.kv_type;
  o.compute.device = m.device;
  o.compute.tensor_parallel = static_cast<int>(m.tensor_parallel);
  o.gpu_memory_utilization = m.gpu_memory_utilization;
  o.compute.simulate_quantised_cache = m.simulate_quantised_cache;
  o.kv_disk = disk;
  return o;
}

std::vector<std::string> worker_command(const ModelConfig& m, const KvDiskOptions& disk,
                                        const std::string& path, const CacheSize& size) {
  std::error_code ec;
  std::vector<std::string> command{std::filesystem::read_symlink("/proc/self/exe", ec).string(),
                                   "worker", path};
  const auto add = [&](const char* flag, const std::string& value) {
    command.insert(command.end(), {flag, value});
  };
  add("--front", std::to_string(::getpid()));
  add("--context", std::to_string(size.context_tokens));
  add("--cache-tokens", std::to_string(size.cache_tokens));
  add("--max-running", std::to_string(m.max_running));
  add("--speculate", std::to_string(m.speculate_up_to));
  if (m.threads > 0) add("--threads", std::to_string(m.threads));
  add("--numa", m.numa);
  add("--compute", m.compute);
  add("--kv", m.kv_type);
  add("--device", m.device);
  add("--tensor-parallel", std::to_string(m.tensor_parallel));
  if (m.simulate_quantised_cache) command.emplace_back("--simulate-quantised-cache");
  if (!disk.directory.empty()) {
    add("--kv-disk", disk.directory);
    add("--kv-disk-max", std::to_string(disk.max_bytes));
    add("--kv-disk-key-file", disk.key_file);
  }
  return command;
}

// What the front itself needs of a model: names, tokenizer, template. The weights stay on the disk.
Result<ModelSetup> setup_model(const ModelConfig& config, const KvDiskOptions& disk,
                               std::string socket_prefix) {
  FATHOM_TRY(const std::string path, resolve_model(config.path));
  ServedEngineOptions options = engine_options(config, disk, path);
  if (config.tensor_parallel > 1 && !disk.directory.empty())
    return invalid_argument(
        fmt::format("kv_disk: expected none where a model's tensor_parallel is {}, the cache of "
                    "several ranks has "
                    "no second tier yet",
                    config.tensor_parallel));
  options.compute.shapes_only = true;
  FATHOM_TRY(LoadedModel loaded, load(path, options.compute));
  FATHOM_TRY(const CacheSize size, cache_size(options, loaded));
  options.context_tokens = size.context_tokens;
  options.cache_tokens = size.cache_tokens;
  ModelSetup setup;
  setup.config = config;
  setup.socket_prefix = std::move(socket_prefix);
  setup.worker_command = worker_command(config, disk, path, size);
  const ModelFiles& f = loaded.files;
  ServedModel& m = setup.model;
  m.id = config.id.empty() ? id_from_path(path) : config.id;
  m.created_unix_s = static_cast<int64_t>(std::time(nullptr));
  m.context_tokens = size.context_tokens;
  m.vocab_size = loaded.model->info().vocab_size;
  m.eos_token_ids.assign(f.eos_token_ids.begin(), f.eos_token_ids.end());
  m.chat_family = loaded.chat_family;
  const double fallback = f.do_sample ? 0.6 : 0.0;
  m.default_sampling.temperature = static_cast<float>(f.temperature.value_or(fallback));
  m.default_sampling.top_p = static_cast<float>(f.top_p.value_or(0.95));
  m.default_sampling.top_k = static_cast<int32_t>(f.top_k.value_or(0));
  m.fingerprint =
      fmt::format("fp_{:010x}", std::hash<std::string>{}(path + FATHOM_VERSION) & 0xFFFFFFFFFF);
  m.tokenizer = std::move(loaded.tokenizer);
  if (config.workers == 0) {
    setup.make_engine = [options]() -> Result<LocalEngine> {
      FATHOM_TRY(std::shared_ptr<ServedEngine> served, load_served_engine(options));
      FATHOM_TRY(auto engine, make_engine(*served));
      return LocalEngine{std::move(served), std::move(engine)};
    };
  }
  return setup;
}

// When a model's files were last written: one that was replaced is loaded anew at a reload. 0:
// unknown.
int64_t last_written(const ModelConfig& config) {
  namespace fs = std::filesystem;
  const auto resolved = resolve_model(config.path);
  if (!resolved) return 0;
  std::error_code ec;
  const auto time_of = [&](const fs::path& path) {
    const auto time = fs::last_write_time(path, ec);
    return ec ? int64_t{0} : int64_t{time.time_since_epoch().count()};
  };
  int64_t last = time_of(*resolved);
  for (fs::directory_iterator it(*resolved, ec), end; !ec && it != end; it.increment(ec))
    last = std::max(last, time_of(it->path()));
  return last;
}

// The models that are served, as the configuration says, now and after each reload.
class Models {
 public:
  Models(Dispatcher& dispatcher, boost::asio::thread_pool& pool, Log& log,
         std::string socket_directory, KvDiskOptions kv_disk)
      : dispatcher_(dispatcher),
        pool_(pool),
        log_(log),
        socket_directory_(std::move(socket_directory)),
        kv_disk_(std::move(kv_disk)) {}

  Status start(const std::vector<ModelConfig>& models) {
    std::vector<ModelSetup> added;
    for (const ModelConfig& m : models) {
      written_.emplace_back(m, last_written(m));
      FATHOM_TRY(ModelSetup setup, setup_model(m, kv_disk_, next_socket_prefix()));
      added.push_back(std::move(setup));
    }
    return dispatcher_.serve({}, std::move(added));
  }

  // Models that are as they were stay; others are read beside the answers on their way. On an error
  // nothing changes.
  boost::asio::awaitable<Status> reload(const std::vector<ModelConfig>& models) {
    std::vector<ModelConfig> stay;
    std::vector<ModelSetup> added;
    std::vector<std::pair<ModelConfig, int64_t>> written;
    for (const ModelConfig& m : models) {
      written.emplace_back(m, last_written(m));
      if (std::find(written_.begin(), written_.end(), written.back()) != written_.end()) {
        stay.push_back(m);
        continue;
      }
      const auto read = [m, disk = kv_disk_, prefix = next_socket_prefix()] {
        return setup_model(m, disk, prefix);
      };
      auto setup = co_await offload(pool_, read);
      if (!setup) co_return setup.error();
      added.push_back(*std::move(setup));
    }
    const auto count = static_cast<int64_t>(added.size());
    const Status served = dispatcher_.serve(stay, std::move(added));
    if (!served) co_return served;
    written_ = std::move(written);
    log_.write(LogLevel::kInfo, "models read again",
               {{"stay", static_cast<int64_t>(stay.size())}, {"started", count}});
    co_return Status{};
  }

 private:
  std::string next_socket_prefix() { return fmt::format("{}/{}", socket_directory_, ++sockets_); }

  Dispatcher& dispatcher_;
  boost::asio::thread_pool& pool_;
  Log& log_;
  std::string socket_directory_;
  KvDiskOptions kv_disk_;
  int sockets_ = 0;
  std::vector<std::pair<ModelConfig, int64_t>> written_;
};

// A directory for the workers' sockets that nobody else may enter; removed at the end.
class SocketDir {
 public:
  static Result<SocketDir> create() {
    std::string path = (std::filesystem::temp_directory_path() / "fathom-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr)
      return Error{ErrorCode::kUnavailable, fmt::format("cannot make a directory as {}", path)};
    return SocketDir(path);
  }
  SocketDir(SocketDir&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  SocketDir& operator=(SocketDir&&) = delete;
  ~SocketDir() {
    std::error_code ec;
    if (!path_.empty()) std::filesystem::remove_all(path_, ec);
  }
  const std::string& path() const { return path_; }

 private:
  explicit SocketDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

Result<std::unique_ptr<Log>> open_log(const ServerConfig& c) {
  const LogLevel level = c.log_level == "debug"     ? LogLevel::kDebug
                         : c.log_level == "warning" ? LogLevel::kWarning
                         : c.log_level == "error"   ? LogLevel::kError
                                                    : LogLevel::kInfo;
  return Log::open(c.log_format == "text" ? LogFormat::kText : LogFormat::kJson, level);
}

Result<std::unique_ptr<Authenticator>> make_authenticator(const ServerConfig& c,
                                                          ApiKeyAuthenticator*& keys, Log& log) {
  if (c.api_key_file.empty()) {
    return std::unique_ptr<Authenticator>(new OpenAuthenticator(c.cors_origins, c.host_names));
  }
  FATHOM_TRY(ApiKeyAuthenticator opened, ApiKeyAuthenticator::open(c.api_key_file));
  for (const std::string& warning : opened.warnings()) log.write(LogLevel::kWarning, warning);
  auto owned = std::make_unique<ApiKeyAuthenticator>(std::move(opened));
  keys = owned.get();
  return std::unique_ptr<Authenticator>(std::move(owned));
}

// Makes the directory and the key, so that what is wrong with them is said at once. Workers may run
// elsewhere: they get whole paths.
Result<KvDiskOptions> prepare_kv_disk(const KvDiskConfig& c) {
  KvDiskOptions out{.directory = {}, .max_bytes = c.max_bytes, .key_file = c.key_file};
  if (c.directory.empty()) return out;
  out.directory = std::filesystem::absolute(c.directory).lexically_normal().string();
  if (out.key_file.empty()) {
    FATHOM_TRY(out.key_file, default_kv_disk_key());
  }
  out.key_file = std::filesystem::absolute(out.key_file).lexically_normal().string();
  FATHOM_TRY(const kv_disk::SecretKey key, kv_disk::read_or_make_master_key(out.key_file));
  FATHOM_TRY(
      const auto tier,
      kv_disk::DiskTier::open(
          {.directory = out.directory, .max_bytes = out.max_bytes, .key = key, .identity = {}}));
  return out;
}

void greet(const ServerConfig& config, const Dispatcher& dispatcher, const Listener& listener) {
  for (const auto& model : dispatcher.models())
    fmt::print("model    {} (context {} tokens)\n", model->id, model->context_tokens);
  for (const std::string& address : listener.addresses()) {
    const bool tcp = !address.starts_with("unix:");
    fmt::print("{} {}{}\n", "open    ", tcp ? "http://" : "", address);
  }
  const std::string& first = listener.addresses().front();
  fmt::print("API      http://{}/v1 (OpenAI, DeepSeek), /anthropic\n", first);
  if (config.api_key_file.empty()) {
    fmt::print("keys     none asked for: whoever reaches this port may ask{}\n",
               config.insecure ? "" : "; it is open to this machine alone");
  }
  std::fflush(stdout);
}

// The signs of life come from the thread that serves: a front that hangs gives none.
boost::asio::awaitable<void> show_life(const ServiceManager& manager,
                                       std::chrono::microseconds every) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  while (true) {
    manager.alive();
    timer.expires_after(every);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

Status run(const Options& options) {
  FATHOM_TRY(const ServerConfig config, load_config(options.sources));
  if (config.models.empty())
    return invalid_argument("no model: give one, as in fathom serve nano, or --config FILE");
  const ServiceManager manager = ServiceManager::from_environment();
  FATHOM_TRY(const auto log, open_log(config));
  FATHOM_TRY(const SocketDir sockets, SocketDir::create());
  raise_file_limit();
  boost::asio::thread_pool pool(2);
  Metrics metrics;
  HttpMetrics http_metrics(metrics);
  ApiKeyAuthenticator* keys = nullptr;
  FATHOM_TRY(const auto authenticator, make_authenticator(config, keys, *log));
  std::unique_ptr<ConcurrencyQuota> quota;
  if (config.max_requests_per_key > 0)
    quota = std::make_unique<ConcurrencyQuota>(config.max_requests_per_key);

  boost::asio::io_context io;
  Dispatcher dispatcher(io, *log);
  HandlerDeps deps{.service = dispatcher,
                   .metrics = metrics,
                   .pool = pool,
                   .version = FATHOM_VERSION,
                   .log = log.get(),
                   .log_prompts = config.log_prompts,
                   .metrics_open = config.metrics_open};
  Router router;
  add_routes(router, deps);
  Listener listener(io, {.pipeline = {.router = &router,
                                      .authenticator = authenticator.get(),
                                      .quota = quota.get(),
                                      .cors_origins = config.cors_origins},
                         .limits = config.http,
                         .insecure = config.insecure,
                         .on_access =
                             [&](const AccessRecord& record) {
                               log_access(*log, record);
                               http_metrics.count(record);
                             },
                         .on_handler_error =
                             [&](const std::string& what) { log->write(LogLevel::kError, what); }});
  http_metrics.show(listener);
  deps.complete_status = [&](nlohmann::json& status) {
    const Listener::Stats s = listener.stats();
    status["http"] = {{"connections", s.connections}, {"requests_total", s.requests_total}};
  };
  // Listening comes first: a port that is taken should not cost the loading of a model.
  for (const std::string& host : config.listen_hosts)
    FATHOM_TRY_STATUS(listener.listen(host, config.listen_port));
  if (!config.unix_socket.empty()) FATHOM_TRY_STATUS(listener.listen_unix(config.unix_socket));
  FATHOM_TRY(KvDiskOptions disk, prepare_kv_disk(config.kv_disk));
  Models models(dispatcher, pool, *log, sockets.path(), std::move(disk));
  FATHOM_TRY_STATUS(models.start(config.models));
  listener.start();
  greet(config, dispatcher, listener);

  boost::asio::signal_set stop(io, SIGTERM, SIGINT), reload(io, SIGHUP);
  bool stopping = false;
  const auto drain = [&]() -> boost::asio::awaitable<void> {
    co_await listener.drain(config.drain_timeout);
    stop_background(deps);
    dispatcher.stop();
    io.stop();
  };
  std::function<void(const boost::system::error_code&, int)> on_stop =
      [&](const boost::system::error_code& error, int) {
        if (error) return;
        if (stopping) return io.stop();  // the second time means now
        stopping = true;
        manager.stopping();
        log->write(LogLevel::kInfo, "stopping: answers on their way may end");
        boost::asio::co_spawn(io, drain(), boost::asio::detached);
        stop.async_wait(on_stop);
      };
  stop.async_wait(on_stop);
  const auto reload_all = [&]() -> boost::asio::awaitable<void> {
    if (keys != nullptr) {
      const Status read = keys->reload();
      log->write(read ? LogLevel::kInfo : LogLevel::kError,
                 read ? "keys read again" : read.error().message);
    }
    auto read = load_config(options.sources);
    if (!read || read->models.empty()) {
      log->write(LogLevel::kError, "configuration not read again",
                 {{"reason", read ? "it names no model" : read.error().message}});
      co_return;
    }
    const Status served = co_await models.reload(read->models);
    if (!served) {
      log->write(LogLevel::kError, "models stay as they are", {{"reason", served.error().message}});
    }
    read->models = config.models;
    if (!(*read == config))
      log->write(LogLevel::kWarning,
                 "settings beside keys and models take effect at the next start");
  };
  const auto on_reload = [&]() -> boost::asio::awaitable<void> {
    while (true) {
      co_await reload.async_wait(boost::asio::use_awaitable);
      manager.reloading();
      co_await reload_all();
      manager.ready();
    }
  };
  boost::asio::co_spawn(io, on_reload(), boost::asio::detached);
  // Ready means that requests are taken: those that come before a model is loaded wait for it.
  manager.ready();
  if (manager.alive_every())
    boost::asio::co_spawn(io, show_life(manager, *manager.alive_every()), boost::asio::detached);
  io.run();
  dispatcher.stop();
  pool.join();
  return {};
}

// One flag a setting; what is given goes to load_config, which knows types and ranges.
template <typename Owner>
void add_flags(CLI::App& command, std::span<const Setting<Owner>> settings, const char* group,
               const std::shared_ptr<Options>& options) {
  for (const auto& setting : settings) {
    const std::string flag = setting.flag_name();
    const std::string help = fmt::format("{} (default {}; {})", setting.help,
                                         setting.default_text(), setting.env_name());
    const auto take = [options, flag](const std::string& value) {
      options->sources.flags.emplace_back(flag, value);
    };
    if (setting.is_boolean()) {
      command.add_flag_callback(flag, [take] { take("true"); }, help)->group(group);
    } else {
      command.add_option_function<std::string>(flag, take, help)
          ->group(group)
          ->type_name(setting.is_list() ? "LIST" : "VALUE");
    }
  }
}

}  // namespace serve_command

Action add_serve(CLI::App& program, CLI::App*& command) {
  using namespace serve_command;
  command = program.add_subcommand("serve", "Serve models over HTTP: OpenAI's and DeepSeek's API");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->sources.model, "Model directory, file or bundled name");
  command->add_option("--config", o->sources.file, "fathom.yaml");
  add_flags<ServerConfig>(*command, server_settings(), "Server", o);
  add_flags<ModelConfig>(*command, model_settings(), "Model", o);
  command->footer(
      "Example:\n  fathom serve nano\n  curl http://127.0.0.1:8080/v1/chat/completions \\\n"
      "    -d '{\"model\":\"nano\",\"messages\":[{\"role\":\"user\",\"content\":\"12+30=\"}]}'");
  return [o] {
    for (char** variable = environ; *variable != nullptr; ++variable) {
      const std::string_view text(*variable);
      const std::size_t equals = text.find('=');
      if (equals != std::string_view::npos)
        o->sources.environment.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    // Not settings of the server.
    for (const char* name : {"FATHOM_MODELS", "FATHOM_BINARY", "FATHOM_SANITIZED"})
      o->sources.environment.erase(name);
    return run(*o);
  };
}

}  // namespace fathom
