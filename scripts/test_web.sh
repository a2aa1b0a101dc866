#!/usr/bin/env bash
# Tests the web page in Chromium (Debian: chromium), with node 20 and npm. Not part of scripts/test.sh, which
# needs neither: there, only that the committed assets are those of web/ is checked.
#
#   scripts/test_web.sh [PLAYWRIGHT ARGUMENTS]           against a server with canned answers
#   FATHOM_URL=http://127.0.0.1:8080/ scripts/test_web.sh     against fathom serve; what needs canned answers is
#                                                             skipped
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
chromium=${CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || fail "$chromium is missing; install chromium, or name another in CHROMIUM"
command -v npm >/dev/null || fail "npm is missing; install node 20 or newer"
log=$root/build/test_web.log
mkdir -p "$root/build"
: >"$log"
cd "$root/web"
[ -d node_modules ] || run_step "packages" "$log" npm ci --ignore-scripts
[ -n "${FATHOM_URL:-}" ] || "$root/scripts/build_web.sh" --check
run_step "unit tests" "$log" npm test
CHROMIUM=$chromium exec npx playwright test "$@"
