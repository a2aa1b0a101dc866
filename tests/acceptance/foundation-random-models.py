#!/usr/bin/env python3
"""Random small models of every architecture and storage type: `fathom logits`, with --mtp where there is a
module, against the numpy reference: within 5e-4 of the reference's standard deviation. 400 models; --quick: 40.
Skipped without numpy."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from random_check import check  # noqa: E402
from fixtures import QUICK  # noqa: E402

sys.exit(check(("llama", "qwen2", "qwen3", "deepseek_v2", "deepseek_v3"), 40 if QUICK else 400, (2, 5, 40, 150)))
