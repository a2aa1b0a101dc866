// PrefixCache: finds pages that already hold the beginning of a sequence, so that nobody computes
// it twice.
//
// Owns the tree of full pages by their tokens, one tree per tenant, and which of them goes first
// when pages run out (least recently used, leaves before what they stand on). It is one of the
// holders of its pages (KvCache); a page that sequences hold too stays. What is in a page is no
// business of its.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/kv_cache.h"

namespace fathom {

class PrefixCache {
 public:
  // A page in a tree; kNoNode: none. Valid while somebody else holds the node's page.
  using Node = int32_t;
  static constexpr Node kNoNode = -1;

  // What a page is found by. `prompt_tokens`: how many of its tokens are of class kPrompt.
  struct Key {
    std::span<const int32_t> tokens;  // page_tokens of them
    int64_t prompt_tokens = 0;
  };

  // `cache` must outlive this, at its address.
  explicit PrefixCache(KvCache& cache) : cache_(cache) {}
  ~PrefixCache() { clear(); }
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The page that follows `parent` (kNoNode: the first) in the tenant's tree, if there is one.
  std::optional<Node> find(std::string_view tenant, Node parent, const Key& key);
  Node parent(Node node) const { return nodes_[static_cast<std::size_t>(node)].parent; }
  int32_t page(Node node) const { return nodes_[static_cast<std::size_t>(node)].page; }
  // Marks a node, and what it stands on, as just used.
  void touch(Node node);

  // Puts a full page behind `parent` and becomes one more holder of it. If an equal page is there
  // already, that one's node is returned and nothing changes: see page().
  Node insert(std::string_view tenant, Node parent, const Key& key, int32_t page);

  // The window pages that whoever goes on behind the node needs; empty: they are not there, and the
  // node serves only on the way to others.
  std::span<const int32_t> window_pages(Node node) const {
    return nodes_[static_cast<std::size_t>(node)].window_pages;
  }
  // Becomes one more holder of a node's window pages, if it has none yet.
  void keep_window(Node node, std::span<const int32_t> pages);
  // Gives back the window pages of the node least recently used of which nobody else holds all;
  // false if there is none.
  bool evict_window();

  // Takes over what another process left in the cache's shared memory; pages it counts.
  int64_t restore();

  // Frees the page least recently used that nobody else holds; false if there is none.
  bool evict();
  // Forgets a tenant's pages, or all. None of them may be a sequence's.
  void erase_tenant(std::string_view tenant);
  void clear();
  // Leaves pages and records as they are; only for the end of the process's use of them.
  void abandon();

  int64_t pages() const { return static_cast<int64_t>(by_hash_.size()); }

 private:
  struct Entry {
    Node parent = kNoNode;
    int32_t tenant = -1;  // index in tenants_
    int32_t page = -1;
    int32_t children = 0;
    uint64_t hash = 0;
    int64_t prompt_tokens = 0;
    std::vector<int32_t> tokens;
    std::vector<int32_t> window_pages;
    Node newer = kNoNode, older = kNoNode;  // the list by use
    bool alive = false;
  };
  struct Tenant {
    std::string name;
    int64_t nodes = 0;
  };

  Entry& at(Node node) { return nodes_[static_cast<std::size_t>(node)]; }
  uint64_t hash_of(int32_t tenant, Node parent, const Key& key) const;
  std::optional<Node> find(int32_t tenant, Node parent, const Key& key, uint64_t hash);
  void link_newest(Node node);
  void unlink(Node node);
  void erase(Node node);
  void drop_window(Entry& e);

  KvCache& cache_;
  std::vector<Entry> nodes_;
  std::vector<Node> unused_;
  std::unordered_multimap<uint64_t, Node> by_hash_;
  std::vector<Tenant> tenants_;
  std::vector<int32_t> unused_tenants_;
  std::unordered_map<std::string, int32_t> tenant_index_;
  Node newest_ = kNoNode, oldest_ = kNoNode;
};

}  // namespace fathom
