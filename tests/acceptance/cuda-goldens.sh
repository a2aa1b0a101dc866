#!/usr/bin/env bash
# On a GPU: every golden in float32, tests/conformance with the invariance of chunks, batches and replay, and
# compute-sanitizer's memcheck and racecheck on the tests of single operations. --quick: without the sanitizer.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tests=${FATHOM_CUDA_TESTS:-}
golden=${tests:-$root/build/cuda/tests/golden}/golden_cuda_test
conformance=${tests:-$root/build/cuda/tests/conformance}/conformance_cuda_test
if [ ! -x "$golden" ] || [ ! -x "$conformance" ] || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "skipped: needs an NVIDIA GPU and a build for it (scripts/build_cuda.sh)"
  exit 77
fi
summary=
for program in "$golden" "$conformance"; do
  out=$("$program" 2>&1) || { echo "$out" | grep -B8 'FAILED' | head -60; echo "$(basename "$program") fails"; exit 1; }
  summary+="$(basename "$program"): $(echo "$out" | sed -n 's/^\[  PASSED  \] //p') "
done
if [ "${1:-}" != --quick ]; then
  for tool in memcheck racecheck; do
    out=$(compute-sanitizer --tool "$tool" --error-exitcode 3 "$conformance" --gtest_filter='-*Invariance*:*Model*' 2>&1) ||
      { echo "$out" | tail -40; echo "compute-sanitizer $tool reports"; exit 1; }
    summary+="$tool: $(echo "$out" | grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' | tail -1 | sed 's/^=* //') "
  done
fi
echo "$summary"
