"""What the scripts about GPUs share. They need an NVIDIA GPU and a build with -DFATHOM_CUDA=ON: build/cuda, or
$FATHOM_BINARY and, for the test programs, $FATHOM_CUDA_TESTS."""
import json
import os
import statistics
import subprocess
import sys

from fixtures import QUICK, ROOT

os.environ.setdefault("FATHOM_BINARY", os.path.join(ROOT, "build/cuda/bin/fathom"))
BINARY = os.environ["FATHOM_BINARY"]


def require_gpu():
    """Its description; ends the script as skipped without one."""
    seen = ""
    if os.path.exists(BINARY):
        doctor = subprocess.run([BINARY, "doctor"], capture_output=True, text=True).stdout
        seen = next((line for line in doctor.splitlines() if line.startswith("gpu")), "")
    if "cuda:0" not in seen:
        print("skipped: needs an NVIDIA GPU and a build for it (scripts/build_cuda.sh)")
        sys.exit(77)
    return seen.removeprefix("gpu").strip()


def bench(shape, *flags):
    """`fathom bench` on random weights of SHAPE:TYPE: its JSON. --quick has fewer repeats."""
    command = [BINARY, "bench", "--synthetic", shape, "--device", "cuda", "--json", "-r", "1" if QUICK else "5", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def rate(result):
    return result["tokens_per_second"]["median"]


def peer_rate(shape, kind, test):
    """tokens/s of llama.cpp (August 2026) on the same file, or None: $PEERS/llama.cpp/build-cuda, $FATHOM_BENCH_DIR."""
    program = os.path.join(os.environ.get("PEERS", ""), "llama.cpp/build-cuda/bin/llama-bench")
    file = os.path.join(os.environ.get("FATHOM_BENCH_DIR", "/tmp/fathom-bench"), f"{shape}-{kind}.gguf")
    if not os.path.exists(program) or not os.path.exists(file):
        return None
    command = [program, "-m", file, "-ngl", "99", "-o", "json", "-r", "3", *test]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return statistics.median(entry["avg_ts"] for entry in json.loads(done.stdout) if entry["avg_ts"] > 0)


def judge(failures, summary):
    """Prints the figures last; speed is printed alone with --quick."""
    for f in failures:
        print(f"does not hold: {f}")
    print(summary)
    sys.exit(0 if QUICK or not failures else 1)
