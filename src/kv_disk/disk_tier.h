// DiskTier: the second tier over files in a directory, encrypted, for this engine and those to
// come.
//
// Owns two threads: one writes (and counts, evicts, erases), one reads, so that a load does not
// wait for a queue of writes. The queue is bounded; what does not fit is not kept. After an error
// of the system the tier rests for a while and then tries again: a full disk costs prefills,
// nothing else. Engines that compute the same share what they keep, at once and after a restart.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/page_tier.h"
#include "kv_disk/crypto.h"
#include "kv_disk/page_file.h"
#include "kv_disk/space.h"
#include "kv_disk/tenants.h"

namespace fathom::kv_disk {

struct DiskTierOptions {
  std::string directory;
  int64_t max_bytes = 0;  // of the whole directory
  SecretKey key;
  std::string identity;          // what a page's bytes depend on: the model, its types, the program
  int64_t max_queued_pages = 0;  // 0: limits::kMaxDiskQueuePages
  std::chrono::milliseconds rest{10'000};  // after an error
};

class DiskTier final : public PageTier {
 public:
  // Errors: the directory cannot be made or used.
  static Result<std::unique_ptr<DiskTier>> open(DiskTierOptions options);
  // What waits is given up.
  ~DiskTier() override;

  PageId id_of(const PageId& parent, int64_t prompt_tokens,
               std::span<const int32_t> tokens) const override {
    return page_id(parent, prompt_tokens, tokens);
  }
  bool store(std::string_view tenant, Page page) override;
  std::vector<int32_t> released() override;
  void give_up_stores() override;
  void load(uint64_t ticket, std::string_view tenant, std::vector<Page> pages) override;
  std::vector<Loaded> loaded() override;
  void cancel_load(uint64_t ticket) override;
  void wait_loaded(std::chrono::milliseconds timeout) override;
  void erase_tenant(std::string_view tenant) override;
  bool flush(std::chrono::milliseconds timeout) override;
  PageTierStats stats() const override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Store {
    std::string tenant;
    Page page;
    struct timespec used;
  };
  struct Load {
    uint64_t ticket;
    std::string tenant;
    std::vector<Page> pages;
  };

  DiskTier(DiskTierOptions options, DiskSpace space);
  void write();
  void read();
  bool idle() const { return stores_.empty() && erasures_.empty() && damaged_.empty() && !busy_; }
  bool is_erasing(std::string_view tenant) const;
  struct timespec date(const Page& page);
  Status keep(const Store& store);
  int64_t read_pages(const Load& load);
  Result<PageRead> read_one(const Load& load, const Page& page);
  std::string model_path(std::string_view tenant) const;
  void trouble(const Error& error, Clock::time_point& rests_until);

  const DiskTierOptions options_;
  const std::string model_;
  TenantKeyring keyring_;
  DiskSpace space_;  // the writing thread's

  mutable std::mutex mutex_;
  std::condition_variable to_write_, to_read_, done_;
  std::deque<Store> stores_;
  PageId last_stored_{};
  std::chrono::system_clock::time_point last_date_;
  std::deque<Load> loads_;
  std::deque<std::string> erasures_, damaged_;  // tenants, paths
  bool busy_ = true;                            // the writer; it counts at first
  std::optional<std::string> writing_for_;      // tenant, while it writes a page
  std::optional<uint64_t> reading_;             // ticket
  bool reading_cancelled_ = false;
  std::vector<int32_t> released_;
  std::vector<Loaded> loaded_;
  Clock::time_point writing_rests_until_, reading_rests_until_;
  PageTierStats stats_;
  bool stop_ = false;
  std::thread writer_, reader_;
};

// Destroys what the directory holds of a tenant, of all models and versions, whether an engine uses
// it or not. Engines that run must have forgotten the tenant before. Nothing if there is no
// directory.
Status erase_tenant_files(const std::string& directory, const SecretKey& key,
                          std::string_view tenant);

}  // namespace fathom::kv_disk
