#!/usr/bin/env bash
# Builds the web page: web/ -> src/server/web/assets, which is committed. Needs node 20 and npm; building
# fathom itself does not.
#
#   scripts/build_web.sh            installs the locked packages, checks types, runs the unit tests, builds
#   scripts/build_web.sh --check    only says whether the committed assets are those of web/ (needs no node)
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

assets=$root/src/server/web/assets
record=$assets/SOURCES

# hash_of FOLDER FIND_ARGS...: one hash over the names and contents of files.
hash_of() {
  local folder=$1
  shift
  (cd "$folder" && find . "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}
# Everything that has a say in what is built; tests and documents have none.
hash_of_sources() {
  hash_of "$root/web" \( -path ./node_modules -o -path ./test-results -o -path ./playwright-report \) -prune -o \
    \( -path './src/*' -o -path './public/*' -o -name index.html -o -name package.json -o -name package-lock.json \
    -o -name tsconfig.json -o -name vite.config.ts -o -name dev-server.mjs \) ! -name '*.test.ts'
}
hash_of_assets() { hash_of "$assets" ! -name SOURCES; }
state() { printf 'sources %s\nassets %s\n' "$(hash_of_sources)" "$(hash_of_assets)"; }

case "${1:-}" in
  --check)
    [ -f "$record" ] || fail "$record is missing; run scripts/build_web.sh"
    [ "$(cat "$record")" = "$(state)" ] || {
      diff "$record" <(state) >&2 || true
      fail "src/server/web/assets is not what web/ builds; run scripts/build_web.sh and commit the result"
    }
    echo "build_web: the assets are those of web/"
    ;;
  "")
    log=$root/build/build_web.log
    mkdir -p "$root/build"
    : >"$log"
    cd "$root/web"
    run_step "packages" "$log" npm ci --ignore-scripts
    run_step "types" "$log" npm run typecheck
    run_step "unit tests" "$log" npm test
    run_step "build" "$log" npx vite build
    state >"$record"
    find "$assets" -type f ! -name '*.gz' ! -name SOURCES -printf '%s\n' |
      awk '{ n += $1 } END { printf "%d files, %d bytes in src/server/web/assets\n", NR, n }'
    ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
