#include "kv_disk/disk_tier.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/limits.h"
#include "kv_disk/page_file.h"

namespace fathom::kv_disk {
namespace {

// How long after a page the one behind it passes for handed over together with it.
constexpr auto kTogether = std::chrono::seconds(1);

// False if there is no such file.
Result<bool> mark_used(const std::string& path, struct timespec time) {
  const struct timespec times[] = {time, time};
  if (::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return system_error(path, "date");
}

// Signals are for the program's own threads; with SIGXFSZ blocked a file that may not grow is an
// error like others.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

}  // namespace

Result<std::unique_ptr<DiskTier>> DiskTier::open(DiskTierOptions options) {
  if (options.max_queued_pages == 0) options.max_queued_pages = limits::kMaxDiskQueuePages;
  FATHOM_TRY(DiskSpace space, DiskSpace::open(options.directory, options.max_bytes,
                                              model_directory(options.key, options.identity)));
  return std::unique_ptr<DiskTier>(new DiskTier(std::move(options), std::move(space)));
}

DiskTier::DiskTier(DiskTierOptions options, DiskSpace space)
    : options_(std::move(options)),
      model_(model_directory(options_.key, options_.identity)),
      keyring_(space.directory(), options_.key),
      space_(std::move(space)) {
  const SignalsBlocked blocked;
  writer_ = std::thread([this] { write(); });
  reader_ = std::thread([this] { read(); });
}

DiskTier::~DiskTier() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    reading_cancelled_ = true;
  }
  to_write_.notify_all();
  to_read_.notify_all();
  writer_.join();
  reader_.join();
}

