#!/usr/bin/env python3
"""nano's accuracy on a GPU in bfloat16 within 0.5 points of its published one (models/nano/README.md: 98.70 %)."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO  # noqa: E402
from gpu import BINARY, require_gpu  # noqa: E402

PUBLISHED = 98.70
device = require_gpu()
data = os.path.join(NANO, "eval.jsonl")
out = subprocess.run([BINARY, "eval", NANO, "--data", data, "--device", "cuda", "--compute", "bf16"],
                     capture_output=True, text=True, check=True).stdout
right, total, percent = re.search(r"^all +(\d+)/(\d+) +([\d.]+) %", out, re.M).groups()
ok = abs(float(percent) - PUBLISHED) <= 0.5
print(f"{device}: {right}/{total} = {percent} % (published {PUBLISHED} %, 0.5 points allowed)")
sys.exit(0 if ok else 1)
