// Every named limit of the program in one place. A reader of foreign bytes checks one of these
// before it allocates.
#pragma once

#include <cstdint>

namespace fathom::limits {

// Files.
inline constexpr int64_t kMaxJsonBytes = int64_t{256} << 20;  // tokenizer.json of V3 is 8 MB
inline constexpr int kMaxJsonDepth = 64;
inline constexpr int64_t kMaxSafetensorsHeaderBytes = int64_t{100} << 20;  // the format's own limit
inline constexpr int64_t kMaxTensorsPerModel = 1'000'000;                  // V3 has 91,991
inline constexpr int kMaxTensorRank = 8;
inline constexpr int kMaxShards = 10'000;
// A parsed JSON value takes up to some 200 bytes: these bound the memory that a small text can ask
// for.
inline constexpr int64_t kMaxSafetensorsHeaderValues = 16 * kMaxTensorsPerModel;
inline constexpr int64_t kMaxGgufKeys = 100'000;  // published files have some 50
inline constexpr int64_t kMaxGgufNameBytes = 65'535;  // of a key or a tensor's name: the format's own
inline constexpr int kMaxGgufArrayDepth = 8;
inline constexpr int kMaxGgufTensorRank = 4;  // the format's own
inline constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;  // config.json and its neighbours
inline constexpr int64_t kMaxConfigValues = 1'000'000;

// Model dimensions: several times what any published model has.
inline constexpr int64_t kMaxHiddenSize = 1 << 20;
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxHeads = 65'536;
inline constexpr int64_t kMaxExperts = 65'536;
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxContextTokens = int64_t{1} << 27;

// Tokenizer.
inline constexpr int64_t kMaxTokenBytes = 1 << 16;
inline constexpr int64_t kMaxAddedTokens = 1 << 20;
inline constexpr int kMaxPretokenizerStages = 64;
inline constexpr int64_t kMaxVocabHoles = 1 << 20;  // ids below the largest that no token has
inline constexpr int64_t kMaxAddedTokenBytes = 4096;
inline constexpr int64_t kMaxRegexBytes = 1 << 16;
inline constexpr int64_t kMaxEncodeBytes = int64_t{1} << 30;
inline constexpr uint32_t kRegexMatchLimit = 10'000'000;
inline constexpr uint32_t kRegexHeapLimitKiB = 64 * 1024;

// Chat and requests.
inline constexpr int64_t kMaxMessages = 100'000;
inline constexpr int64_t kMaxPromptBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxRequestJsonValues = 2'000'000;  // about 100 bytes of memory each
inline constexpr int64_t kMaxTools = 10'000;
inline constexpr int kMaxTopLogprobs = 20;
inline constexpr int kMaxLogitBiases = 1024;

// Requests over HTTP.
inline constexpr int64_t kMaxRequestBodyBytes = int64_t{48} << 20;  // DeepSeek's own limit
inline constexpr int kMaxRequestTools = 128;                        // likewise
inline constexpr int kMaxStops = 16;                                // likewise
inline constexpr int kMaxStopBytes = 1024;
inline constexpr int kMaxUserIdBytes = 512;  // DeepSeek's own limit
inline constexpr int kMaxChoices = 8;        // answers to one prompt
inline constexpr int kMaxCompletions = 64;   // prompts × choices of one request
inline constexpr int kMaxSchemaDepth = 32;
inline constexpr int kMaxMetadataEntries = 16;

// Engine. The list of free pages takes 4 bytes a page.
inline constexpr int64_t kMaxCachePages = 1 << 24;

// CPU.
inline constexpr int kMaxThreads = 1024;

}  // namespace fathom::limits
