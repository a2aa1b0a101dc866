// The master key: 32 bytes in a file that the server keeps, outside of what they lock.
#pragma once

#include <string>

#include "kv_disk/crypto.h"

namespace fathom::kv_disk {

// Errors: it is not there, has another size than 32 bytes, or others than its owner may read it.
Result<SecretKey> read_master_key(const std::string& path);

// Makes a key where there is none: random, for its owner alone, complete or not there. Missing
// directories above it are made too.
Result<SecretKey> read_or_make_master_key(const std::string& path);

}  // namespace fathom::kv_disk
