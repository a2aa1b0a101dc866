// FATHOM_CHECK: programmer errors. On in release; prints the values and aborts.
//
// Never for what a file, a user or the network can cause: that is a Result (result.h).
#pragma once

#include <sstream>

namespace fathom::internal {

// Collects the message; aborts in the destructor.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

struct CheckVoidify {
  void operator&(std::ostream&) const {}
};

}  // namespace fathom::internal

#define FATHOM_CHECK(condition)                      \
  (condition) ? (void)0                              \
              : ::fathom::internal::CheckVoidify() & \
                    ::fathom::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#define FATHOM_CHECK_OP_(a, op, b) FATHOM_CHECK((a)op(b)) << " (" << (a) << " vs " << (b) << ") "
#define FATHOM_CHECK_EQ(a, b) FATHOM_CHECK_OP_(a, ==, b)
#define FATHOM_CHECK_NE(a, b) FATHOM_CHECK_OP_(a, !=, b)
#define FATHOM_CHECK_LE(a, b) FATHOM_CHECK_OP_(a, <=, b)
#define FATHOM_CHECK_LT(a, b) FATHOM_CHECK_OP_(a, <, b)
#define FATHOM_CHECK_GE(a, b) FATHOM_CHECK_OP_(a, >=, b)
#define FATHOM_CHECK_GT(a, b) FATHOM_CHECK_OP_(a, >, b)
