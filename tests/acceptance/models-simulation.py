#!/usr/bin/env python3
"""--simulate-quantised-cache on random models of V3.2 and V4, against the numpy reference with the same roundings
put around its functions. They are written here from the definitions of the formats, over all their values.

Sums in another order make a value fall to the other side of a tie now and then, and what is behind that token then
differs. So the reference says how sure it is: it runs four times more with all weights changed by 1e-7 of themselves,
and rows where that moves the logits by more than 1e-4 of their deviation are not compared. The others must agree within
1e-4; of 16 models one may hold a tie that was not seen so. At least four fifths of all rows must remain, and in half
of these the option must make a difference a hundred times as large. An indexer of 24 channels must be refused.
What the blocks are hardly shows here, as scales are powers of two: tests/conformance/simulate_test.cc has them.
80 models; --quick: 16. Skipped without numpy."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import random_check  # noqa: E402,F401  (ends the script where numpy is missing)
import numpy as np  # noqa: E402
import random_models  # noqa: E402
import ref_numpy as ref  # noqa: E402
from fixtures import FATHOM, QUICK, fathom  # noqa: E402
from random_models import choose  # noqa: E402

SURE, TOLERANCE, EFFECT = 1e-4, 1e-4, 1e-2
COPIES = 4
FP8 = np.sort(ref.E4M3[:127])
FP4 = np.sort(ref.E2M1[:8])


def rounded(x, values, block, least):
    """The last axis in blocks, each scaled by a power of two; `values`: the type's, ascending from 0."""
    out = np.array(x, np.float64)
    for begin in range(0, x.shape[-1], block):
        part = out[..., begin:begin + block]
        amax = np.maximum(np.abs(part).max(-1, keepdims=True), least)
        scale = 2.0 ** np.ceil(np.log2(amax / values[-1]))
        size = np.abs(part) / scale
        above = np.clip(np.searchsorted(values, size), 1, len(values) - 1)
        down, up = size - values[above - 1], values[above] - size
        nearest = np.where((down < up) | ((down == up) & (above % 2 == 1)), above - 1, above)
        out[..., begin:begin + block] = np.sign(part) * values[nearest] * scale
    return out.astype(np.float32)


def hadamard(x):
    matrix = np.ones((1, 1))
    while len(matrix) < x.shape[-1]:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (x @ matrix / np.sqrt(x.shape[-1])).astype(np.float32)


def index_v32(x):
    return rounded(hadamard(x), FP8, 128, 1e-4)


def index_v4(x):
    return rounded(hadamard(x), FP4, 32, 6 * 2.0 ** -126)


def key_v4(x, rope_dim):
    return np.concatenate([rounded(x[..., :-rope_dim], FP8, 64, 1e-4), x[..., -rope_dim:]], -1)


class Einsum:
    """numpy as the reference sees it. Its products with indexer keys and with window keys and entries are the only
    ones of these forms: their operands are rounded first. Entries and window keys are rows of one array there, and
    values are the same array again."""

    def __init__(self, config):
        self.config = config

    def __getattr__(self, name):
        return getattr(np, name)

    def einsum(self, form, *operands):
        if form == "qhd,kd->qhk":  # indexer queries and keys
            simulate = index_v32 if self.config["model_type"] == "deepseek_v32" else index_v4
            operands = [simulate(x) for x in operands]
        elif form == "qhd,kd->hqk":  # V4's queries and keys
            operands = operands[0], key_v4(operands[1], self.config["qk_rope_head_dim"])
        elif form == "hqk,kd->qhd":  # and its values
            operands = operands[0], key_v4(operands[1], self.config["qk_rope_head_dim"])
        return np.einsum(form, *operands)


def forward(weights, config, ids, simulate):
    ref.np = Einsum(config) if simulate else np
    try:
        logits, _, mtp = ref.forward(weights, config, ids)
    finally:
        ref.np = np
    return [logits] if mtp is None else [logits, mtp]


