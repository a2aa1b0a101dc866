#!/usr/bin/env bash
# Byte-equal logits for chunks 1/7/64/whole, batches 1/8, threads 1/2 and replay, for every architecture,
# format and compute type (tests/conformance/invariance_test.cc). --quick: in float32.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fathom=${FATHOM_BINARY:-$root/build/release/bin/fathom}
test=$(dirname "$(dirname "$fathom")")/tests/conformance/conformance_test
[ -x "$test" ] || { echo "skipped: $test is not built"; exit 77; }
filter='*InvarianceTest*'
[ "${1:-}" != --quick ] || filter='*InvarianceTest*_f32'
output=$(mktemp)
trap 'rm -f "$output"' EXIT
if ! "$test" "--gtest_filter=$filter" >"$output" 2>&1; then
  grep -B2 -A6 Failure "$output" | head -n 60
  echo "invariance is broken: $(grep -c '^\[  FAILED' "$output") lines of failures"
  exit 1
fi
passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) tests\{0,1\}.*/\1/p' "$output")
echo "byte-equal in all ${passed:-0} cases (architecture x format x compute type x question)"
[ "${passed:-0}" -gt 0 ]
