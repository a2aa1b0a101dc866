#!/usr/bin/env bash
# Formats the C++ sources in place (.clang-format), or with --check only says which are not.
#   scripts/format.sh [--check] [--all | FILE...]
# Without files: those that differ from main's last pushed state, plus untracked ones.
# clang-format 19 and no other: versions disagree on details.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

mode=(-i)
if [ "${1:-}" = --check ]; then mode=(--dry-run --Werror); shift; fi
command -v clang-format-19 >/dev/null ||
  run_step "packages" "$root/build/lint.log" install_packages lint

mapfile -t files < <(changed_sources "$@")
[ "${#files[@]}" -gt 0 ] || { echo "no C++ file to format"; exit 0; }
cd "$root"
printf '%s\0' "${files[@]}" | xargs -0 clang-format-19 --style=file "${mode[@]}"
echo "${#files[@]} files: $([ "${mode[0]}" = -i ] && echo formatted || echo formatted already)"
