#!/usr/bin/env bash
# From a fresh Debian 12 or Ubuntu 24.04 to an answer: installs what is missing, builds the program
# without its tests, and asks the model in models/nano a question. Safe to run again.
#
# The build directory is the one scripts/test.sh uses, so that nothing is compiled twice.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

install=yes
if [ "${1:-}" = --no-install ]; then install=no; shift; fi
if [ $# -gt 1 ] || [[ "${1:-}" == -* ]]; then
  echo "usage: $0 [--no-install] [QUESTION]"
  [[ "${1:-}" == -h || "${1:-}" == --help ]] && exit 0
  exit 2
fi
question=${1:-"What is 4837 + 926?"}
build=$root/build/release
log=$root/build/quickstart.log
fathom=$build/bin/fathom

mkdir -p "$root/build"
: >"$log"
echo "fathom quickstart (details: $log)"
[ "$install" = no ] || run_step "1/3 packages" "$log" install_packages build
# An existing build keeps its settings: turning its tests off would be a surprise.
if [ ! -e "$build/build.ninja" ]; then
  run_step "2/3 configure" "$log" configure release -DFATHOM_TESTS=OFF
fi
run_step "3/3 build (a few minutes the first time)" "$log" cmake --build "$build" --target fathom

cd "$root"
echo
echo "\$ build/release/bin/fathom run nano -p \"$question\""
"$fathom" run nano -p "$question"
cat <<'END'

Next:
  build/release/bin/fathom run nano   talk to the model
  build/release/bin/fathom --help     all commands
  scripts/test.sh                     build and run all tests
  README.md                           what runs, how fast, and what it cannot do
END
