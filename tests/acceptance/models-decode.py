#!/usr/bin/env python3
"""Decode of DeepSeek-V4-Flash's shape, cut to four layers, with FP4 experts and FP8: at least 80 % of the read bandwidth
measured in the same run, on all cores. Its 16 GB of random weights are made in memory.
--quick: two layers with few experts (1 GB); only prints."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK  # noqa: E402
from speed import ROUNDS, bench, save, skip  # noqa: E402

SHAPE, NEEDED = ("v4-flash-small", 3 << 30) if QUICK else ("v4-flash", 20 << 30)
THREADS = os.environ.get("FATHOM_BENCH_THREADS")  # by default one per physical core

if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < NEEDED:
    skip(f"{SHAPE} needs {NEEDED >> 30} GB of free memory")
answer = bench(SHAPE, "native", threads=THREADS, p=0, n=4 if QUICK else 32, r=1 if QUICK else ROUNDS)
result = answer["results"][0]
share, read = result["share_of_read_bandwidth"], answer["read"]["best_bytes_per_second"]
save("models-decode", [answer])
print(f"{answer['backend']}: {result['tokens_per_second']['median']:.2f} tokens/s of {SHAPE}, "
      f"{100 * share:.1f} % of {read / 1e9:.1f} GB/s")
sys.exit(0 if QUICK or share >= 0.8 else 1)
