#!/usr/bin/env bash
# The kernels on 64-bit ARM, emulated: cross-compiles (preset arm64) and runs the unit tests of the lower
# layers and the conformance tests under qemu-user, once as a processor that has all qemu knows, so that
# the NEON kernels are chosen, and once as one without the dot product extension, where the portable ones
# are. No part of scripts/test.sh: it takes a while, and says nothing about speed.
#
#   scripts/test_arm.sh [--no-install] [--whole] [ctest arguments]
#
# --whole builds the program as well and asks the bundled model a question. Of the invariance tests, which
# run whole models, only some run unless ctest arguments say otherwise: all take hours.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

install=yes
whole=no
while [ $# -gt 0 ]; do
  case "$1" in
    --no-install) install=no; shift ;;
    --whole) whole=yes; shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
build=$root/build/arm64
sysroot=$root/build/arm64-sysroot
log=$root/build/test-arm64.log
# Names of executables; those of tests begin with them.
tests=(base_test tensor_test quant_test cpu_test conformance_test)

# fill_sysroot: the arm64 builds of the libraries in packages.sh, unpacked into $sysroot. apt works in
# directories of its own, so that the host's list of architectures and packages stays as it is.
# (Each step checks itself: run_step calls this where set -e does not hold.)
fill_sysroot() {
  local apt=$root/build/arm64-apt new=$sysroot.new package wanted
  mapfile -t wanted < <(packages_of core test | grep -- '-dev$')
  rm -rf "$apt" "$new"
  # One place for libraries, whether or not the packages know that /lib is /usr/lib.
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$new/usr/lib" &&
    : >"$apt/status" && ln -s usr/lib "$new/lib" || return 1
  local options=(-q -y -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o APT::Sandbox::User= -o Debug::NoLocking=1 -o Acquire::Retries=3)
  apt-get "${options[@]}" update || echo "apt-get update failed; trying with what it got"
  if ! apt-get "${options[@]}" install --download-only --no-install-recommends libc6-dev "${wanted[@]}"; then
    echo "The package sources of this system have no arm64 packages. Debian's do; Ubuntu keeps them in its"
    echo "ports archive, which has to be among the sources."
    return 1
  fi
  for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C "$new" || return 1
  done
  rm -rf "$sysroot" "$apt" && mv "$new" "$sysroot"
}

# run_as CPU KERNEL CTEST_ARGS...: all tests on qemu's CPU, which has to get block_dot's KERNEL.
run_as() {
  local cpu=$1 kernel=$2
  shift 2
  echo "== processor $cpu, kernel $kernel"
  QEMU_CPU=$cpu FATHOM_EXPECT_KERNEL=$kernel ctest --test-dir "$build" -j"$(nproc)" --output-on-failure \
    --no-tests=error "$@" 2>&1 | grep -vE '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ .* Passed )'
}

mkdir -p "$root/build"
: >"$log"
echo "fathom tests on emulated arm64 (details: $log)"
[ "$install" = no ] || run_step "packages" "$log" install_packages core test arm
[ -e "$sysroot/usr/include/hwloc.h" ] || run_step "arm64 libraries" "$log" fill_sysroot
run_step "configure" "$log" configure arm64
run_step "build the tests" "$log" cmake --build "$build" --target "${tests[@]}"
if [ $# -eq 0 ]; then
  set -- -R "^($(IFS='|'; echo "${tests[*]}"))\\." \
    -E 'InvarianceTest\..*/(llama|qwen|nano|deepseek_v2|deepseek_v3_(f|bf|q4_[01]|q6|q8))'
fi
status=0
run_as max neon-dotprod "$@" || status=1
run_as cortex-a53 portable "$@" || status=1
if [ "$whole" = yes ]; then
  run_step "build the program" "$log" cmake --build "$build" --target fathom
  echo "== fathom run nano"
  FATHOM_MODELS=$root/models QEMU_CPU=max qemu-aarch64 -L "$sysroot" "$build/bin/fathom" \
    run nano -p "What is 2 + 2?"
fi
exit "$status"
