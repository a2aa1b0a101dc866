#!/usr/bin/env bash
# The CUDA backend compiles for every architecture it is meant for. --quick: nothing (scripts/test.sh has no toolkit).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ "${1:-}" = --quick ]; then
  echo "skipped: takes minutes; scripts/build_cuda.sh compiles for one architecture"
  exit 77
fi
"$root/scripts/build_cuda.sh" --check --archs "80-real;87-real;89-real;90a-real;100-real"
echo "compiled for sm_80, 87, 89, 90a, 100"
