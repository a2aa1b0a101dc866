#!/usr/bin/env python3
"""Pages that a sequence of 128k tokens holds of DeepSeek-V4-Flash's cache, in bytes, against the formula of what has
to be kept (docs/cache.md): engine_test's V4Cache. --quick is the same: it takes a second."""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import FATHOM  # noqa: E402

BUILD = os.path.dirname(os.path.dirname(os.path.abspath(FATHOM)))
with tempfile.TemporaryDirectory() as work:
    report = f"{work}/report.xml"
    done = subprocess.run([f"{BUILD}/src/engine/engine_test", "--gtest_filter=V4Cache.*", f"--gtest_output=xml:{report}"],
                          capture_output=True, text=True)
    text = open(report, encoding="utf-8").read() if os.path.exists(report) else ""
found = {name: int(value) for name, value in re.findall(r'name="(bytes|formula)" value="(\d+)"', text)}
if done.returncode != 0 or len(found) != 2:
    print(done.stdout[-3000:])
    sys.exit(1)
ratio = found["bytes"] / found["formula"]
print(f"{found['bytes'] / 1e6:.1f} MB in pages, {found['formula'] / 1e6:.1f} MB by the formula: {100 * (ratio - 1):+.1f} %")
sys.exit(0 if abs(ratio - 1) <= 0.05 else 1)
