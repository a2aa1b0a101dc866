#!/usr/bin/env bash
# Builds everything and runs every check: unit, conformance, golden and end-to-end tests, the include
# checker, the acceptance scripts in their quick form and, in release, a bounded run of each fuzzer.
# All of them are ctests, so that ctest's closing lines (printed last) are the whole verdict.
#
#   scripts/test.sh [--preset release|debug|asan|tsan] [--no-install] [ctest arguments]
#   scripts/test.sh --preset asan -R tokenizer
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

preset=release
install=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --preset=*) preset=${1#*=}; shift ;;
    --no-install) install=no; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
case "$preset" in
  release | debug | asan | tsan) ;;
  *) fail "no preset '$preset'; there are: release debug asan tsan" ;;
esac
build=$root/build/$preset
log=$root/build/test-$preset.log
results=$root/build/test-$preset.xml
output=$root/build/test-$preset.out
sets=(build test)
[ "$preset" != release ] || sets+=(fuzz)

mkdir -p "$root/build"
: >"$log"
echo "fathom tests, preset $preset (details: $log)"
[ "$install" = no ] || run_step "packages" "$log" install_packages "${sets[@]}"
run_step "configure" "$log" configure "$preset" -DFATHOM_TESTS=ON
run_step "build" "$log" cmake --build "$build"
[ "$preset" != release ] || run_step "build the fuzzers" "$log" "$root/scripts/fuzz.sh" build

rm -f "$results"
status=0
ctest --test-dir "$build" -j"$(nproc)" --output-on-failure --no-tests=error \
  --output-junit "$results" "$@" 2>&1 | tee "$output" || status=$?

# ctest names the tests that were skipped but not why; its closing lines still come last.
skipped=$(python3 "$root/scripts/lib/skipped_tests.py" "$results" || true)
if [ -n "$skipped" ]; then
  printf '\n%s\n\n' "$skipped"
  sed -n '/^[0-9]*% tests passed/,$p' "$output"
fi
exit "$status"
