#!/usr/bin/env python3
"""Random small models of every architecture and storage type: `fathom logits`, with --mtp where there is a
module, against the numpy reference: within 5e-4 of the reference's standard deviation. 400 models; --quick: 40.
Skipped without numpy."""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib"), os.path.join(HERE, "../golden/reference")]
try:
    import numpy as np
except ImportError:
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])  # where Debian's python3-numpy is
    print("skipped: needs numpy (python3-numpy)")
    sys.exit(77)
import ref_numpy  # noqa: E402
from fixtures import QUICK, fathom  # noqa: E402
from random_models import choose, write_random_model  # noqa: E402

TOLERANCE = 5e-4


def difference(folder, tokens, expected, *flags):
    out = os.path.join(folder, "logits")
    fathom("logits", folder, "--tokens", tokens, "--out", out, *flags)
    actual = np.fromfile(out, "<f4").reshape(expected.shape)
    return float(np.abs(actual - expected).max() / expected.std())


def main():
    rng = np.random.default_rng(20260101)
    count, worst, bad, seen = 40 if QUICK else 400, 0.0, 0, set()
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            model_type, mode, config = write_random_model(rng, folder)
            seen.add((model_type, mode))
            ids = rng.integers(0, config["vocab_size"], choose(rng, 2, 5, 40, 150))
            logits, _, mtp = ref_numpy.forward(ref_numpy.load(folder), config, ids)
            tokens = os.path.join(folder, "ids")
            with open(tokens, "w") as f:
                f.write(" ".join(map(str, ids)))
            found = difference(folder, tokens, logits, "--chunk", choose(rng, 1, 7, 512))
            if mtp is not None:
                found = max(found, difference(folder, tokens, mtp, "--mtp"))
        worst = max(worst, found)
        if not found <= TOLERANCE:
            bad += 1
            print(f"  {found:.1e} {model_type} {mode} {len(ids)} tokens {config}")
    print(f"{count} random models ({len(seen)} kinds of architecture and storage): {bad} outside {TOLERANCE:.0e}, "
          f"worst difference {worst:.1e} of the deviation")
    return 0 if bad == 0 else 1


sys.exit(main())
