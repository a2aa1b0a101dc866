#!/usr/bin/env bash
# Clean under ASan and UBSan: all tests in the asan preset, then every fuzzer (ASan and UBSan too) for
# FUZZ_SECONDS (default 300) each. --quick: every fuzzer on its seeds alone.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
seconds=${FUZZ_SECONDS:-300}
build=$root/build/fuzz/fuzz
fuzzers() { find "$build" -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' 2>/dev/null | sort; }

if [ "${1:-}" != --quick ]; then
  "$root/scripts/test.sh" --preset asan
  "$root/scripts/fuzz.sh" build >/dev/null
fi
mapfile -t found < <(fuzzers)
[ "${#found[@]}" -gt 0 ] || { echo "skipped: no fuzzer is built (scripts/fuzz.sh build)"; exit 77; }
summary=
for binary in "${found[@]}"; do
  name=${binary##*/fuzz_}
  log=$root/build/fuzz/acceptance-$name.log
  if [ "${1:-}" = --quick ]; then
    [ -d "$root/fuzz/corpus/$name" ] || { echo "no seeds in fuzz/corpus/$name"; exit 1; }
    "$binary" -runs=0 "$root/fuzz/corpus/$name" >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }
    runs="$(find "$root/fuzz/corpus/$name" -type f | wc -l) seeds"
  else
    "$root/scripts/fuzz.sh" run "$name" "$seconds" >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }
    runs="$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log" | tail -n 1) executions"
  fi
  echo "$name: $runs"
  summary+="${summary:+, }$name $runs"
done
echo "clean: $summary"
