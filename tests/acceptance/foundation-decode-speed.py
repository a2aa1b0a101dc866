#!/usr/bin/env python3
"""nano decodes at least 2,000 tokens/s on 2 cores: 400 greedy tokens (as long as an answer of its
evaluation may be), start-up taken off, median of the
runs. --quick: one run, only printed."""
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK, fathom  # noqa: E402

TARGET, TOKENS = 2000, 400


def seconds(tokens, count):
    begin = time.monotonic()
    fathom("generate", "nano", "--tokens", tokens, "-n", count, "--threads", 2, "--print-ids")
    return time.monotonic() - begin


with tempfile.TemporaryDirectory() as work:
    tokens = f"{work}/ids"
    with open(tokens, "w") as f:
        f.write("0 5 6 7 8 9 10 11")
    rates = [TOKENS / (seconds(tokens, TOKENS + 1) - seconds(tokens, 1)) for _ in range(1 if QUICK else 7)]
print("runs: " + " ".join(f"{r:.0f}" for r in rates))
print(f"nano decodes {statistics.median(rates):.0f} tokens/s (median; best {max(rates):.0f}; wanted {TARGET})")
sys.exit(0 if QUICK or statistics.median(rates) >= TARGET else 1)
