#!/usr/bin/env python3
"""Random small models of V3.2 and V4, in every storage type, V4's FP4 and FP8 included: `fathom logits`, with
--mtp where there is a module, against the numpy reference: within 5e-4 of the reference's standard deviation.
200 models; --quick: 20. Skipped without numpy."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from random_check import check  # noqa: E402
from fixtures import QUICK  # noqa: E402

sys.exit(check(("deepseek_v32", "deepseek_v4"), 20 if QUICK else 200, (2, 5, 40, 150, 300)))
