// What a service manager is told: readiness, stopping, signs of life.
//
// The protocol of sd_notify(3): datagrams of VARIABLE=value lines to the unix socket that
// $NOTIFY_SOCKET names (a leading @ stands for the abstract name space). Its manual page declares
// it stable and open to other implementations. Without the variable every call does nothing.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

class ServiceManager {
 public:
  // Reads $NOTIFY_SOCKET and $WATCHDOG_USEC, and removes them from the environment, so that no
  // child speaks for this process.
  static ServiceManager from_environment();

  ServiceManager(ServiceManager&& other) noexcept;
  ServiceManager& operator=(ServiceManager&&) = delete;
  ~ServiceManager();

  // `state`: the lines of one message. What cannot be delivered within 100 ms is dropped: a service
  // manager that is gone must not end the service.
  void notify(std::string_view state) const;
  void ready() const { notify("READY=1"); }
  void stopping() const { notify("STOPPING=1"); }
  // Before a reload; ready() ends it.
  void reloading() const;
  void alive() const { notify("WATCHDOG=1"); }

  // How often alive() has to come: half of what the service manager waits. Empty: it does not wait
  // for it.
  std::optional<std::chrono::microseconds> alive_every() const { return alive_every_; }

 private:
  ServiceManager() = default;

  int fd_ = -1;
  std::string address_;  // of sockaddr_un::sun_path
  std::optional<std::chrono::microseconds> alive_every_;
};

}  // namespace fathom
