#!/usr/bin/env python3
"""Decode of 8 sequences against 1: at least 5 times the tokens for Q8_0, 3.5 for Q4_K (1.5B shape), 1.6 for V2-Lite
Q4_K. --quick: one short run of Q4_0."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK  # noqa: E402
from speed import LITE, SMALL, available, bench, save  # noqa: E402

CASES = [(SMALL, "q4_0", 0)] if QUICK else [(SMALL, "q8_0", 5.0), (SMALL, "q4_k", 3.5), (LITE, "q4_k", 1.6)]
failures, rows, ratios = [], [], []
for shape, kind, need in CASES:
    if not available(shape):
        failures.append(f"{shape} {kind}: not enough memory")
        continue
    results = bench(shape, kind, p=0, n=4 if QUICK else 32, batch="1,8", r=1 if QUICK else 3)["results"]
    one, eight = (r["tokens_per_second"]["median"] for r in results)
    ratios.append(eight / one)
    rows.append({"shape": shape, "type": kind, "one": one, "eight": eight, "ratio": eight / one})
    print(f"{shape} {kind}: {one:.2f} tokens/s, 8 sequences {eight:.2f}: {eight / one:.2f}x", flush=True)
    if eight < need * one:
        failures.append(f"{shape} {kind}: {eight / one:.2f}x, expected {need}x")
save("cpu-batch", rows)
for failure in failures:
    print("below:", failure)
print("8 sequences against 1: " + ", ".join(f"{v:.2f}x" for v in ratios))
sys.exit(0 if QUICK or not failures else 1)
