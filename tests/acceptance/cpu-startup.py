#!/usr/bin/env python3
"""From the start of the process to the first token, files in the page cache: at most 1 s for the 1.5B shape in Q4_K
(1.1 GB), 2 s for V2-Lite in Q4_K (11 GB). --quick: nano."""
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK, fathom  # noqa: E402
from speed import LITE, SMALL, THREADS, path, save, skip  # noqa: E402

CASES = [("nano", "nano", 1.0)] if QUICK else [(f"{SMALL} q4_k", path(SMALL, "q4_k"), 1.0), (f"{LITE} q4_k", path(LITE, "q4_k"), 2.0)]
failures, rows, times = [], [], []
with tempfile.TemporaryDirectory() as work:
    ids = f"{work}/ids.txt"
    with open(ids, "w", encoding="utf-8") as f:
        f.write("1 2 3 4 5 6 7 8\n")
    for name, model, limit in CASES:
        if model != "nano" and not os.path.exists(model):
            skip(f"{model} is missing (docs/benchmarks.md says how it is made)")
        seconds = []
        for _ in range(2 if QUICK else 4):
            begin = time.monotonic()
            fathom("generate", model, "--tokens", ids, "-n", 1, "--print-ids", "--threads", THREADS)
            seconds.append(time.monotonic() - begin)
        median = statistics.median(seconds[1:])  # the first run filled the page cache
        times.append(median)
        rows.append({"model": name, "seconds": median, "first": seconds[0]})
        print(f"{name}: {median:.2f} s (cold page cache or not: {seconds[0]:.2f} s)", flush=True)
        if median > limit:
            failures.append(f"{name}: {median:.2f} s, expected at most {limit} s")
save("cpu-startup", rows)
for failure in failures:
    print("below:", failure)
print("to the first token: " + ", ".join(f"{v:.2f} s" for v in times))
sys.exit(0 if QUICK or not failures else 1)
