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
inline constexpr int64_t kMaxGgufNameBytes =
    65'535;  // of a key or a tensor's name: the format's own
inline constexpr int kMaxGgufArrayDepth = 8;
inline constexpr int kMaxGgufTensorRank = 4;                   // the format's own
inline constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;  // config.json and its neighbours
inline constexpr int64_t kMaxConfigValues = 1'000'000;

// Model dimensions: several times what any published model has.
inline constexpr int64_t kMaxHiddenSize = 1 << 20;
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxHeads = 65'536;
inline constexpr int64_t kMaxExperts = 65'536;
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int kMaxRanks = 64;  // of tensor parallelism
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

// Grammars for answers. A client sends them, so compiling one may take a tenth of a second at most.
inline constexpr int64_t kMaxSchemaBytes = 1 << 20;
inline constexpr int kMaxSchemaDepth = 128;            // of the schema's JSON text
inline constexpr int64_t kMaxSchemaValues = 100'000;   // in the schema's JSON text
inline constexpr int64_t kMaxSchemaRules = 10'000;     // different subschemas, merged ones included
inline constexpr int64_t kMaxSchemaWork = 2'000'000;   // subschemas looked at while merging
inline constexpr int kMaxSchemaAlternatives = 512;     // of one value, anyOf multiplied out
inline constexpr int kMaxSchemaOneOf = 64;             // options of one oneOf
inline constexpr int kMaxKeyPatterns = 6;              // patternProperties that meet in one object
inline constexpr int64_t kMaxGrammarStates = 100'000;  // some 40 bytes each
inline constexpr int64_t kMaxGrammarTransitions = 400'000;
inline constexpr int64_t kMaxGrammarRepeat = 16'384;  // minLength, maxItems, {n,m} and their like
inline constexpr int kMaxNumberDigits = 64;           // of a bound, written out
inline constexpr int64_t kMaxMultipleOf = 1000;
inline constexpr int64_t kMaxPatternBytes = 4096;
inline constexpr int kMaxPatternDepth = 100;
inline constexpr int64_t kMaxPatternStates = 20'000;
inline constexpr int64_t kMaxPatternWork = 4'000'000;  // of all patterns of a grammar together
inline constexpr int64_t kMaxToolCallsBytes = int64_t{8} << 20;
inline constexpr int64_t kMaxMatcherStacks = 2048;                // ways to read one answer
inline constexpr int64_t kMaxMatcherRollback = 256;               // tokens
inline constexpr int64_t kMaxMaskCacheBytes = int64_t{64} << 20;  // of one grammar
inline constexpr int64_t kMaxTrieTokenBytes = 1024;               // a longer token is never allowed

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
inline constexpr int kMaxToolSchemaDepth = 32;
inline constexpr int kMaxMetadataEntries = 16;

// Stored responses of POST /responses; the oldest complete ones make room.
inline constexpr int64_t kMaxStoredResponses = 4096;
inline constexpr int64_t kMaxStoredResponseBytes = int64_t{256} << 20;  // of all together
inline constexpr int64_t kStoredResponseMs = 3'600'000;                 // since it was made
inline constexpr int64_t kMaxBackgroundResponses = 128;                 // running at a time
inline constexpr int64_t kMaxBackgroundResponsesPerOwner = 64;

// Engine. The list of free pages takes 4 bytes a page.
inline constexpr int64_t kMaxCachePages = 1 << 24;
inline constexpr int64_t kMaxDiskQueuePages = 8192;  // that wait to be written to disk

// CPU.
inline constexpr int kMaxThreads = 1024;

// HTTP. What a request or a connection may cost before anybody is asked who sent it. Defaults of
// server/config where that has a setting of the same name.
inline constexpr int64_t kHttpMaxHeaderBytes = 32 << 10;
inline constexpr int64_t kHttpMaxHeaders = 100;
inline constexpr int64_t kHttpMaxTargetBytes = 8 << 10;
inline constexpr int64_t kHttpMaxBodyBytes = int64_t{48} << 20;  // as DeepSeek's API has it
// Bodies of all requests that are being read or handled.
inline constexpr int64_t kHttpMaxBodyBytesTotal = int64_t{1} << 30;
inline constexpr int64_t kHttpHeaderTimeoutMs = 10'000;  // from a request's first byte to its last
inline constexpr int64_t kHttpBodyGraceMs = 10'000;      // before the minimum rate applies
inline constexpr int64_t kHttpMinBodyBytesPerSecond = 8 << 10;
inline constexpr int64_t kHttpIdleTimeoutMs = 75'000;  // between requests, and before the first
inline constexpr int64_t kHttpSendTimeoutMs = 30'000;  // for the kernel to take one write
inline constexpr int64_t kHttpMaxConnections = 16'384;
inline constexpr int64_t kHttpMaxRequestsPerConnection = 10'000;
// Bytes that a client may send ahead while its request is handled; then it is no longer read from.
inline constexpr int64_t kHttpMaxPipelinedBytes = 32 << 10;
// The kernel's buffers of a connection: what a client that does not read can pin.
inline constexpr int64_t kHttpSocketBufferBytes = 256 << 10;
// A refused request's body up to here is read and dropped, so that the connection can go on.
inline constexpr int64_t kHttpMaxDiscardedBytes = 256 << 10;
inline constexpr int64_t kHttpLingerMs = 2'000;   // for a client to read the answer that ends it
inline constexpr int64_t kHttpMaxRefusing = 256;  // connections that are being told 503
inline constexpr int64_t kHttpMaxRequestIdBytes = 128;
inline constexpr int64_t kMaxApiKeys = 100'000;
inline constexpr int64_t kMaxApiKeyBytes = 512;
inline constexpr int64_t kMaxApiKeyFileBytes = int64_t{16} << 20;

// Log and metrics.
inline constexpr int64_t kMaxQueuedLogLines = 8192;  // older ones are lost
inline constexpr int64_t kMaxMetricSeries = 1000;    // of one name; then labels become "other"

// fathom.yaml.
inline constexpr int64_t kMaxYamlBytes = 1 << 20;
inline constexpr int kMaxYamlDepth = 32;
inline constexpr int64_t kMaxYamlScalarBytes = 64 << 10;
inline constexpr int64_t kMaxYamlNodes = 20'000;

}  // namespace fathom::limits
