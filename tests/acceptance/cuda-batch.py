#!/usr/bin/env python3
"""64 sequences of 1,024 tokens decode at 7,500 tokens/s on an H100: R1-Distill-Qwen-7B's shape in BF16."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from gpu import bench, judge, rate, require_gpu  # noqa: E402

device = require_gpu()
result = bench("r1-distill-qwen-7b:bf16", "-p", "0", "-n", "32", "--batch", "64", "--depth", "1024")["results"][0]
failures = [] if rate(result) >= 7500 else [f"{rate(result):.0f} tokens/s, expected 7,500"]
judge(failures, f"{device}: {rate(result):.0f} tokens/s")
