#!/usr/bin/env bash
# Prints the folder of a CUDA toolkit: the one installed ($CUDA_HOME, or nvcc's on the PATH), or one put
# together in .cache/cuda from the PyPI packages that NVIDIA publishes. Needs python3-venv.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
if [[ -n "${CUDA_HOME:-}" && -x "$CUDA_HOME/bin/nvcc" ]]; then
  echo "$CUDA_HOME"
  exit
fi
if nvcc="$(command -v nvcc)"; then
  dirname "$(dirname "$(readlink -f "$nvcc")")"
  exit
fi
packages=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.0.3 nvidia-nccl-cu13==2.28.9)
venv="$root/.cache/cuda"
wanted="${packages[*]}"
if [[ "$(cat "$venv/packages" 2>/dev/null)" != "$wanted" ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2
  toolkit="$(echo "$venv"/lib/python3*/site-packages/nvidia/cu13)"
  # The packages have no names to link with, and their libraries in lib alone.
  ln -sfn lib "$toolkit/lib64"
  for library in cudart cublas cublasLt; do ln -sf "lib$library.so.13" "$toolkit/lib/lib$library.so"; done
  echo "$wanted" > "$venv/packages"
fi
echo "$venv"/lib/python3*/site-packages/nvidia/cu13
