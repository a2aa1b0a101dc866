#!/usr/bin/env python3
"""Fixtures of V3.2 and V4 as llama.cpp's converter writes them (architectures deepseek32 and deepseek4) give the
logits of the safetensors: within 5e-4 of their standard deviation, in float32. The converter rounds V4's FP8 matrices
to Q8_0, and so does `fathom quantize --type mxfp4`: for that one the median over the tokens of the worst difference may
be 1.5 times that of fathom's own file, and nine in ten of the highest logits must agree.

$PEERS/gguf: deepseek_v32.gguf and deepseek_v4_fp4.gguf, made by convert_hf_to_gguf.py without a vocabulary. Without
them: skipped. --quick is the same.
"""
import array
import os
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA, fathom, read_safetensors, standard_deviation  # noqa: E402

FOLDER = os.path.join(os.environ.get("PEERS", ""), "gguf")
LIMITS = {"deepseek_v32": 5e-4, "deepseek_v4_fp4": None}
missing = [name for name in LIMITS if not os.path.exists(f"{FOLDER}/{name}.gguf")]
if missing:
    print(f"skipped: $PEERS/gguf has no {missing[0]}.gguf (llama.cpp's conversion of the fixture)")
    sys.exit(77)


def logits(model, tokens, work):
    fathom("logits", model, "--tokens", tokens, "--out", f"{work}/out", "--compute", "f32")
    values = array.array("f")
    with open(f"{work}/out", "rb") as f:
        values.frombytes(f.read())
    return values


def compare(name, path, work):
    """Of all tokens: the worst difference over the deviation, and whether the highest logit is the same one."""
    golden = read_safetensors(f"{DATA}/{name}/golden.safetensors")
    worst, same = [], []
    for n in range(5):
        ids = list(golden[f"p{n}.input_ids"][1])
        with open(f"{work}/ids", "w") as f:
            f.write(" ".join(map(str, ids)))
        expected = logits(f"{DATA}/{name}", f"{work}/ids", work)
        actual = logits(path, f"{work}/ids", work)
        assert len(actual) == len(expected)
        deviation, vocab = standard_deviation(expected), len(expected) // len(ids)
        for r in range(len(ids)):
            a, e = (x[r * vocab:(r + 1) * vocab] for x in (actual, expected))
            same.append(a.index(max(a)) == e.index(max(e)))
            worst.append(max(abs(x - y) for x, y in zip(a, e)) / deviation)
    return worst, same


held = True
with tempfile.TemporaryDirectory() as work:
    for name, limit in LIMITS.items():
        worst, same = compare(name, f"{FOLDER}/{name}.gguf", work)
        if limit:
            figure = f"worst difference {max(worst):.1e} of the deviation (limit {limit:.0e})"
            held = held and max(worst) <= limit and all(same)
        else:
            fathom("quantize", f"{DATA}/{name}", f"{work}/own.gguf", "--type", "mxfp4")
            own = statistics.median(compare(name, f"{work}/own.gguf", work)[0])
            figure = f"median difference {statistics.median(worst):.1e} of the deviation, fathom's own file {own:.1e}"
            held = held and statistics.median(worst) <= 1.5 * own and sum(same) >= 0.9 * len(same)
        print(f"{name}: {figure}; {sum(same)} of {len(same)} highest logits agree", flush=True)
print("holds" if held else "does not hold")
sys.exit(0 if held else 1)
