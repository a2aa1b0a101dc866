#include "engine/prefix_cache.h"

#include <algorithm>

namespace fathom {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 32;
}

}  // namespace

uint64_t PrefixCache::hash_of(int32_t tenant, Node parent, const Key& key) const {
  uint64_t hash = mix(static_cast<uint64_t>(tenant), static_cast<uint64_t>(parent) + 1);
  hash = mix(hash, static_cast<uint64_t>(key.prompt_tokens));
  for (const int32_t token : key.tokens) hash = mix(hash, static_cast<uint64_t>(token));
  return hash;
}

std::optional<PrefixCache::Node> PrefixCache::find(int32_t tenant, Node parent, const Key& key,
                                                   uint64_t hash) {
  const auto [begin, end] = by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const Entry& e = at(it->second);
    if (e.tenant == tenant && e.parent == parent && e.prompt_tokens == key.prompt_tokens &&
        std::equal(e.tokens.begin(), e.tokens.end(), key.tokens.begin(), key.tokens.end()))
      return it->second;
  }
  return std::nullopt;
}

std::optional<PrefixCache::Node> PrefixCache::find(std::string_view tenant, Node parent,
                                                   const Key& key) {
  const auto index = tenant_index_.find(std::string(tenant));
  if (index == tenant_index_.end()) return std::nullopt;
  return find(index->second, parent, key, hash_of(index->second, parent, key));
}

// Parents end up newer than their children, so that the oldest page is a leaf.
void PrefixCache::touch(Node node) {
  for (; node != kNoNode; node = at(node).parent) {
    unlink(node);
    link_newest(node);
  }
}

PrefixCache::Node PrefixCache::insert(std::string_view tenant, Node parent, const Key& key,
                                      int32_t page) {
  auto [index, added] = tenant_index_.try_emplace(std::string(tenant), -1);
  if (added) {
    if (unused_tenants_.empty()) {
      unused_tenants_.push_back(static_cast<int32_t>(tenants_.size()));
      tenants_.emplace_back();
    }
    index->second = unused_tenants_.back();
    unused_tenants_.pop_back();
    tenants_[static_cast<std::size_t>(index->second)] = {std::string(tenant), 0};
  }
  const int32_t owner = index->second;
  const uint64_t hash = hash_of(owner, parent, key);
  if (const auto found = find(owner, parent, key, hash)) {
    touch(*found);
    return *found;
  }
  if (unused_.empty()) {
    unused_.push_back(static_cast<Node>(nodes_.size()));
    nodes_.emplace_back();
  }
  const Node node = unused_.back();
  unused_.pop_back();
  at(node) = {.parent = parent,
              .tenant = owner,
              .page = page,
              .hash = hash,
              .prompt_tokens = key.prompt_tokens,
              .tokens = {key.tokens.begin(), key.tokens.end()},
              .alive = true};
  if (parent != kNoNode) ++at(parent).children;
  ++tenants_[static_cast<std::size_t>(owner)].nodes;
  by_hash_.emplace(hash, node);
  cache_.pages().share(page);
  if (PageDirectory* directory = cache_.directory()) {
    directory->write(page, parent == kNoNode ? -1 : at(parent).page, key.prompt_tokens, tenant,
                     key.tokens);
  }
  link_newest(node);
  if (parent != kNoNode) touch(parent);
  return node;
}

void PrefixCache::keep_window(Node node, std::span<const int32_t> pages) {
  Entry& e = at(node);
  if (!e.window_pages.empty() || pages.empty()) return;
  for (const int32_t page : pages) cache_.window_pages().share(page);
  e.window_pages.assign(pages.begin(), pages.end());
  if (PageDirectory* directory = cache_.directory()) directory->write_window(e.page, pages);
}

void PrefixCache::drop_window(Entry& e) {
  if (e.window_pages.empty()) return;
  if (PageDirectory* directory = cache_.directory()) directory->erase_window(e.page);
  for (const int32_t page : e.window_pages) cache_.window_pages().release(page);
  e.window_pages.clear();
}

