#!/usr/bin/env python3
"""Decode after 8,192 tokens of context loses at most 35 % against an empty cache for V2-Lite Q4_K, 30 % for the
1.5B shape in Q4_K. --quick: 512 tokens of the 1.5B shape in Q4_0."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK  # noqa: E402
from speed import LITE, SMALL, available, bench, save  # noqa: E402

CASES = [(SMALL, "q4_0", 512, 0.30)] if QUICK else [(SMALL, "q4_k", 8192, 0.30), (LITE, "q4_k", 8192, 0.35)]
failures, rows, losses = [], [], []
for shape, kind, depth, limit in CASES:
    if not available(shape):
        failures.append(f"{shape} {kind}: not enough memory")
        continue
    results = bench(shape, kind, p=0, n=4 if QUICK else 32, depth=f"0,{depth}", r=1 if QUICK else 3)["results"]
    empty, deep = (r["tokens_per_second"]["median"] for r in results)
    loss = 1 - deep / empty
    losses.append(loss)
    rows.append({"shape": shape, "type": kind, "depth": depth, "empty": empty, "deep": deep, "loss": loss})
    print(f"{shape} {kind}: {empty:.2f} tokens/s, after {depth} tokens {deep:.2f}: {100 * loss:.1f} % less", flush=True)
    if loss > limit:
        failures.append(f"{shape} {kind}: {100 * loss:.1f} % less, expected at most {100 * limit:.0f} %")
save("cpu-context", rows)
for failure in failures:
    print("below:", failure)
print("loss at depth: " + ", ".join(f"{100 * v:.1f} %" for v in losses))
sys.exit(0 if QUICK or not failures else 1)
