#!/usr/bin/env python3
"""What quantising costs. nano's evaluation (models/nano/eval.jsonl): q8_0 within 0.3 points of the checkpoint,
q4_0 and q4_k_m within 2; every other type is printed. Beside each accuracy stand the file's size against float32
and the share of its bytes that really is in the named type. Then SmolLM2's perplexity in each type, against the
published Q4_1 file decoded to float32: every other one is quantised from that, so only the differences count.

Perplexity is of Python's language reference (pydoc_data.topics of the Python that runs this script): every
second topic; the imatrix comes from the others. Without SmolLM2 (scripts/fetch_smollm2.sh, $FATHOM_SMOLLM2) the
first half alone is checked. --quick: every fourth problem, three types, no perplexity; its margins are wider."""
import hashlib
import json
import os
import re
import sys
import tempfile
from pydoc_data.topics import topics

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib"), os.path.join(HERE, "../support")]
from fixtures import NANO, QUICK, ROOT, fathom  # noqa: E402
from nano_text import nano_text  # noqa: E402

THREADS = 2
# Points that a type may lose against the checkpoint on the same problems. A fourth of them: one is 0.19 points.
LIMITS = {"q8_0": 1.0, "q4_0": 3.5, "q4_k_m": 3.5} if QUICK else {"q8_0": 0.3, "q4_0": 2.0, "q4_k_m": 2.0}
TYPES = list(LIMITS) if QUICK else ["bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k_m", "q4_k", "q4_1", "q4_0",
                                    "q3_k_m", "q3_k", "q2_k"]
WITH_IMATRIX = [] if QUICK else ["q3_k", "q2_k"]
# The type that a recipe's name stands for.
NAMED = {"q4_k_m": "Q4_K", "q3_k_m": "Q3_K"}
SMOLLM2 = os.environ.get("FATHOM_SMOLLM2", f"{ROOT}/models/cache/SmolLM2-135M-Instruct.Q4_1.gguf")
CTX, WINDOWS, CALIBRATION_WINDOWS = 512, 4, 8


def quantize(source, out, kind, *flags):
    """Writes `out`; returns (share of bytes in the named type, size against float32, megabytes of weights)."""
    text = fathom("quantize", source, out, "--type", kind, *flags).decode()
    shares = {m[1]: float(m[2]) for m in re.finditer(r"^(\w+) +\d+ +[\d.]+ MB +([\d.]+) %$", text, re.M)}
    size = re.search(r": ([\d.]+) MB of weights, ([\d.]+) of float32;", text)
    return shares.get(NAMED.get(kind, kind.upper()), 0.0), float(size[2]), float(size[1])


def evaluate(model, data):
    return 100 * json.loads(fathom("eval", model, "--data", data, "--json", "--threads", THREADS))["accuracy"]


def perplexity(model, text, compute="auto"):
    out = fathom("perplexity", model, "--file", text, "--ctx", CTX, "--windows", WINDOWS, "--threads", THREADS,
                 "--compute", compute)
    return float(re.match(rb"perplexity ([\d.]+)", out)[1])


def eval_data(work):
    if not QUICK:
        return f"{NANO}/eval.jsonl"
    with open(f"{NANO}/eval.jsonl", encoding="utf-8") as f:
        lines = f.readlines()[::4]
    with open(f"{work}/eval.jsonl", "w", encoding="utf-8") as f:
        f.writelines(lines)
    return f"{work}/eval.jsonl"


def topic_texts(work):
    """(calibration, test): two halves of Python's language reference."""
    names = sorted(topics)
    paths = []
    for part, label in enumerate(("calibration", "test")):
        text = "\n\n".join(topics[n] for n in names[part::2])
        paths.append(f"{work}/{label}.txt")
        with open(paths[-1], "w", encoding="utf-8") as f:
            f.write(text)
        if label == "test":
            print(f"perplexity of Python {sys.version.split()[0]}'s pydoc topics, every second from "
                  f"'{names[1]}' on: {len(text)} characters, SHA-256 "
                  f"{hashlib.sha256(text.encode()).hexdigest()[:16]}…, {WINDOWS} windows of {CTX} tokens", flush=True)
    return paths