bool PrefixCache::evict_window() {
  for (Node node = oldest_; node != kNoNode; node = at(node).newer) {
    Entry& e = at(node);
    const auto unused = [&](int32_t page) { return cache_.window_pages().holders(page) == 1; };
    if (std::any_of(e.window_pages.begin(), e.window_pages.end(), unused)) {
      drop_window(e);
      return true;
    }
  }
  return false;
}

int64_t PrefixCache::restore() {
  PageDirectory* const directory = cache_.directory();
  if (directory == nullptr) return 0;
  const std::vector<PageDirectory::Record> records = directory->restore();
  std::vector<int32_t> pages;
  for (const auto& r : records) pages.push_back(r.page);
  cache_.pages().claim(pages);
  std::vector<int32_t> window_pages;  // of all records; some are in several
  for (const auto& r : records)
    window_pages.insert(window_pages.end(), r.window_pages.begin(), r.window_pages.end());
  std::sort(window_pages.begin(), window_pages.end());
  window_pages.erase(std::unique(window_pages.begin(), window_pages.end()), window_pages.end());
  cache_.window_pages().claim(window_pages);
  std::unordered_map<int32_t, Node> by_page;
  for (const auto& r : records) {
    const Node parent = r.parent < 0 ? kNoNode : by_page.at(r.parent);
    by_page[r.page] = insert(r.tenant, parent, {r.tokens, r.prompt_tokens}, r.page);
    cache_.pages().release(r.page);  // the tree alone holds it now
    keep_window(by_page[r.page], r.window_pages);
  }
  for (const int32_t page : window_pages) cache_.window_pages().release(page);
  return static_cast<int64_t>(records.size());
}

bool PrefixCache::evict() {
  // What sequences hold goes to the front: it is in use.
  for (int64_t looked = pages(); looked > 0 && oldest_ != kNoNode; --looked) {
    const Node node = oldest_;
    if (at(node).children == 0 && cache_.pages().holders(at(node).page) == 1) {
      erase(node);
      return true;
    }
    unlink(node);
    link_newest(node);
  }
  return false;
}

void PrefixCache::erase_tenant(std::string_view tenant) {
  const auto index = tenant_index_.find(std::string(tenant));
  if (index == tenant_index_.end()) return;
  const int32_t owner = index->second;
  // Leaves first, until the tenant is gone.
  for (bool left = true; left;) {
    left = false;
    for (Node node = 0; node < static_cast<Node>(nodes_.size()); ++node) {
      if (!at(node).alive || at(node).tenant != owner) continue;
      if (at(node).children > 0) {
        left = true;
      } else {
        erase(node);
      }
    }
  }
}

void PrefixCache::clear() {
  while (oldest_ != kNoNode) {
    const Node node = oldest_;
    if (at(node).children == 0) {
      erase(node);
    } else {
      unlink(node);
      link_newest(node);
    }
  }
}

void PrefixCache::abandon() {
  nodes_.clear();
  by_hash_.clear();
  newest_ = oldest_ = kNoNode;
}

void PrefixCache::erase(Node node) {
  Entry& e = at(node);
  unlink(node);
  const auto [begin, end] = by_hash_.equal_range(e.hash);
  by_hash_.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second == node; }));
  if (e.parent != kNoNode) --at(e.parent).children;
  Tenant& tenant = tenants_[static_cast<std::size_t>(e.tenant)];
  if (--tenant.nodes == 0) {
    tenant_index_.erase(tenant.name);
    unused_tenants_.push_back(e.tenant);
  }
  drop_window(e);
  if (PageDirectory* directory = cache_.directory()) directory->erase(e.page);
  cache_.pages().release(e.page);
  e = {};
  unused_.push_back(node);
}

void PrefixCache::link_newest(Node node) {
  at(node).older = newest_;
  at(node).newer = kNoNode;
  if (newest_ != kNoNode) at(newest_).newer = node;
  newest_ = node;
  if (oldest_ == kNoNode) oldest_ = node;
}

void PrefixCache::unlink(Node node) {
  Entry& e = at(node);
  if (e.newer != kNoNode) {
    at(e.newer).older = e.older;
  } else {
    newest_ = e.older;
  }
  if (e.older != kNoNode) {
    at(e.older).newer = e.newer;
  } else {
    oldest_ = e.newer;
  }
  e.newer = e.older = kNoNode;
}

}  // namespace fathom
