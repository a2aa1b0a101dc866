#!/usr/bin/env python3
"""`fathom eval nano` on models/nano/eval.jsonl: accuracy within 0.5 points of models/nano/README.md's 98.70 %,
in at most 3 minutes on 2 cores. --quick: every tenth problem; the time is only printed."""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK, fathom  # noqa: E402

PUBLISHED = 100 * 2128 / 2156
# A tenth of the problems has a standard error of 0.8 points.
MARGIN = 3.0 if QUICK else 0.5

with tempfile.TemporaryDirectory() as work:
    data = f"{NANO}/eval.jsonl"
    if QUICK:
        with open(data, encoding="utf-8") as f:
            lines = f.readlines()[::10]
        data = f"{work}/eval.jsonl"
        with open(data, "w", encoding="utf-8") as f:
            f.writelines(lines)
    result = json.loads(fathom("eval", "nano", "--data", data, "--json", "--threads", 2))
accuracy = 100 * result["accuracy"]
print(f"{result['right']}/{result['total']} right, {accuracy:.2f} % (published {PUBLISHED:.2f} %, margin {MARGIN}); "
      f"{result['seconds']:.1f} s, {result['generated_tokens']} tokens")
sys.exit(0 if abs(accuracy - PUBLISHED) <= MARGIN and (QUICK or result["seconds"] <= 180) else 1)
