// One page as a file: sealed, complete or not there.
//
//   bytes  0..7    "fathomkv"
//          8..11   version of this layout, little-endian
//         12..23   nonce, random
//         24..31   size of the content, little-endian
//         content  encrypted: the page's parent and tokens, then its bytes
//         tag      16 bytes, of the above and of where the file stands
//
// Whatever was cut off, changed, moved elsewhere or locked with another key does not match the tag.
#pragma once

#include <cstdint>
#include <string>

#include "kv_disk/crypto.h"

namespace fathom::kv_disk {

inline constexpr uint32_t kPageFileVersion = 1;
inline constexpr std::string_view kUnfinished = "unfinished";  // name of a file being written

struct PageFile {
  std::string directory;  // of one tenant and one model, with '/' at the end
  std::string name;
  std::string path() const { return directory + name; }
};

int64_t page_file_bytes(const PageTier::Page& page);

// Under a name of its own first: no two writers in one directory at a time. `used`: the file's
// time.
Status write_page(const PageFile& file, const SecretKey& key, const PageTier::Page& page,
                  struct timespec used);

enum class PageRead : uint8_t { kRead, kMissing, kDamaged };
// Into page.bytes, which hold anything unless this says kRead. Errors: the system's.
Result<PageRead> read_page(const PageFile& file, const SecretKey& key, const PageTier::Page& page);

}  // namespace fathom::kv_disk
