// Views of activations and weights, the workspace's promises (alignment, no overlap, scopes) and
// the names of element types.
#include "tensor/tensor_view.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tensor/weight_view.h"

namespace fathom {
namespace {

TEST(DTypes, NamesAndSizesAgree) {
  const struct {
    DType type;
    const char* name;
    std::size_t bytes;
  } types[] = {{DType::kF32, "F32", 4},        {DType::kF16, "F16", 2}, {DType::kBF16, "BF16", 2},
               {DType::kF8E4M3, "F8_E4M3", 1}, {DType::kI64, "I64", 8}, {DType::kI32, "I32", 4},
               {DType::kI8, "I8", 1},          {DType::kU8, "U8", 1}};
  for (const auto& t : types) {
    EXPECT_EQ(dtype_name(t.type), t.name);
    EXPECT_EQ(dtype_bytes(t.type), t.bytes);
    EXPECT_EQ(dtype_from_name(t.name), t.type);
  }
  for (const char* name : {"", "f32", "F32 ", "F", "FP32", "F8"})
    EXPECT_FALSE(dtype_from_name(name));
}

TEST(TensorViews, PartsOfAMatrix) {
  std::vector<float> data(4 * 6);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  const TensorView whole{reinterpret_cast<std::byte*>(data.data()), DType::kF32, 4, 6, 6};
  const TensorView part = whole.row_range(1, 2).columns(2, 3);
  EXPECT_EQ(part.rows, 2);
  EXPECT_EQ(part.cols, 3);
  EXPECT_EQ(part.f32(0)[0], 8);
  EXPECT_EQ(part.f32(1)[2], 16);
  const TensorView heads = whole.split_columns(3);
  EXPECT_EQ(heads.rows, 12);
  EXPECT_EQ(heads.cols, 2);
  EXPECT_EQ(heads.f32(4)[1], 9);
  EXPECT_FALSE(whole.empty());
  EXPECT_TRUE(whole.row_range(4, 0).empty());
  EXPECT_TRUE(whole.columns(6, 0).empty());
}

TEST(TensorViewsDeathTest, PartsBeyondTheMatrixAreProgrammerErrors) {
  std::vector<float> data(4 * 6);
  const TensorView v{reinterpret_cast<std::byte*>(data.data()), DType::kF32, 4, 6, 6};
  EXPECT_DEATH(v.row_range(3, 2), "3\\+2 of 4");
  EXPECT_DEATH(v.row_range(-1, 2), "-1\\+2 of 4");
  EXPECT_DEATH(v.columns(5, 2), "5\\+2 of 6");
  EXPECT_DEATH(v.split_columns(4), "6 6");
  EXPECT_DEATH(v.columns(0, 3).split_columns(3), "6 3");
  EXPECT_DEATH(v.i32(0), "F32");
}

TEST(WeightViews, RowsKeepTheirPlaceInTheScaleGrid) {
  const std::vector<std::byte> data(10 * 4);
  WeightView w;
  EXPECT_FALSE(w.defined());
  w.data = data.data();
  w.dtype = DType::kF8E4M3;
  w.rows = 10;
  w.cols = 4;
  EXPECT_EQ(w.bytes(), 40);
  const WeightView part = w.row_range(3, 5).row_range(2, 1);
  EXPECT_EQ(part.data, data.data() + 5 * 4);
  EXPECT_EQ(part.rows, 1);
  EXPECT_EQ(part.scale_row0, 5);
  w.dtype = DType::kBF16;
  EXPECT_EQ(w.row_bytes(), 8);
}

void fill(const TensorView& v, int value) {
  std::memset(v.data, value, static_cast<std::size_t>(v.rows * v.cols) * dtype_bytes(v.dtype));
}
void expect_filled(const TensorView& v, int value) {
  for (int64_t i = 0; i < v.rows * v.cols * static_cast<int64_t>(dtype_bytes(v.dtype)); ++i)
    ASSERT_EQ(static_cast<int>(v.data[i]), value) << i;
}

TEST(Workspaces, WhatIsAllocatedIsAlignedAndApart) {
  Workspace ws;
  for (int step = 0; step < 3; ++step) {
    std::vector<TensorView> views;
    for (const int64_t cols : {1, 15, 16, 17, 1000, 300'000, 1, 700'000, 3}) {
      views.push_back(ws.f32(3, cols));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(views.back().data) % 64, 0u);
      EXPECT_EQ(views.back().row_stride, cols);
      fill(views.back(), static_cast<int>(views.size()));
    }
    for (std::size_t i = 0; i < views.size(); ++i) expect_filled(views[i], static_cast<int>(i + 1));
    ws.reset();
  }
  EXPECT_NE(ws.f32(0, 7).data, nullptr);
  EXPECT_EQ(ws.i32(2, 3).dtype, DType::kI32);
}

TEST(Workspaces, AScopeFreesWhatCameInside) {
  Workspace ws;
  const TensorView before = ws.f32(1, 100);
  fill(before, 1);
  std::byte* inside = nullptr;
  {
    const Workspace::Scope scope(ws);
    const TensorView v = ws.f32(1, 100);
    inside = v.data;
    fill(v, 2);
    fill(ws.f32(1, 1'000'000), 3);  // in a block of its own
  }
  const TensorView after = ws.f32(1, 100);
  EXPECT_EQ(after.data, inside);
  fill(after, 4);
  expect_filled(before, 1);
}

TEST(Workspaces, ResetLeavesRoomForTheWholeStep) {
  Workspace ws;
  const auto step = [&] {
    const TensorView first = ws.f32(1, 200'000);
    const TensorView second = ws.f32(1, 500'000);
    return std::pair(first.data, second.data);
  };
  step();
  ws.reset();
  const auto a = step();
  EXPECT_GE(a.second, a.first);  // one block now
  ws.reset();
  EXPECT_EQ(step(), a);  // and the same one in every further step
}

}  // namespace
}  // namespace fathom
