"""Golden fixtures for the acceptance scripts: safetensors, token files, the program. Standard library only."""
import array
import json
import math
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
DATA = os.path.join(ROOT, "tests/golden/data")
NANO = os.path.join(ROOT, "models/nano")
FATHOM = os.environ.get("FATHOM_BINARY", os.path.join(ROOT, "build/release/bin/fathom"))
QUICK = "--quick" in sys.argv[1:]

# Architectures that fathom has; the other fixtures' time comes.
FIXTURES = ["llama_mha", "llama_gqa_llama3rope", "llama_linear_f32", "qwen2", "qwen2_tied_f16", "qwen3",
            "deepseek_v2_lite", "deepseek_v2", "deepseek_v3", "deepseek_v3_fp8"]


def read_safetensors(path):
    """{name: (shape, array of int or float)} of the I64 and F32 tensors of a file."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    out = {}
    for name, entry in header.items():
        kind = {"I64": "q", "F32": "f"}.get(entry.get("dtype"))
        if kind:
            begin, end = entry["data_offsets"]
            values = array.array(kind)
            values.frombytes(data[begin:end])
            out[name] = (entry["shape"], values)
    return out


def smollm2():
    """The path of SmolLM2's GGUF file, fetched if need be; ends the script as skipped where it cannot be."""
    found = subprocess.run([os.path.join(ROOT, "scripts/fetch_smollm2.sh")], capture_output=True, text=True)
    if found.returncode != 0:
        print("skipped: SmolLM2 cannot be fetched")
        sys.exit(77)
    return found.stdout.strip().splitlines()[-1]


def fathom(*arguments, **options):
    """Runs the program; returns its standard output. Prints and exits if it fails."""
    done = subprocess.run([FATHOM, *map(str, arguments)], capture_output=True, **options)
    if done.returncode != 0:
        sys.exit(f"fathom {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr.decode()}")
    return done.stdout


def standard_deviation(values):
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
