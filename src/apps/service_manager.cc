#include "apps/service_manager.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace fathom {
namespace {

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string taken = value == nullptr ? "" : value;
  ::unsetenv(name);
  return taken;
}

int64_t number_or(const std::string& text, int64_t otherwise) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

}  // namespace

ServiceManager ServiceManager::from_environment() {
  ServiceManager m;
  m.address_ = take_variable("NOTIFY_SOCKET");
  const int64_t watchdog_us = number_or(take_variable("WATCHDOG_USEC"), 0);
  const int64_t watched = number_or(take_variable("WATCHDOG_PID"), ::getpid());
  if (m.address_.empty() || m.address_.size() >= sizeof(sockaddr_un::sun_path)) return m;
  m.fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  // A service manager that reads nothing must not hold up the service.
  const timeval patience{.tv_sec = 0, .tv_usec = 100'000};
  (void)::setsockopt(m.fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (m.fd_ >= 0 && watchdog_us > 1 && watched == ::getpid())
    m.alive_every_ = std::chrono::microseconds(watchdog_us / 2);
  return m;
}

ServiceManager::ServiceManager(ServiceManager&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      address_(std::move(other.address_)),
      alive_every_(other.alive_every_) {}

ServiceManager::~ServiceManager() {
  if (fd_ >= 0) ::close(fd_);
}

void ServiceManager::notify(std::string_view state) const {
  if (fd_ < 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());
  if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  (void)::sendto(fd_, state.data(), state.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&to), size);
}

void ServiceManager::reloading() const {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  notify(fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                     int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000));
}

}  // namespace fathom
