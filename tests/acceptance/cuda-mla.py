#!/usr/bin/env python3
"""Attention on latent rows in bfloat16, 64 sequences of 8k to 64k: 16 heads read at 75 % of the copy bandwidth, 128
heads compute at 55 % of the matrix peak. Builds bench_mla_decode in build/cuda, or takes $FATHOM_MLA_BENCH."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK, ROOT  # noqa: E402
from gpu import judge, require_gpu  # noqa: E402

LINE = re.compile(r"(\d+) heads, 64 x (\d+): [\d.]+ ms, ([\d.]+) of copy, ([\d.]+) of peak")

device = require_gpu()
program = os.environ.get("FATHOM_MLA_BENCH")
if program is None:
    build = os.path.join(ROOT, "build/cuda")
    done = subprocess.run(["cmake", "--build", build, "--target", "bench_mla_decode"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout[-4000:] + done.stderr[-4000:])
    program = os.path.join(build, "bench/gpu/bench_mla_decode")
done = subprocess.run([program, *(["--quick"] if QUICK else [])], capture_output=True, text=True)
print(done.stdout, end="")
if done.returncode != 0:
    sys.exit(f"{program}: exit {done.returncode}\n{done.stderr}")
failures = []
shares = {16: [], 128: []}
for heads, keys, copy, peak in LINE.findall(done.stdout):
    share, least = (float(copy), 0.75) if heads == "16" else (float(peak), 0.55)
    shares[int(heads)].append(share)
    if share < least:
        failures.append(f"{heads} heads, {keys} keys: {share:.3f}, expected {least}")
if not shares[16] or not shares[128]:
    sys.exit(f"{program} printed no figures")
judge(failures, f"{device}: 16 heads {min(shares[16]):.3f} of the copy bandwidth, 128 heads {min(shares[128]):.3f} of the matrix peak")
