#!/usr/bin/env python3
"""V3.2 and V4, in BF16 and as DeepSeek stores V4, through `fathom logits` and `fathom generate`: float32 logits
and MTP logits within 5e-4 of the golden's standard deviation at every golden position, and the golden's 32
greedy tokens for prefill chunks of 1, 7, 64 and the whole prompt. The prompts are long enough for compression,
selection and the window. --quick: the prompts of up to 64 tokens, chunks 7 and whole."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA  # noqa: E402
from goldens import report  # noqa: E402

report([f"{DATA}/{name}" for name in ("deepseek_v32", "deepseek_v4", "deepseek_v4_fp4")])