// When a page was used: pages that follow each other at once are dated as one, each a little before
// what it stands on, so that it goes first. With the mutex.
struct timespec DiskTier::date(const Page& page) {
  const auto now = std::chrono::system_clock::now();
  if (page.parent != last_stored_ || now - last_date_ > kTogether || now < last_date_)
    last_date_ = now;
  last_stored_ = page.id;
  const auto used = last_date_ - std::chrono::microseconds(page.depth);
  const int64_t ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(used.time_since_epoch()).count();
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

bool DiskTier::store(std::string_view tenant, Page page) {
  {
    const std::lock_guard lock(mutex_);
    if (static_cast<int64_t>(stores_.size()) >= options_.max_queued_pages ||
        Clock::now() < writing_rests_until_) {
      ++stats_.pages_skipped;
      return false;
    }
    const struct timespec used = date(page);
    stores_.push_back({std::string(tenant), std::move(page), used});
  }
  to_write_.notify_one();
  return true;
}

std::vector<int32_t> DiskTier::released() {
  const std::lock_guard lock(mutex_);
  return std::exchange(released_, {});
}

void DiskTier::give_up_stores() {
  std::unique_lock lock(mutex_);
  stats_.pages_skipped += static_cast<int64_t>(stores_.size());
  for (const Store& s : stores_) released_.push_back(s.page.page);
  stores_.clear();
  done_.wait(lock, [this] { return !writing_for_; });
}

void DiskTier::load(uint64_t ticket, std::string_view tenant, std::vector<Page> pages) {
  {
    const std::lock_guard lock(mutex_);
    loads_.push_back({ticket, std::string(tenant), std::move(pages)});
  }
  to_read_.notify_one();
}

std::vector<PageTier::Loaded> DiskTier::loaded() {
  const std::lock_guard lock(mutex_);
  return std::exchange(loaded_, {});
}

void DiskTier::cancel_load(uint64_t ticket) {
  std::unique_lock lock(mutex_);
  std::erase_if(loads_, [&](const Load& l) { return l.ticket == ticket; });
  if (reading_ == ticket) {
    reading_cancelled_ = true;
    done_.wait(lock, [&] { return reading_ != ticket; });
  }
  std::erase_if(loaded_, [&](const Loaded& l) { return l.ticket == ticket; });
}

void DiskTier::wait_loaded(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  done_.wait_for(lock, timeout, [this] { return !loaded_.empty(); });
}

void DiskTier::erase_tenant(std::string_view tenant) {
  {
    std::unique_lock lock(mutex_);
    for (const Store& s : stores_)
      if (s.tenant == tenant) released_.push_back(s.page.page);
    std::erase_if(stores_, [&](const Store& s) { return s.tenant == tenant; });
    done_.wait(lock, [&] { return writing_for_ != tenant; });
    erasures_.emplace_back(tenant);
  }
  keyring_.forget(tenant);
  to_write_.notify_one();
}

bool DiskTier::flush(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return done_.wait_for(lock, timeout, [this] { return idle(); });
}

PageTierStats DiskTier::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

// With the mutex.
void DiskTier::trouble(const Error& error, Clock::time_point& rests_until) {
  ++stats_.errors;
  stats_.last_error = error.message;
  rests_until = Clock::now() + options_.rest;
}

std::string DiskTier::model_path(std::string_view tenant) const {
  return space_.directory() + tenant_directory(options_.key, tenant) + "/" + model_ + "/";
}

void DiskTier::write() {
  const auto use_space = [this](auto what) {
    Status done;
    int64_t used = 0;
    {
      const DiskSpace::Lock lock(space_);
      done = what();
      const auto bytes = space_.used();
      if (bytes) used = *bytes;
    }
    const std::lock_guard lock(mutex_);
    if (!done) trouble(done.error(), writing_rests_until_);
    stats_.bytes = used;
    stats_.other_bytes = space_.other_bytes();
  };
  use_space([this] { return space_.count(); });
  std::unique_lock lock(mutex_);
  while (true) {
    busy_ = false;
    done_.notify_all();
    to_write_.wait(lock, [this] {
      return stop_ || !stores_.empty() || !erasures_.empty() || !damaged_.empty();
    });
    if (stop_) return;
    busy_ = true;
    // Erasures first, and even while nothing else is written.
    if (!erasures_.empty()) {
      const std::string tenant = erasures_.front();
      lock.unlock();
      use_space([&] { return space_.erase_tenant(tenant_directory(options_.key, tenant)); });
      lock.lock();
      erasures_.pop_front();
    } else if (!damaged_.empty()) {
      const std::string path = std::move(damaged_.front());
      damaged_.pop_front();
      lock.unlock();
      use_space([&] { return space_.discard(path); });
      lock.lock();
    } else {
      const Store store = std::move(stores_.front());
      stores_.pop_front();
      if (Clock::now() < writing_rests_until_) {
        ++stats_.pages_skipped;
      } else {
        writing_for_ = store.tenant;
        lock.unlock();
        use_space([&] { return keep(store); });
        lock.lock();
        writing_for_.reset();
      }
      released_.push_back(store.page.page);
    }
  }
}

// With the mutex.
bool DiskTier::is_erasing(std::string_view tenant) const {
  return std::find(erasures_.begin(), erasures_.end(), tenant) != erasures_.end();
}

// Of those who keep the same page, one writes it.
Status DiskTier::keep(const Store& store) {
  const Page& page = store.page;
  const std::string directory = model_path(store.tenant);
  FATHOM_TRY(auto keys, keyring_.find(store.tenant));
  if (keys != nullptr) {
    FATHOM_TRY(const bool there, mark_used(directory + keys->file_name(page.id), store.used));
    if (there) return {};
  }
  const int64_t bytes = page_file_bytes(page);
  FATHOM_TRY(const bool fits, space_.make_room(disk_bytes(bytes)));
  if (fits) {
    // Not before there is room: that may have taken the tenant's last page, and its salt.
    FATHOM_TRY(keys, keyring_.find_or_make(store.tenant));
    if (keys == nullptr) return internal_error("the salt of a tenant cannot be read");
    FATHOM_TRY_STATUS(make_directory(directory));
    FATHOM_TRY_STATUS(space_.add(disk_bytes(bytes)));
    const Status written =
        write_page({directory, keys->file_name(page.id)}, keys->content, page, store.used);
    if (!written) {
      FATHOM_TRY_STATUS(space_.add(-disk_bytes(bytes)));
      return written;
    }
  }
  const std::lock_guard lock(mutex_);
  if (fits) {
    ++stats_.pages_written;
    stats_.bytes_written += bytes;
  } else {
    ++stats_.pages_skipped;
  }
  return {};
}

void DiskTier::read() {
  std::unique_lock lock(mutex_);
  while (true) {
    to_read_.wait(lock, [this] { return stop_ || !loads_.empty(); });
    if (stop_) return;
    const Load load = std::move(loads_.front());
    loads_.pop_front();
    reading_ = load.ticket;
    reading_cancelled_ = false;
    const bool rests = Clock::now() < reading_rests_until_ || is_erasing(load.tenant);
    lock.unlock();
    const int64_t pages = rests ? 0 : read_pages(load);
    lock.lock();
    reading_.reset();
    loaded_.push_back({load.ticket, pages});
    for (const Page& page : load.pages)
      stats_.query_tokens += static_cast<int64_t>(page.tokens.size());
    for (int64_t i = 0; i < pages; ++i)
      stats_.hit_tokens +=
          static_cast<int64_t>(load.pages[static_cast<std::size_t>(i)].tokens.size());
    done_.notify_all();
  }
}

// From the first on, until one is not there.
int64_t DiskTier::read_pages(const Load& load) {
  int64_t count = 0;
  for (const Page& page : load.pages) {
    const Result<PageRead> read = read_one(load, page);
    const std::lock_guard lock(mutex_);
    if (!read) trouble(read.error(), reading_rests_until_);
    if (!read || *read != PageRead::kRead || reading_cancelled_) break;
    ++stats_.pages_read;
    stats_.bytes_read += page_file_bytes(page);
    ++count;
  }
  return count;
}

Result<PageRead> DiskTier::read_one(const Load& load, const Page& page) {
  FATHOM_TRY(const auto keys, keyring_.find(load.tenant));
  if (keys == nullptr) return PageRead::kMissing;
  const PageFile file{model_path(load.tenant), keys->file_name(page.id)};
  FATHOM_TRY(const PageRead read, read_page(file, keys->content, page));
  if (read == PageRead::kDamaged) {
    {
      const std::lock_guard lock(mutex_);
      ++stats_.pages_damaged;
      damaged_.push_back(file.path());
    }
    to_write_.notify_one();
  }
  return read;
}

Status erase_tenant_files(const std::string& directory, const SecretKey& key,
                          std::string_view tenant) {
  struct stat info{};
  if (::stat(directory.c_str(), &info) != 0 && errno == ENOENT) return {};
  FATHOM_TRY(DiskSpace space, DiskSpace::open(directory, 0, ""));
  const DiskSpace::Lock lock(space);
  return space.erase_tenant(tenant_directory(key, tenant));
}

}  // namespace fathom::kv_disk
