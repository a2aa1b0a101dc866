"""Random models through `fathom logits`, against the numpy reference. Needs numpy: ends the script with 77 without."""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../../golden/reference")]
try:
    import numpy as np
except ImportError:
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])  # where Debian's python3-numpy is
    print("skipped: needs numpy (python3-numpy)")
    sys.exit(77)
import ref_numpy  # noqa: E402
from fixtures import fathom  # noqa: E402
from random_models import choose, write_random_model  # noqa: E402

TOLERANCE = 5e-4


def difference(folder, tokens, expected, *flags):
    out = os.path.join(folder, "logits")
    fathom("logits", folder, "--tokens", tokens, "--out", out, *flags)
    actual = np.fromfile(out, "<f4").reshape(expected.shape)
    return float(np.abs(actual - expected).max() / expected.std())


def check(model_types, count, lengths):
    """Prints the figure; 0 if all `count` models are within the tolerance."""
    rng = np.random.default_rng(20260101)
    worst, bad, seen = 0.0, 0, set()
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            model_type, mode, config = write_random_model(rng, folder, model_types)
            seen.add((model_type, mode))
            ids = rng.integers(0, config["vocab_size"], choose(rng, *lengths))
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


