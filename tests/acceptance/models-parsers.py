#!/usr/bin/env python3
"""Random cuts of encoded answers give the messages that were encoded, and nothing of the markup: chat_test's
RoundTrip, 12,000 cuts. --quick is the same: it takes seconds."""
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
    done = subprocess.run([f"{BUILD}/src/chat/chat_test", "--gtest_filter=RoundTrip.*", f"--gtest_output=xml:{report}"],
                          capture_output=True, text=True)
    text = open(report, encoding="utf-8").read() if os.path.exists(report) else ""
cuts = re.search(r'name="cuts" value="(\d+)"', text)
count = int(cuts.group(1)) if cuts else 0
if done.returncode != 0:
    print(done.stdout[-3000:])
print(f"{count} cuts, {'every one gives the message' if done.returncode == 0 else 'some give another message'}")
sys.exit(0 if done.returncode == 0 and count >= 10_000 else 1)
