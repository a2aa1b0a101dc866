#!/usr/bin/env python3
"""Prefill of 256 and 1,024 tokens: at least 55 % of the measured int8 peak for Q8_0, Q4_0 and Q4_K of the 1.5B
shape and 1.5 times ik_llama.cpp; 2.5 times the faster peer for V2-Lite. --quick: one short run of Q4_0."""
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK  # noqa: E402
from speed import LITE, ROUNDS, SMALL, alternate, available, finish, peers, save  # noqa: E402

CASES = [(SMALL, kind, n) for kind in ("q8_0", "q4_0", "q4_k") for n in (256, 1024)] + [(LITE, "q4_k", 256), (LITE, "q4_k", 1024)]
if QUICK:
    CASES = [(SMALL, "q4_0", 64)]
failures, rows, shares = [], [], []
for shape, kind, n in CASES:
    if not available(shape):
        failures.append(f"{shape} {kind}: not enough memory")
        continue
    speeds, answers = alternate(shape, kind, 1 if QUICK or shape == LITE else ROUNDS, p=n, n=0)
    share = statistics.median(a["results"][0].get("share_of_int8_peak", 0) for a in answers)
    others = {k: v for k, v in speeds.items() if k != "fathom"}
    print(f"{shape} {kind} {n}: " + ", ".join(f"{k} {v:.1f}" for k, v in speeds.items()) +
          f" tokens/s; {100 * share:.1f} % of the int8 peak", flush=True)
    rows.append({"shape": shape, "type": kind, "tokens": n, "tokens_per_second": speeds, "share_of_int8_peak": share})
    if shape == LITE:
        if others and speeds["fathom"] < 2.5 * max(others.values()):
            failures.append(f"{shape} {kind} {n}: {speeds['fathom'] / max(others.values()):.2f}x the faster peer, expected 2.5x")
        continue
    shares.append(share)
    if share < 0.55:
        failures.append(f"{shape} {kind} {n}: {100 * share:.1f} % of the int8 peak, expected 55 %")
    if "ik_llama.cpp" in others and speeds["fathom"] < 1.5 * others["ik_llama.cpp"]:
        failures.append(f"{shape} {kind} {n}: {speeds['fathom'] / others['ik_llama.cpp']:.2f}x ik_llama.cpp, expected 1.5x")
save("cpu-prefill", rows)
finish(failures, f"prefill: {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the int8 peak on the 1.5B shape")
