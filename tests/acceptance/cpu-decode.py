#!/usr/bin/env python3
"""Decode of the 1.5B shape in Q8_0, Q4_0, Q4_K, Q6_K, BF16 and of V2-Lite in Q4_K: at least 90 % of the read
bandwidth measured in the same run, never below the faster peer in alternating runs, 1.2 times it for Q8_0.
--quick: one short run of Q4_0."""
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK  # noqa: E402
from speed import LITE, ROUNDS, SMALL, alternate, available, finish, peers, save  # noqa: E402

CASES = [(SMALL, kind) for kind in ("q8_0", "q4_0", "q4_k", "q6_k", "bf16")] + [(LITE, "q4_k")]
if QUICK:
    CASES = [(SMALL, "q4_0")]
failures, rows, shares = [], [], []
for shape, kind in CASES:
    if not available(shape):
        failures.append(f"{shape} {kind}: not enough memory")
        continue
    speeds, answers = alternate(shape, kind, 1 if QUICK else ROUNDS, p=0, n=4 if QUICK else 32)
    share = statistics.median(a["results"][0]["share_of_read_bandwidth"] for a in answers)
    best = max((v for k, v in speeds.items() if k != "fathom"), default=0)
    need = 1.2 if kind == "q8_0" else 1.0
    read = statistics.median(a["read"]["best_bytes_per_second"] for a in answers) / 1e9
    print(f"{shape} {kind}: " + ", ".join(f"{k} {v:.2f}" for k, v in speeds.items()) +
          f" tokens/s; {100 * share:.1f} % of {read:.1f} GB/s" + (f"; {speeds['fathom'] / best:.2f}x the faster peer" if best else ""),
          flush=True)
    rows.append({"shape": shape, "type": kind, "tokens_per_second": speeds, "share_of_read_bandwidth": share, "read_gb_per_second": read})
    shares.append(share)
    if share < 0.9:
        failures.append(f"{shape} {kind}: {100 * share:.1f} % of the read bandwidth, expected 90 %")
    if peers() and speeds["fathom"] < need * best:
        failures.append(f"{shape} {kind}: {speeds['fathom'] / best:.2f}x the faster peer, expected {need}x")
save("cpu-decode", rows)
finish(failures, f"decode: {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the read bandwidth")
