"""Fixtures through `fathom logits` and `fathom generate`, compared with their goldens."""
import array
import os
import sys
import tempfile

from fixtures import QUICK, fathom, read_safetensors, standard_deviation

TOLERANCE = 5e-4


def worst_difference(golden, key, positions, rows, vocab):
    """Largest |logit - golden| over the golden's standard deviation."""
    expected = golden[key][1]
    deviation = standard_deviation(expected)
    worst = 0.0
    for i, p in enumerate(positions):
        for a, e in zip(rows[p * vocab:(p + 1) * vocab], expected[i * vocab:(i + 1) * vocab]):
            worst = max(worst, abs(a - e) / deviation if a == a else float("inf"))
    return worst


def positions(golden, key, rows):
    if key + "_positions" in golden:
        return list(golden[key + "_positions"][1])
    return list(range(rows - golden[key][0][0], rows))


def check(folder, work):
    golden = read_safetensors(f"{folder}/golden.safetensors")
    tokens, out = f"{work}/ids", f"{work}/logits"
    worst, compared, mismatches, greedy = 0.0, 0, 0, 0
    for n in range(100):
        if f"p{n}.input_ids" not in golden:
            break
        ids = list(golden[f"p{n}.input_ids"][1])
        if QUICK and len(ids) > 64:
            continue
        with open(tokens, "w") as f:
            f.write(" ".join(map(str, ids)))
        for key, flags, rows in ((f"p{n}.logits", [], len(ids)), (f"p{n}.mtp_logits", ["--mtp"], len(ids) - 1)):
            if key not in golden or rows == 0:
                continue
            fathom("logits", folder, "--tokens", tokens, "--out", out, *flags)
            values = array.array("f")
            with open(out, "rb") as f:
                values.frombytes(f.read())
            vocab = golden[key][0][1]
            assert len(values) == rows * vocab, f"{key}: {len(values)} logits, expected {rows} x {vocab}"
            worst = max(worst, worst_difference(golden, key, positions(golden, key, rows), values, vocab))
            compared += 1
        expected = list(golden[f"p{n}.greedy_ids"][1])
        for chunk in [7, 1 << 20] if QUICK else [1, 7, 64, 1 << 20]:
            got = fathom("generate", folder, "--tokens", tokens, "-n", len(expected), "--chunk", chunk,
                         "--print-ids").split()
            greedy += 1
            if list(map(int, got)) != expected:
                mismatches += 1
                print(f"  {folder} p{n} chunk {chunk}: greedy tokens differ")
    print(f"{os.path.basename(folder):22s} worst difference {worst:.1e} of the golden's deviation in {compared} "
          f"logit matrices; greedy runs {greedy}, different {mismatches}", flush=True)
    return worst, compared, mismatches, greedy


def report(folders):
    """Checks the fixtures, prints the figures and ends the script."""
    with tempfile.TemporaryDirectory() as work:
        results = [check(folder, work) for folder in folders]
    worst = max(r[0] for r in results)
    compared, mismatches, greedy = (sum(r[i] for r in results) for i in (1, 2, 3))
    print(f"worst logit difference {worst:.2e} of the golden's deviation (limit {TOLERANCE:.0e}) in {compared} "
          f"matrices; greedy runs with other tokens {mismatches} of {greedy}")
    sys.exit(0 if worst <= TOLERANCE and mismatches == 0 and compared >= 10 else 1)
