#!/usr/bin/env python3
"""Every fixture through `fathom logits` and `fathom generate`: float32 logits and MTP logits within 5e-4 of
the golden's standard deviation at every golden position, 32 greedy tokens identical, and the same tokens
for prefill chunks of 1, 7, 64 and the whole prompt. Layer outputs are compared by golden_test.
--quick: the prompts of up to 64 tokens, chunks 7 and whole."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA, FIXTURES, NANO  # noqa: E402
from goldens import report  # noqa: E402

report([f"{DATA}/{name}" for name in FIXTURES] + [NANO])
