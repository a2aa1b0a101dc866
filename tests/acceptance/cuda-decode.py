#!/usr/bin/env python3
"""Decode of one sequence on a GPU, random weights: R1-Distill-Qwen-7B's shape at 85 % of the measured copy bandwidth
in BF16, 80 % in FP8 and Q8_0, 70 % in Q4_K; V2-Lite's at twice llama.cpp's rate on the same file ($PEERS,
$FATHOM_BENCH_DIR)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from gpu import bench, judge, peer_rate, rate, require_gpu  # noqa: E402

SEVEN, LITE = "r1-distill-qwen-7b", "v2-lite"
device = require_gpu()
failures, figures = [], []
for kind, share in [("bf16", 0.85), ("fp8", 0.80), ("q8_0", 0.80), ("q4_k", 0.70)]:
    result = bench(f"{SEVEN}:{kind}", "-p", "0", "-n", "128")["results"][0]
    got = result["share_of_read_bandwidth"]
    figures.append(f"7B {kind} {rate(result):.0f} tokens/s, {100 * got:.0f} %")
    if got < share:
        failures.append(f"7B in {kind}: {100 * got:.1f} % of the copy bandwidth, expected {100 * share:.0f} %")
for kind in ["q8_0", "q4_k"]:
    own = rate(bench(f"{LITE}:{kind}", "-p", "0", "-n", "128")["results"][0])
    peer = peer_rate(LITE, kind, ["-p", "0", "-n", "128"])
    figures.append(f"V2-Lite {kind} {own:.0f} tokens/s" + (f", {own / peer:.2f} times llama.cpp" if peer else ""))
    if peer is None:
        print(f"V2-Lite {kind}: not compared, llama.cpp's CUDA build or the file is missing")
    elif own < 2 * peer:
        failures.append(f"V2-Lite in {kind}: {own / peer:.2f} times llama.cpp, expected 2")
judge(failures, f"{device}: " + "; ".join(figures))
