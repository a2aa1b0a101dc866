#!/usr/bin/env python3
"""Streams survive their engine: 32 at a time at temperature 1, 1,500 tokens each, on nano and on the random V3
fixture, while the active worker is killed (-9) every 2 to 5 s, at least 50 times. No request may fail, every text
must be that of an undisturbed run, and the pause p99 must be at most 1.5 s.

--stop: SIGSTOP instead of SIGKILL (p99 may be 4 s more). --quick: 8 streams of 300 tokens, 3 kills, nano alone.
"""
import asyncio
import os
import random
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK  # noqa: E402
from serving import Server, percentile, stream, v3_with_text  # noqa: E402

STOP = "--stop" in sys.argv[1:]
STREAMS, TOKENS, KILLS = (8, 300, 3) if QUICK else (32, 1500, 50)
LIMIT_S = 1.5 + (4 if STOP else 0)


def request(seed):
    return {"model": "m", "prompt": f"{seed}+{seed % 7}=", "max_tokens": TOKENS, "temperature": 1, "seed": seed,
            "ignore_eos": True}


async def wave(port, seeds):
    return await asyncio.gather(*(stream(port, "/v1/completions", request(s)) for s in seeds))


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


async def disturbed(server, expected):
    """Waves of streams until enough kills fell into them: (pauses, failures)."""
    rng, kills, pauses, failures, stop = random.Random(4), [], [], [], asyncio.Event()
    killer = asyncio.create_task(kill_now_and_then(server, kills, stop, rng))
    deadline = time.monotonic() + (120 if QUICK else 1500)
    while len(kills) < KILLS and time.monotonic() < deadline:
        results = await wave(server.port, list(expected))
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


def measure(name, model):
    seeds = range(100, 100 + STREAMS)
    with Server(model, "--model-id", "m", "--standby", 1, "--log-level", "warning") as server:
        plain = asyncio.run(wave(server.port, seeds))
        for result in plain:
            if result.error or result.tokens != TOKENS:
                sys.exit(f"{name}: the undisturbed run failed: {result.error or result.tokens}")
        expected = {seed: r.text for seed, r in zip(seeds, plain)}
        kills, pauses, failures = asyncio.run(disturbed(server, expected))
    p99 = percentile(pauses, 0.99)
    for failure in failures[:5]:
        print(f"{name}: {failure}")
    print(f"{name}: {len(kills)} kills, {len(failures)} failures, {len(pauses)} pauses: median "
          f"{percentile(pauses, 0.5):.2f} s, p99 {p99:.2f} s, longest {max(pauses, default=0):.2f} s", flush=True)
    return not failures and (QUICK or p99 <= LIMIT_S)


with tempfile.TemporaryDirectory() as folder:
    cases = [("nano", NANO)] + ([] if QUICK else [("random V3", v3_with_text(folder))])
    held = [measure(name, model) for name, model in cases]
print(f"{'SIGSTOP' if STOP else 'kill -9'}: {'holds' if all(held) else 'does not hold'} (p99 at most {LIMIT_S} s)")
sys.exit(0 if all(held) else 1)