def change(rng, weights):
    return {name: w if w.dtype.kind == "i" else (w * (1 + 1e-7 * rng.standard_normal(w.shape))).astype(w.dtype)
            for name, w in weights.items()}


def program(folder, shape, mtp, *flags):
    out = os.path.join(folder, "logits")
    fathom("logits", folder, "--tokens", os.path.join(folder, "ids"), "--out", out, *(["--mtp"] if mtp else []), *flags)
    return np.fromfile(out, "<f4").reshape(shape)


def row_difference(a, b):
    return np.abs(a - b).max(-1) / b.std()


def wider(original, *index_dims):
    """Rows of several blocks, and a Hadamard matrix for every indexer."""
    def config(rng, *arguments):
        c = original(rng, *arguments)
        if "index_head_dim" in c:
            c["index_head_dim"] = choose(rng, *index_dims)
        if c["model_type"] == "deepseek_v4":
            c["head_dim"] = choose(rng, 48, 96, 160)
        return c
    return config


def check_model(rng, folder):
    """(rows, compared rows, worst difference of these, what the option changes in each of them, config.json)"""
    _, _, config = random_models.write_random_model(rng, folder, ("deepseek_v32", "deepseek_v4"))
    ids = rng.integers(0, config["vocab_size"], choose(rng, 5, 40, 150))
    with open(os.path.join(folder, "ids"), "w") as f:
        f.write(" ".join(map(str, ids)))
    weights = ref.load(folder)
    expected = forward(weights, config, ids, True)
    again = [forward(change(rng, weights), config, ids, True) for _ in range(COPIES)]
    rows, compared, worst, effects = 0, 0, 0.0, []
    for i, logits in enumerate(expected):
        flags = ["--chunk", choose(rng, 1, 7, 512)] if i == 0 else []
        found = row_difference(program(folder, logits.shape, i == 1, "--simulate-quantised-cache", *flags), logits)
        sure = np.max([row_difference(a[i], logits) for a in again], 0) <= SURE
        rows, compared = rows + len(sure), compared + int(sure.sum())
        worst = max([worst, *found[sure]])
        effects += list(row_difference(program(folder, logits.shape, i == 1), logits)[sure])
    return rows, compared, worst, effects, config


def refuses(rng, folder):
    """Whether a model whose indexer has no Hadamard matrix is refused."""
    random_models.write_random_model(rng, folder, ("deepseek_v32",))
    with open(os.path.join(folder, "ids"), "w") as f:
        f.write("1 2 3")
    done = subprocess.run([FATHOM, "logits", folder, "--tokens", os.path.join(folder, "ids"), "--out", os.devnull,
                           "--simulate-quantised-cache"], capture_output=True, text=True)
    return done.returncode == 2 and "index_head_dim is 24, expected a power of two" in done.stderr


def main():
    rng = np.random.default_rng(20261127)
    mixture_config, v4_config = random_models.mixture_config, random_models.v4_config
    random_models.mixture_config = wider(mixture_config, 24)
    with tempfile.TemporaryDirectory() as folder:
        if not refuses(rng, folder):
            print("an indexer of 24 channels is not refused")
            return 1
    random_models.mixture_config = wider(mixture_config, 16, 64, 128, 256)
    random_models.v4_config = wider(v4_config, 16, 64, 128, 256)
    count, bad, rows, compared, worst, effects = 16 if QUICK else 80, 0, 0, 0, 0.0, []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            all_rows, sure, found, effect, config = check_model(rng, folder)
        rows, compared = rows + all_rows, compared + sure
        effects += effect
        if found <= TOLERANCE:
            worst = max(worst, found)
        else:
            bad += 1
            print(f"  {found:.1e} {config}")
    effect = float(np.median(effects))
    print(f"{count} random models, {compared} of {rows} rows far from ties: {bad} models outside {TOLERANCE:.0e} of "
          f"the deviation, {worst:.1e} at worst in the others; without the option {effect:.1e} in the median")
    return 0 if bad <= count // 16 and compared >= 0.8 * rows and effect >= EFFECT else 1


sys.exit(main())
