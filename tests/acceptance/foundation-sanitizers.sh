#!/usr/bin/env bash
# Clean under ASan and UBSan: all tests in the asan preset, then every fuzzer (ASan and UBSan too) for
# FUZZ_SECONDS (default 300), as many at once as there are cores. --quick: every fuzzer on its seeds.
#   foundation-sanitizers.sh [--quick | --fuzz-only]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mode=${1:-}
seconds=${FUZZ_SECONDS:-300}
build=$root/build/fuzz

[ -n "$mode" ] || "$root/scripts/test.sh" --preset asan
[ "$mode" = --quick ] || "$root/scripts/fuzz.sh" build >/dev/null
mapfile -t found < <(find "$build/fuzz" -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' 2>/dev/null | sort)
[ "${#found[@]}" -gt 0 ] || { echo "skipped: no fuzzer is built (scripts/fuzz.sh build)"; exit 77; }

# run_one NAME: one fuzzer; its output stands in build/fuzz/acceptance-NAME.log.
run_one() {
  if [ "$mode" = --quick ]; then
    "$build/fuzz/fuzz_$1" -runs=0 "$root/fuzz/corpus/$1"
  else
    "$root/scripts/fuzz.sh" run "$1" "$seconds"
  fi >"$build/acceptance-$1.log" 2>&1
}

summary=() status=0 running=()
# collect: waits for the fuzzers in `running`.
collect() {
  local entry name runs
  for entry in "${running[@]}"; do
    name=${entry#*:}
    if ! wait "${entry%%:*}"; then
      tail -n 40 "$build/acceptance-$name.log"
      echo "$name: FAILED"
      status=1
      continue
    fi
    runs="$(find "$root/fuzz/corpus/$name" -type f | wc -l) seeds"
    [ "$mode" = --quick ] ||
      runs="$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$build/acceptance-$name.log" | tail -n 1) executions"
    summary+=("$name $runs")
  done
  running=()
}
for binary in "${found[@]}"; do
  name=${binary##*/fuzz_}
  [ -d "$root/fuzz/corpus/$name" ] || { echo "no seeds in fuzz/corpus/$name"; exit 1; }
  run_one "$name" &
  running+=("$!:$name")
  [ "${#running[@]}" -lt "$(nproc)" ] || collect
done
collect
[ "$status" -eq 0 ] || exit 1
printf 'clean:'
printf ' %s;' "${summary[@]}"
echo
