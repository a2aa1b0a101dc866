// Models written as GGUF (tests/support/write_gguf.py) against the directories they were made from,
// which golden_test.cc holds to the goldens: the same logits, bit for bit where the arithmetic is
// the same.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "io/gguf_files.h"
#include "io/test_support.h"
#include "support/backend.h"
#include "support/golden.h"

namespace fathom::test {
namespace {

struct Case {
  const char* label;
  const char* model;
  const char* options;  // of write_gguf.py
  bool exact;           // the file holds the same numbers, and they meet in the same order
  const char* open = "m.gguf";
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.label; }

// Llama's channels pair in another order, scalings of rope pass through float32, and the two halves
// of kv_b are multiplied one after the other: those agree to a share of the logits' deviation.
constexpr double kTolerance = 1e-4;

class GgufGolden : public testing::TestWithParam<Case> {
 protected:
  std::string directory() const {
    const std::string name = GetParam().model;
    return name == "nano" ? nano_dir() : data_dir() + "/" + name;
  }
  std::string write() const {
    const std::string command = FATHOM_PYTHON " " FATHOM_SOURCE_DIR
                                              "/tests/support/write_gguf.py " +
                                directory() + " " + dir_.file("m.gguf") + " " + GetParam().options;
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return dir_.file(GetParam().open);
  }
  void expect_same(const std::vector<float>& actual, const std::vector<float>& expected) const {
    ASSERT_EQ(actual.size(), expected.size());
    const double limit = GetParam().exact ? 0 : kTolerance * standard_deviation(expected);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      ASSERT_LE(std::fabs(static_cast<double>(actual[i]) - expected[i]), limit)
          << "element " << i << " is " << actual[i] << ", expected " << expected[i];
    }
  }

  TempDir dir_;
};

TEST_P(GgufGolden, SameLogitsAsTheDirectory) {
  const OpenModel gguf = open_model(write());
  const OpenModel plain = open_model(directory());
  const ModelInfo& a = gguf.model->info();
  const ModelInfo& b = plain.model->info();
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.num_layers, b.num_layers);
  EXPECT_EQ(a.mtp_layers, b.mtp_layers);
  EXPECT_EQ(a.max_context_tokens, b.max_context_tokens);
  EXPECT_EQ(gguf.files.name, GetParam().model);
  const auto backend = make_backend({.threads = 2, .compute = kExactCompute});
  Ops& ops = *backend;
  const Golden golden(directory());
  for (const char* prompt : {"p0.", "p1.", "p2.", "p3."}) {
    SCOPED_TRACE(prompt);
    const std::vector<int32_t> ids = golden.ids(std::string(prompt) + "input_ids");
    expect_same(all_logits(*gguf.model, ops, ids, {}), all_logits(*plain.model, ops, ids, {}));
    if (b.mtp_layers > 0) {
      expect_same(all_logits(*gguf.model, ops, ids, {}, true),
                  all_logits(*plain.model, ops, ids, {}, true));
    }
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, GgufGolden,
    testing::Values(Case{"llama_mha", "llama_mha", "", false},
                    Case{"llama_gqa_llama3rope", "llama_gqa_llama3rope", "", false},
                    Case{"llama_linear_f32", "llama_linear_f32", "", false},
                    Case{"qwen2", "qwen2", "", true},
                    Case{"qwen2_tied_f16", "qwen2_tied_f16", "", true},
                    Case{"qwen3", "qwen3", "", true},
                    Case{"deepseek_v2_lite_whole", "deepseek_v2_lite", "--kv-b whole", true},
                    Case{"deepseek_v2_lite_split", "deepseek_v2_lite", "--kv-b split", false},
                    Case{"deepseek_v2_split", "deepseek_v2", "--kv-b split", false},
                    Case{"deepseek_v2_flat", "deepseek_v2", "--kv-b flat", false},
                    Case{"deepseek_v3_split", "deepseek_v3", "--kv-b split", false},
                    Case{"deepseek_v3_shards", "deepseek_v3", "--kv-b whole --shards 3", true,
                         "m-00002-of-00003.gguf"},
                    Case{"nano_whole", "nano", "--kv-b whole", true},
                    Case{"nano_split_f32", "nano", "--kv-b split --f32", false}),
    [](const auto& test) { return test.param.label; });

}  // namespace
}  // namespace fathom::test
