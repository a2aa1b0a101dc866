#include "ops/communicator.h"

#include <barrier>
#include <cstring>

namespace fathom {
namespace {

// What the ranks share: a tensor of each, valid between two meetings.
struct Meeting {
  explicit Meeting(int size) : tensors(static_cast<std::size_t>(size)), barrier(size) {}
  std::vector<TensorView> tensors;
  std::barrier<> barrier;
};

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(std::shared_ptr<Meeting> meeting, int rank)
      : meeting_(std::move(meeting)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(meeting_->tensors.size()); }

  // Each rank adds up its share of the elements and writes the sums to all.
  void all_reduce(const TensorView& x) override {
    show(x);
    const std::vector<TensorView>& all = meeting_->tensors;
    for (const TensorView& t : all)
      FATHOM_CHECK(t.rows == x.rows && t.cols == x.cols && t.row_stride == t.cols)
          << t.rows << "x" << t.cols << " and " << x.rows << "x" << x.cols;
    const int64_t count = x.rows * x.cols;
    for (int64_t i = count * rank_ / size(); i < count * (rank_ + 1) / size(); ++i) {
      float sum = all[0].f32(0)[i];
      for (std::size_t r = 1; r < all.size(); ++r) sum += all[r].f32(0)[i];
      for (const TensorView& t : all) t.f32(0)[i] = sum;
    }
    meeting_->barrier.arrive_and_wait();
  }

  void broadcast(const TensorView& x) override {
    show(x);
    const TensorView& from = meeting_->tensors[0];
    FATHOM_CHECK(from.rows == x.rows && from.cols == x.cols) << from.rows << "x" << from.cols;
    const std::size_t bytes = static_cast<std::size_t>(x.cols) * dtype_bytes(x.dtype);
    for (int64_t r = 0; r < x.rows && rank_ != 0; ++r)
      std::memcpy(x.row_range(r, 1).data, from.row_range(r, 1).data, bytes);
    meeting_->barrier.arrive_and_wait();
  }

  void gather_columns(const TensorView& part, const TensorView& out) override {
    show(part);
    if (rank_ == 0) {
      int64_t at = 0;
      for (const TensorView& p : meeting_->tensors) {
        FATHOM_CHECK_EQ(p.rows, out.rows);
        FATHOM_CHECK_EQ(at, column_border(out.cols, &p - meeting_->tensors.data(), size()));
        const TensorView to = out.columns(at, p.cols);
        for (int64_t r = 0; r < p.rows; ++r)
          std::memcpy(to.f32(r), p.f32(r), static_cast<std::size_t>(p.cols) * sizeof(float));
        at += p.cols;
      }
      FATHOM_CHECK_EQ(at, out.cols);
    }
    meeting_->barrier.arrive_and_wait();
  }

 private:
  void show(const TensorView& x) {
    meeting_->tensors[static_cast<std::size_t>(rank_)] = x;
    meeting_->barrier.arrive_and_wait();
  }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_host_communicators(int size) {
  const auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> out;
  for (int r = 0; r < size; ++r) out.push_back(std::make_unique<HostCommunicator>(meeting, r));
  return out;
}

}  // namespace fathom
