#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over the C++ sources; any warning fails it.
#   scripts/tidy.sh [--all | FILE...]
# Without files: those that differ from main's last pushed state, plus untracked ones.
# Needs a configured build/release for the compile commands, and configures one if there is none.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

log=$root/build/lint.log
command -v clang-tidy-19 >/dev/null || run_step "packages" "$log" install_packages lint
if [ ! -e "$root/build/release/compile_commands.json" ]; then
  run_step "packages" "$log" install_packages build test
  run_step "configure" "$log" configure release
fi

# Headers are checked through the .cc files that include them.
mapfile -t files < <(changed_sources "$@" | grep '\.cc$' || true)
[ "${#files[@]}" -gt 0 ] || { echo "no C++ file to check"; exit 0; }
cd "$root"
echo "clang-tidy over ${#files[@]} files"
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" \
  clang-tidy-19 --quiet --warnings-as-errors='*' -p build/release
