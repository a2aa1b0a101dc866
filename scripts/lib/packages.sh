#!/usr/bin/env bash
# The one list of system packages fathom needs, and the one way they are installed.
#
# Owns the package names on Debian 12 and Ubuntu 24.04. docs/dependencies.md says why each is needed.
# Sourced by the other scripts; run directly it is a small command:
#   scripts/lib/packages.sh list build test       prints the names
#   scripts/lib/packages.sh install build test    installs what is missing

# What the program is built from: the engine and its commands (all there is with FATHOM_SERVER=OFF) ...
packages_core=(g++ cmake ninja-build ccache pkg-config nlohmann-json3-dev libcli11-dev libfmt-dev
  libhwy-dev libhwloc-dev libpcre2-dev libutf8proc-dev libedit-dev)
# ... and the server.
packages_server=(libboost1.81-dev libssl-dev libgrpc++-dev protobuf-compiler protobuf-compiler-grpc
  libprotobuf-dev libyaml-cpp-dev libspdlog-dev prometheus-cpp-dev)
packages_build=("${packages_core[@]}" "${packages_server[@]}")
packages_test=(libgtest-dev libgmock-dev zlib1g-dev python3 python3-numpy)
packages_cuda=(python3-venv)  # for the toolkit from PyPI
packages_bench=(libbenchmark-dev zlib1g-dev)
packages_lint=(clang-format-19 clang-tidy-19)
# Version 19 by name: the newest that both systems have. Debian's plain clang is 14, which refuses
# C++20 that g++ 12 takes (lambdas that capture structured bindings).
packages_fuzz=(clang-19 libclang-rt-19-dev)
# The arm64 libraries themselves are unpacked beside the build (scripts/test_arm.sh).
packages_arm=(g++-aarch64-linux-gnu qemu-user)

# Names are Debian 12's. Those that Ubuntu 24.04 has another name for:
declare -A packages_ubuntu=([libboost1.81-dev]=libboost1.83-dev)

# The ID of /etc/os-release: debian, ubuntu; FATHOM_PACKAGES_SYSTEM stands in for it.
packages_system() {
  if [ -n "${FATHOM_PACKAGES_SYSTEM:-}" ]; then
    echo "$FATHOM_PACKAGES_SYSTEM"
  elif [ -r /etc/os-release ]; then
    (. /etc/os-release && echo "${ID:-debian}")
  else
    echo debian
  fi
}

# packages_of SET...: the names in the sets on this system, one a line.
packages_of() {
  local set name system
  system=$(packages_system)
  for set in "$@"; do
    case "$set" in
      build | core | server | test | cuda | bench | lint | fuzz | arm) ;;
      *) echo "no package set '$set'; there are: build (core server) test cuda bench lint fuzz arm" >&2
        return 1 ;;
    esac
    local -n names="packages_$set"
    for name in "${names[@]}"; do
      if [ "$system" = ubuntu ]; then name=${packages_ubuntu[$name]:-$name}; fi
      echo "$name"
    done
  done
}

package_is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Runs apt-get as root; waits up to 5 minutes while another apt or dpkg holds a lock.
run_apt_get() {
  local as_root=() output
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  output=$(mktemp)
  for _ in $(seq 60); do
    if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y \
      -o Acquire::Retries=3 -o DPkg::Lock::Timeout=60 "$@" >"$output" 2>&1; then
      cat "$output"; rm -f "$output"
      return 0
    fi
    grep -qE 'Could not get lock|Unable to (acquire|lock)' "$output" || break
    sleep 5
  done
  cat "$output"; rm -f "$output"
  return 1
}

# install_packages SET...: installs what is missing of the sets; does nothing if nothing is.
# apt's output goes to stdout; the caller chooses the log.
install_packages() {
  local wanted missing=() name
  mapfile -t wanted < <(packages_of "$@")
  [ "${#wanted[@]}" -gt 0 ] || return 1
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    {
      echo "This is not a Debian-like system: packages are not installed automatically."
      echo "Install the equivalents of these Debian packages, then run this again with --no-install:"
      echo "  ${wanted[*]}"
    } >&2
    return 1
  fi
  for name in "${wanted[@]}"; do package_is_installed "$name" || missing+=("$name"); done
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    {
      echo "Packages are missing, and this is neither root nor is there sudo. As root, run:"
      echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    } >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  # One unreachable third-party source must not stop us: what matters is whether install succeeds.
  run_apt_get update || echo "apt-get update failed; trying with the package lists that are there"
  run_apt_get install --no-install-recommends "${missing[@]}"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -eu
  command=${1:-}
  [ $# -gt 1 ] || command=help
  case "$command" in
    list) shift; packages_of "$@" ;;
    install) shift; install_packages "$@" ;;
    *) echo "usage: $0 list|install SET...   (sets: build, which is core and server; test bench lint fuzz arm)" >&2; exit 2 ;;
  esac
fi
