#!/usr/bin/env python3
"""Fixtures of V3.2 and V4 as llama.cpp's converter writes them (architectures deepseek32 and deepseek4) give the
logits of the safetensors: within 5e-4 of their standard deviation, in float32. The converter rounds V4's FP8 matrices
to Q8_0, so for that one the limit is 5e-2, and the tokens with the highest logits must mostly agree.

$PEERS/gguf: deepseek_v32.gguf and deepseek_v4_fp4.gguf, made by convert_hf_to_gguf.py without a vocabulary. Without
them: skipped. --quick is the same.
"""
import array
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA, fathom, read_safetensors, standard_deviation  # noqa: E402

FOLDER = os.path.join(os.environ.get("PEERS", ""), "gguf")
LIMITS = {"deepseek_v32": 5e-4, "deepseek_v4_fp4": 5e-2}
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


held = True
with tempfile.TemporaryDirectory() as work:
    for name, limit in LIMITS.items():
        golden = read_safetensors(f"{DATA}/{name}/golden.safetensors")
        worst, rows, same = 0.0, 0, 0
        for n in range(5):
            ids = list(golden[f"p{n}.input_ids"][1])
            with open(f"{work}/ids", "w") as f:
                f.write(" ".join(map(str, ids)))
            expected = logits(f"{DATA}/{name}", f"{work}/ids", work)
            actual = logits(f"{FOLDER}/{name}.gguf", f"{work}/ids", work)
            deviation, vocab = standard_deviation(expected), len(expected) // len(ids)
            assert len(actual) == len(expected)
            worst = max(worst, max(abs(a - e) for a, e in zip(actual, expected)) / deviation)
            for r in range(len(ids)):
                row = slice(r * vocab, (r + 1) * vocab)
                a, e = actual[row], expected[row]
                rows, same = rows + 1, same + (a.index(max(a)) == e.index(max(e)))
        print(f"{name}: worst difference {worst:.1e} of the deviation (limit {limit:.0e}), {same} of {rows} highest "
              f"logits agree", flush=True)
        held = held and worst <= limit and same >= (rows if limit < 1e-3 else 0.9 * rows)
print("holds" if held else "does not hold")
sys.exit(0 if held else 1)
