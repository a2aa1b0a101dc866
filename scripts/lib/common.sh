# Shared by the scripts: where the repository is, and how a quiet step is run.
# Sourced, never run. Needs bash; sets -euo pipefail for the caller.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/scripts/lib/packages.sh"

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# run_step TITLE LOG COMMAND...: prints TITLE and the seconds it took; output goes to LOG (appended).
# On failure prints the log's tail and exits.
run_step() {
  local title=$1 log=$2 begin=$SECONDS
  shift 2
  printf '%s ... ' "$title"
  mkdir -p "$(dirname "$log")"
  printf '== %s\n' "$*" >>"$log"
  if "$@" >>"$log" 2>&1; then
    echo "$((SECONDS - begin)) s"
  else
    echo "FAILED after $((SECONDS - begin)) s. The end of $log:"
    tail -n 40 "$log" | sed 's/^/  /'
    exit 1
  fi
}

# configure PRESET CMAKE_ARGS...: from any working directory (presets are found beside CMakeLists.txt).
# A new build folder compiles several files at once (a "unity build"), which takes a third of the
# time; where one changes files, rebuilding is quicker with -DCMAKE_UNITY_BUILD=OFF, which stays.
configure() {
  local unity=()
  [ -e "$root/build/$1/CMakeCache.txt" ] || unity=(-DCMAKE_UNITY_BUILD=ON)
  (cd "$root" && cmake --preset "$1" "${unity[@]}" "${@:2}")
}

# changed_sources [--all | FILE...]: C++ files relative to the root, one a line. Without arguments,
# those changed since origin/main (or, where there is none, since the last commit), or untracked.
changed_sources() {
  local patterns=('*.cc' '*.h') base=HEAD
  if [ $# -gt 0 ] && [ "$1" != --all ]; then
    realpath --relative-to="$root" -- "$@"
    return
  fi
  cd "$root"
  if [ "${1:-}" = --all ]; then
    git ls-files --cached --others --exclude-standard -- "${patterns[@]}"
  else
    if git rev-parse -q --verify origin/main >/dev/null; then base=$(git merge-base HEAD origin/main); fi
    git diff --name-only --diff-filter=d "$base" -- "${patterns[@]}"
    git ls-files --others --exclude-standard -- "${patterns[@]}"
  fi
}
