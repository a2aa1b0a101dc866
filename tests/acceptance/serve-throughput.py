#!/usr/bin/env python3
"""Throughput of the server at 1, 8 and 32 clients against llama.cpp's server on the same GGUF, with the same threads:
prompts of 512 tokens of which 256 are common to all, 64 tokens out. At 32 clients at least 1.3 times its tokens/s,
and a lower median and p99 of the time to the first token at each.

The file: $FATHOM_SERVE_MODEL, or SmolLM2 (scripts/fetch_smollm2.sh). The peer: $PEERS/llama.cpp/build/bin/llama-server.
--quick: 1 and 4 clients, without a peer's server the figures of fathom alone.
"""
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK, smollm2  # noqa: E402
from serving import Server, percentile, stream  # noqa: E402

THREADS, PROMPT, COMMON, OUT = 2, 512, 256, 64
CLIENTS = [1, 4] if QUICK else [1, 8, 32]
REQUESTS = {1: 6, 4: 8, 8: 24, 32: 64}
ROUNDS = 1 if QUICK else int(os.environ.get("FATHOM_BENCH_ROUNDS", "2"))
PEER = os.path.join(os.environ.get("PEERS", ""), "llama.cpp/build/bin/llama-server")


class Peer:
    """llama-server as it comes, with room for all clients."""

    def __init__(self, model):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        slots = max(CLIENTS)
        self.process = subprocess.Popen(
            [PEER, "-m", model, "-t", str(THREADS), "-tb", str(THREADS), "-np", str(slots), "-c",
             str(slots * (PROMPT + OUT + 64)), "--host", "127.0.0.1", "--port", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise SystemExit("llama-server did not become ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


# Each is one token of SmolLM2's after a space. Real words: llama.cpp's server answers 500 where a model's text ends
# within a character, as it may after tokens drawn at random.
WORDS = """the of and to in is that it was for on are as with his they at be this from have or by one had not but what all
were when we there can an your which their said if do will each about how up out them then she many some so these would
other into has more her two like him see time could no make than first been its who now people my made over did down only
way find use may water long little very after words called just where most know""".split()


async def load(port, clients, seed):
    """All requests by `clients` at a time: (tokens/s, times to the first token)."""
    rng = random.Random(seed)
    common = rng.choices(WORDS, k=COMMON)
    queue = [" ".join(common + rng.choices(WORDS, k=PROMPT - COMMON)) for _ in range(REQUESTS[clients])]
    firsts, tokens = [], 0

    async def client():
        nonlocal tokens
        while queue:
            body = {"model": "m", "prompt": queue.pop(), "max_tokens": OUT, "temperature": 0, "ignore_eos": True}
            result = await stream(port, "/v1/completions", body)
            if result.error or result.tokens != OUT:
                sys.exit(f"a request failed: {result.error or result.tokens}")
            firsts.append(result.first)
            tokens += result.tokens

    start = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return tokens / (time.monotonic() - start), firsts


def measure(model):
    """{who: {clients: (tokens/s, p50, p99)}}, alternating."""
    who = {"fathom": lambda: Server(model, "--model-id", "m", "--threads", THREADS, "--log-level", "warning",
                                    "--cache-tokens", max(CLIENTS) * (PROMPT + OUT + 64))}
    if os.access(PEER, os.X_OK):
        who["llama.cpp"] = lambda: Peer(model)
    out = {}
    for name in who:
        out[name] = {c: ([], []) for c in CLIENTS}
    for round_ in range(ROUNDS):
        for name, start in who.items():
            with start() as server:
                asyncio.run(load(server.port, CLIENTS[0], 999))  # warm
                for clients in CLIENTS:
                    speed, firsts = asyncio.run(load(server.port, clients, 10 * round_ + clients))
                    out[name][clients][0].append(speed)
                    out[name][clients][1].extend(firsts)
    return {name: {c: (percentile(v[0], 0.5), percentile(v[1], 0.5), percentile(v[1], 0.99))
                   for c, v in cases.items()} for name, cases in out.items()}


figures = measure(os.environ.get("FATHOM_SERVE_MODEL") or smollm2())
for name, cases in figures.items():
    for clients, (speed, p50, p99) in cases.items():
        print(f"{name}, {clients} clients: {speed:.1f} tokens/s, first token after {p50:.2f} s (median), {p99:.2f} s (p99)")
if os.environ.get("FATHOM_BENCH_RESULTS"):
    with open(os.path.join(os.environ["FATHOM_BENCH_RESULTS"], "serve-throughput.json"), "w", encoding="utf-8") as f:
        json.dump(figures, f, indent=1)
if "llama.cpp" not in figures:
    print("throughput of fathom alone: no peer ($PEERS)")
    sys.exit(0 if QUICK else 77)
ours, theirs = figures["fathom"], figures["llama.cpp"]
ratio = ours[CLIENTS[-1]][0] / theirs[CLIENTS[-1]][0]
lower = all(ours[c][i] <= theirs[c][i] for c in CLIENTS for i in (1, 2))
print(f"{CLIENTS[-1]} clients: {ratio:.2f} times llama.cpp's tokens/s (1.3 wanted), first tokens "
      f"{'all' if lower else 'not all'} sooner")
sys.exit(0 if QUICK or (ratio >= 1.3 and lower) else 1)