def variants(imatrix):
    yield from ((kind, []) for kind in TYPES)
    yield from ((kind, ["--imatrix", imatrix]) for kind in WITH_IMATRIX)


def check_nano(work):
    data, failures = eval_data(work), []
    base = evaluate("nano", data)
    print(f"nano, the checkpoint (bf16): {base:.2f} %", flush=True)
    imatrix = f"{work}/nano.imatrix.gguf"
    if WITH_IMATRIX:
        with open(f"{work}/nano.txt", "w", encoding="utf-8") as f:
            f.write(nano_text("train", 1500, seed=1))
        fathom("imatrix", "nano", "--file", f"{work}/nano.txt", "--special", "--out", imatrix)
    summary = []
    for kind, flags in variants(imatrix):
        share, ratio, size = quantize("nano", f"{work}/nano.gguf", kind, *flags)
        accuracy = evaluate(f"{work}/nano.gguf", data)
        label = kind + (" with imatrix" if flags else "")
        print(f"nano {label}: {accuracy:.2f} % ({accuracy - base:+.2f} points); {size:.1f} MB, {ratio:.3f} of float32, "
              f"{share:.1f} % of it {NAMED.get(kind, kind.upper())}", flush=True)
        if kind in LIMITS and not flags:
            summary.append(f"{kind} {accuracy - base:+.2f}")
            if abs(accuracy - base) > LIMITS[kind]:
                failures.append(f"nano {kind}: {accuracy - base:+.2f} points, expected within {LIMITS[kind]}")
    return failures, f"points against the checkpoint's {base:.2f} %: " + ", ".join(summary)


def check_smollm2(work):
    calibration, test = topic_texts(work)
    float_file, file, imatrix = f"{work}/f32.gguf", f"{work}/q.gguf", f"{work}/imatrix.gguf"
    quantize(SMOLLM2, float_file, "f32")
    base = perplexity(float_file, test)
    print(f"SmolLM2, the published Q4_1 decoded to float32: perplexity {base:.4f}", flush=True)
    fathom("imatrix", float_file, "--file", calibration, "--ctx", CTX, "--windows", CALIBRATION_WINDOWS,
           "--out", imatrix)
    failures = []
    for kind, flags in variants(imatrix):
        share, ratio, size = quantize(float_file, file, kind, *flags)
        value = perplexity(file, test)
        print(f"SmolLM2 {kind}{' with imatrix' if flags else ''}: perplexity {value:.4f} "
              f"({100 * (value / base - 1):+.2f} %); "
              f"{size:.1f} MB, {ratio:.3f} of float32, {share:.1f} % of it {NAMED.get(kind, kind.upper())}", flush=True)
        if kind != "q8_0":
            continue
        # The rows have int8 inputs, as every command that runs a quantised file; this one the weights' loss alone.
        value = perplexity(file, test, "f32")
        print(f"SmolLM2 q8_0 with --compute f32: perplexity {value:.4f} ({100 * (value / base - 1):+.2f} %)", flush=True)
        if abs(value / base - 1) > 0.005:
            failures.append(f"SmolLM2 q8_0 --compute f32: perplexity {value:.4f}, expected within 0.5 % of {base:.4f}")
    return failures


def main():
    with tempfile.TemporaryDirectory() as work:
        failures, summary = check_nano(work)
        if not QUICK and os.path.exists(SMOLLM2):
            failures += check_smollm2(work)
        elif not QUICK:
            print(f"{SMOLLM2} is not there (scripts/fetch_smollm2.sh): no perplexities")
    for failure in failures:
        print("below:", failure)
    print(summary)
    return 1 if failures else 0


sys.exit(main())
