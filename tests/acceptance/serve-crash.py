#!/usr/bin/env python3
"""Streams survive their engine: 32 at a time at temperature 1, 1,500 tokens each, on nano and on the random V3
fixture, while the active worker is killed (-9) every 2 to 5 s, at least 50 times. No request may fail, every text
must be that of an undisturbed run, and the pause p99 must be at most 1.5 s. The same on SmolLM2
(scripts/fetch_smollm2.sh) with prompts of 1,024 tokens and 256 tokens out: at most 3 s.

--only NAME: nano, v3, smollm2, v32 or v4 alone (the last two only so: sparse attention, window pages). --stop:
SIGSTOP instead of SIGKILL (p99 may be 4 s more). --limit S: the pause p99 that is allowed. --quick: 8 streams of 300 tokens, 3 kills, nano alone.
"""
import asyncio
import os
import random
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK, smollm2  # noqa: E402
from serving import Server, percentile, stream, fixture_with_text  # noqa: E402

STOP = "--stop" in sys.argv[1:]
ONLY = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else "nano" if QUICK else None
LIMIT_S = float(sys.argv[sys.argv.index("--limit") + 1]) if "--limit" in sys.argv else 0
STREAMS, TOKENS, KILLS = (8, 300, 3) if QUICK else (32, 1500, 50)


class Case:
    """A model and what is asked of it; `prompt_tokens` of any text, or a small sum where it is 0."""

    def __init__(self, name, model, prompt_tokens=0, tokens=TOKENS, limit_s=1.5):
        self.name, self.model, self.prompt_tokens, self.tokens = name, model, prompt_tokens, tokens
        self.limit_s = LIMIT_S or limit_s + (4 if STOP else 0)
        self.flags = ["--cache-tokens", STREAMS * (prompt_tokens + tokens + 64)] if prompt_tokens else []

    def request(self, seed):
        prompt = f"{seed}+{seed % 7}="
        if self.prompt_tokens:
            rng = random.Random(seed)
            prompt = [rng.randrange(1000, 20000) for _ in range(self.prompt_tokens)]
        return {"model": "m", "prompt": prompt, "max_tokens": self.tokens, "temperature": 1, "seed": seed,
                "ignore_eos": True}

    async def wave(self, port, seeds):
        return await asyncio.gather(*(stream(port, "/v1/completions", self.request(s)) for s in seeds))


async def kill_now_and_then(server, kills, stop, rng):
    """Kills the active worker until told to stop; notes when."""
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), rng.uniform(0.5, 1) if QUICK else rng.uniform(2, 5))
            return
        except asyncio.TimeoutError:
            pass
        workers = await asyncio.to_thread(server.workers)
        pids = [w["pid"] for w in workers if w["role"] == "active" and w["state"] == "ready"]
        if pids:
            os.kill(rng.choice(pids), signal.SIGSTOP if STOP else signal.SIGKILL)
            kills.append(time.monotonic())


async def disturbed(case, server, expected):
    """Waves of streams until enough kills fell into them: (pauses, failures)."""
    rng, kills, pauses, failures, stop = random.Random(4), [], [], [], asyncio.Event()
    killer = asyncio.create_task(kill_now_and_then(server, kills, stop, rng))
    deadline = time.monotonic() + (120 if QUICK else 1500)
    while len(kills) < KILLS and time.monotonic() < deadline:
        results = await case.wave(server.port, list(expected))
        for seed, result in zip(expected, results):
            if result.error:
                failures.append(f"seed {seed}: {result.error}")
            elif result.text != expected[seed]:
                same = os.path.commonprefix([result.text, expected[seed]])
                failures.append(f"seed {seed}: text differs from byte {len(same.encode())} on")
            times = result.arrivals
            for before, after in zip(times, times[1:]):
                if any(before <= k <= after for k in kills):
                    pauses.append(after - before)
    stop.set()
    await killer
    if len(kills) < KILLS:
        failures.append(f"only {len(kills)} kills, expected {KILLS}")
    return kills, pauses, failures


def measure(case):
    name, seeds = case.name, range(100, 100 + STREAMS)
    with Server(case.model, "--model-id", "m", "--standby", 1, "--log-level", "warning", *case.flags) as server:
        plain = asyncio.run(case.wave(server.port, seeds))
        for result in plain:
            if result.error or result.tokens != case.tokens:
                sys.exit(f"{name}: the undisturbed run failed: {result.error or result.tokens}")
        expected = {seed: r.text for seed, r in zip(seeds, plain)}
        kills, pauses, failures = asyncio.run(disturbed(case, server, expected))
    p99 = percentile(pauses, 0.99)
    for failure in failures[:5]:
        print(f"{name}: {failure}")
    print(f"{name}: {len(kills)} kills, {len(failures)} failures, {len(pauses)} pauses: median "
          f"{percentile(pauses, 0.5):.2f} s, p99 {p99:.2f} s (at most {case.limit_s} s), longest "
          f"{max(pauses, default=0):.2f} s", flush=True)
    return not failures and (QUICK or p99 <= case.limit_s)


with tempfile.TemporaryDirectory() as folder:
    cases = {"nano": lambda: Case("nano", NANO),
             "v3": lambda: Case("random V3", fixture_with_text(folder)),
             "v32": lambda: Case("random V3.2", fixture_with_text(folder, "deepseek_v32")),
             "v4": lambda: Case("random V4", fixture_with_text(folder, "deepseek_v4")),
             "smollm2": lambda: Case("SmolLM2", smollm2(), prompt_tokens=1024, tokens=256, limit_s=3)}
    wanted = [ONLY] if ONLY else ["nano", "v3", "smollm2"]
    held = [measure(make()) for key, make in cases.items() if key in wanted]
print(f"{'SIGSTOP' if STOP else 'kill -9'}: {'holds' if all(held) else 'does not hold'}")
sys.exit(0 if all(held) else 1)
