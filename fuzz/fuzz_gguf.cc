// Fuzzes the reading of GGUF files: the parser, then everything that is made of a file: model
// configuration, weights, tokenizer.
//
// The input is a whole file; for the parser its bytes are copied so that the sanitizers see every
// read behind the end. Properties beyond "no crash": tensors have the bytes of their shape and
// type, lie in the file and do not overlap; every error has a message in valid UTF-8 that begins
// with the file's name; a tokenizer that can be built decodes what it encodes from plain text.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "io/gguf.h"
#include "io/gguf_files.h"
#include "io/test_support.h"
#include "model/model.h"
#include "tokenizer/gguf_spec.h"
#include "tokenizer/tokenizer.h"

namespace fathom {
namespace {

void check_message(const Error& error, std::string_view file) {
  FATHOM_CHECK(utf8_is_valid(error.message)) << error.message;
  FATHOM_CHECK(error.message.starts_with(file)) << error.message;
  FATHOM_CHECK_LT(error.message.size(), 2000u) << error.message;
}

void check_tensors(const GgufFile& parsed, std::span<const std::byte> file) {
  std::vector<std::span<const std::byte>> parts;
  for (const auto& [name, t] : parsed.tensors) {
    int64_t elements = 1;
    for (const int64_t d : t.shape) elements *= d;
    const DTypeBlock block = dtype_block(t.dtype);
    FATHOM_CHECK_EQ(static_cast<int64_t>(t.data.size()), elements / block.elements * block.bytes);
    if (t.data.empty()) continue;
    FATHOM_CHECK(t.data.data() >= file.data() &&
                 t.data.data() + t.data.size() <= file.data() + file.size());
    parts.push_back(t.data);
  }
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return a.data() < b.data(); });
  for (std::size_t i = 1; i < parts.size(); ++i)
    FATHOM_CHECK(parts[i - 1].data() + parts[i - 1].size() <= parts[i].data());
}

void check_metadata(const GgufMetadata& metadata) {
  metadata.for_each([&](std::string_view key, const GgufValue& value) {
    FATHOM_CHECK(metadata.find(key) == &value);
    FATHOM_CHECK(utf8_is_valid(value.preview()));
    if (const auto list = value.integers()) FATHOM_CHECK_EQ(list->size(), value.count());
    if (const auto list = value.strings()) {
      FATHOM_CHECK_EQ(list->size(), value.count());
      for (const std::string_view text : *list) (void)utf8_is_valid(text);  // reads it
    }
    const auto text = metadata.string(key);
    if (!text) check_message(text.error(), "fuzz.gguf: ");
    const auto integer = metadata.integer(key, 0, 9);
    if (!integer) check_message(integer.error(), "fuzz.gguf: ");
    const auto number = metadata.number(key, 0, 9);
    if (!number) check_message(number.error(), "fuzz.gguf: ");
  });
}

void check_tokenizer(const GgufMetadata& metadata) {
  const auto vocab = read_gguf_vocab(metadata);
  if (!vocab) return check_message(vocab.error(), "fuzz.gguf: ");
  for (const int64_t id : end_token_ids(*vocab))
    FATHOM_CHECK(id >= 0 && id < static_cast<int64_t>(vocab->tokens.size()));
  if (vocab->model.empty()) return;
  auto spec = tokenizer_spec_from_gguf(*vocab);
  if (!spec) return check_message(spec.error(), "fuzz.gguf: ");
  const auto tokenizer = Tokenizer::from_spec(*std::move(spec));
  if (!tokenizer) return check_message(tokenizer.error(), "fuzz.gguf: ");
  const auto ids = (*tokenizer)->encode("It's 2026, 世界!\r\n", {.add_special_tokens = true});
  if (!ids) return check_message(ids.error(), "fuzz.gguf: ");
  const auto text = (*tokenizer)->decode(*ids);
  FATHOM_CHECK(text.has_value()) << text.error().message;
}

// The same bytes as a model on disk, in memory where the system has such a place.
void check_model(std::string_view input) {
  static const test::TempDir dir(std::filesystem::exists("/dev/shm") ? "/dev/shm" : "/tmp");
  dir.write("m.gguf", input);
  const auto files = open_model_files(dir.file("m.gguf"));
  // What a set of shards lacks is named by the missing file.
  if (!files) return check_message(files.error(), dir.path());
  const auto model = load_model(*files);
  if (!model) return check_message(model.error(), dir.path());
  const ModelInfo& info = (*model)->info();
  FATHOM_CHECK(info.hidden_size > 0 && info.vocab_size > 0 && info.num_layers > 0);
  FATHOM_CHECK_EQ(static_cast<int64_t>((*model)->kv_layers().size()),
                  info.num_layers + info.mtp_layers);
}

void run(std::span<const std::byte> input) {
  const auto copy = std::make_unique<std::byte[]>(input.size());
  std::copy(input.begin(), input.end(), copy.get());
  const std::span<const std::byte> file(copy.get(), input.size());
  const auto parsed = parse_gguf(file, "fuzz.gguf");
  if (!parsed) return check_message(parsed.error(), "fuzz.gguf: ");
  check_tensors(*parsed, file);
  check_metadata(parsed->metadata);
  check_tokenizer(parsed->metadata);
  check_model({reinterpret_cast<const char*>(input.data()), input.size()});
}

}  // namespace
}  // namespace fathom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  fathom::run(std::as_bytes(std::span(data, size)));
  return 0;
}
