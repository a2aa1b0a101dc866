"""What the speed scripts share: files of the real shapes, `fathom bench`, the peers' llama-bench.

Files with random weights lie in $FATHOM_BENCH_DIR (default /tmp/fathom-bench) as SHAPE-TYPE.gguf; see
docs/benchmarks.md for how they are made. Where one is missing, `fathom bench --synthetic` takes its place;
a peer needs the file. Peers: $PEERS/llama.cpp and $PEERS/ik_llama.cpp, each with build/bin/llama-bench.
"""
import json
import os
import statistics
import subprocess
import sys

from fixtures import QUICK, fathom

DIR = os.environ.get("FATHOM_BENCH_DIR", "/tmp/fathom-bench")
PEERS = os.environ.get("PEERS", "")
THREADS = 2
# Alternating runs of each case; fewer where time is short.
ROUNDS = int(os.environ.get("FATHOM_BENCH_ROUNDS", "3"))
SMALL, LITE = "r1-distill-qwen-1.5b", "v2-lite"
LITE_BYTES = 11 << 30


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def path(shape, kind):
    return f"{DIR}/{shape}-{kind}.gguf"


def available(shape):
    """V2-Lite's weights have to fit the memory."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return shape != LITE or os.path.exists(path(shape, "q4_k")) or pages > LITE_BYTES * 1.2


def bench(shape, kind, threads=THREADS, **flags):
    """`fathom bench --json`: the whole answer. threads: None for the program's default."""
    file = path(shape, kind)
    model = [file] if os.path.exists(file) else ["--synthetic", f"{shape}:{kind}"]
    options = [str(v) for k, value in flags.items() for v in (("-" if len(k) == 1 else "--") + k, value)]
    if threads is not None:
        options += ["--threads", threads]
    return json.loads(fathom("bench", *model, "--json", *options))


def peers():
    """The peers that are built: name -> llama-bench."""
    found = {}
    for name in ("llama.cpp", "ik_llama.cpp"):
        binary = f"{PEERS}/{name}/build/bin/llama-bench"
        if PEERS and os.access(binary, os.X_OK):
            found[name] = binary
    return found


def peer_speed(binary, shape, kind, prefill, decode):
    """tokens/s of one llama-bench run; None if it fails."""
    file = path(shape, kind)
    if not os.path.exists(file):
        skip(f"{file} is missing (docs/benchmarks.md says how it is made)")
    done = subprocess.run([binary, "-m", file, "-p", str(prefill), "-n", str(decode), "-t", str(THREADS), "-r", "1",
                           "-o", "json"], capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        print(f"{binary} failed with {done.returncode}: {done.stderr.strip()[-200:]}", flush=True)
        return None
    return json.loads(done.stdout[done.stdout.index("["):])[0]["avg_ts"]


def alternate(shape, kind, rounds, **flags):
    """Alternating runs, ours and each peer's: (median tokens/s of each, our bench answers)."""
    found = peers()
    speeds = {name: [] for name in ("fathom", *found)}
    answers = []
    for _ in range(rounds):
        answers.append(bench(shape, kind, r=1, **flags))
        speeds["fathom"].append(answers[-1]["results"][0]["tokens_per_second"]["median"])
        for name, binary in found.items():
            speed = peer_speed(binary, shape, kind, flags.get("p", 0), flags.get("n", 0))
            if speed is not None:
                speeds[name].append(speed)
    return {name: statistics.median(v) for name, v in speeds.items() if v}, answers


def save(name, rows):
    """Keeps the figures for docs/benchmarks: $FATHOM_BENCH_RESULTS/NAME.json, if that is set."""
    folder = os.environ.get("FATHOM_BENCH_RESULTS")
    if folder:
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/{name}.json", "w", encoding="utf-8") as f:
            json.dump(rows, f, indent=1)
            f.write("\n")


def finish(failures, summary):
    """The figure last; the line holds if nothing failed. With --quick speed is only printed."""
    for failure in failures:
        print("below:", failure)
    print(summary)
    if not QUICK and not peers():
        skip("no peers ($PEERS)")
    sys.exit(0 if QUICK or not failures else 1)
