#!/usr/bin/env bash
# The fuzzers: one per parser of foreign bytes (fuzz/fuzz_NAME.cc), built with clang, ASan and UBSan.
#
#   scripts/fuzz.sh build              builds all of them into build/fuzz
#   scripts/fuzz.sh smoke              20,000 inputs each from a fixed seed, at most 2 minutes in all
#   scripts/fuzz.sh run NAME [SECONDS] a long run (default 600 s); grows build/fuzz/corpus/NAME
#
# Seeds stand in fuzz/corpus/NAME and are never written to. Inputs that fail are kept under
# build/fuzz/failures; put a fixed one into fuzz/corpus/NAME so that smoke replays it for ever.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

build=$root/build/fuzz
smoke_runs=20000
smoke_seconds=110

fuzzers() { find "$build/fuzz" -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' 2>/dev/null | sort; }

# fuzz_one BINARY CORPUS FLAGS...: one fuzzer over CORPUS, which grows, and the seeds, which do not.
fuzz_one() {
  local binary=$1 corpus=$2 name=${1##*/fuzz_}
  shift 2
  mkdir -p "$corpus" "$build/failures"
  local arguments=("$@" -timeout=10 -rss_limit_mb=2048 "-artifact_prefix=$build/failures/$name-")
  [ ! -e "$root/fuzz/$name.dict" ] || arguments+=("-dict=$root/fuzz/$name.dict")
  arguments+=("$corpus")
  [ ! -d "$root/fuzz/corpus/$name" ] || arguments+=("$root/fuzz/corpus/$name")
  "$binary" "${arguments[@]}"
}

smoke() {
  local found binary name log corpus status=0
  mapfile -t found < <(fuzzers)
  if [ "${#found[@]}" -eq 0 ]; then
    echo "skipped: no fuzzer is built; run scripts/fuzz.sh build (needs clang)"
    exit 77
  fi
  local each=$((smoke_seconds / ${#found[@]}))
  [ "$each" -gt 0 ] || each=1
  # An empty corpus each time: the inputs are then the same in every run.
  corpus=$(mktemp -d)
  trap "rm -rf '$corpus'" EXIT
  for binary in "${found[@]}"; do
    name=${binary##*/fuzz_}
    log=$build/smoke-$name.log
    if fuzz_one "$binary" "$corpus/$name" "-runs=$smoke_runs" -seed=1 "-max_total_time=$each" \
      >"$log" 2>&1; then
      echo "$name: $(grep -E '^Done ' "$log" | tail -1)"
    else
      echo "$name: FAILED. The end of $log:"
      tail -n 60 "$log"
      status=1
    fi
  done
  return "$status"
}

case "${1:-}" in
  build)
    configure fuzz -DCMAKE_CXX_COMPILER=clang++-19
    cmake --build "$build" --target fuzzers
    ;;
  smoke) smoke ;;
  run)
    [ -x "$build/fuzz/fuzz_${2:-}" ] || fail "no fuzzer '${2:-}'; built are: $(fuzzers | sed 's,.*/fuzz_,,' | xargs)"
    fuzz_one "$build/fuzz/fuzz_$2" "$build/corpus/$2" "-max_total_time=${3:-600}"
    ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
