#!/usr/bin/env bash
# Builds fathom with the CUDA backend in build/cuda; brings a CUDA toolkit where none is installed.
#
#   scripts/build_cuda.sh [--archs "90a-real"] [--target NAME] [--no-install] [CMake arguments]
#   scripts/build_cuda.sh --archs "89-real"                  for an RTX 40 card
#   scripts/build_cuda.sh -DFATHOM_SERVER=OFF                the engine and its commands alone
#   scripts/build_cuda.sh --check                            does the backend compile? In build/cuda-check, not optimised
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

archs="90a-real"
targets=()
install=yes
folder=cuda
flags=()
while [ $# -gt 0 ]; do
  case "$1" in
    --archs) archs=${2:?--archs needs a list}; shift 2 ;;
    --target) targets+=(--target "${2:?--target needs a name}"); shift 2 ;;
    --no-install) install=no; shift ;;
    --check)
      folder=cuda-check
      targets=(--target fathom_cuda)
      flags=(-DFATHOM_SERVER=OFF -DFATHOM_TESTS=OFF "-DCMAKE_CUDA_FLAGS_RELEASE=-O1 -Xptxas -O0")
      shift ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) break ;;
  esac
done
log=$root/build/build-cuda.log
mkdir -p "$root/build"
: >"$log"
[ "$install" = no ] || run_step "packages" "$log" install_packages build test cuda
toolkit=$("$root/scripts/lib/cuda_toolkit.sh") || {
  echo "skipped: no CUDA toolkit: no nvcc, and PyPI's packages could not be installed"
  exit 77
}
export CUDACXX=$toolkit/bin/nvcc
echo "CUDA toolkit: $toolkit"
run_step "configure" "$log" configure cuda -B "$root/build/$folder" "-DFATHOM_CUDA_ARCHS=$archs" "${flags[@]}" "$@"
run_step "build for $archs" "$log" cmake --build "$root/build/$folder" "${targets[@]}"
