#!/usr/bin/env python3
"""What the server adds to the engine on SmolLM2 in one stream: at most 5 % of the engine's own rate (`fathom bench`,
the same threads and context) and at most 1 ms a token. Rounds in turn, medians. --quick: one short round on nano.

The engine leaves one processor to the front and to this script's client, which are no part of it; with a thread on every
processor (printed too) the three share them, and what is lost is the client's time as well.
"""
import json
import os
import socket
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK, fathom, smollm2  # noqa: E402
from serving import Server  # noqa: E402

ALL = len(os.sched_getaffinity(0))
TOKENS, ROUNDS = 64 if QUICK else 256, 1 if QUICK else 7


def engine_rate(model, threads):
    """tokens/s of decode after an almost empty cache."""
    answer = json.loads(fathom("bench", model, "--threads", threads, "--json", "-p", "0", "-n", str(TOKENS), "-r", "1"))
    return answer["results"][0]["tokens_per_second"]["median"]


def server_rate(server, seed):
    """tokens/s from the first token of a stream to its last. The client does as little as can be while it reads: it
    shares the processors with what is measured."""
    body = json.dumps({"model": "m", "prompt": [7, 8, 9, 10 + seed], "max_tokens": TOKENS, "temperature": 0,
                       "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}).encode()
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        pieces, first, last = [], None, None
        while piece := s.recv(1 << 16):
            pieces.append(piece)
            if b'"finish_reason":null' in piece:
                last = time.monotonic()
                first = first or last
    text = b"".join(pieces)
    if b'"completion_tokens":%d' % TOKENS not in text or b"[DONE]" not in text:
        sys.exit(f"a request failed: {text[-500:]}")
    return (TOKENS - 1) / (last - first)


def compare(path, threads):
    """The share that is lost, and the milliseconds added to a token."""
    engine, served = [], []
    with Server(path, "--model-id", "m", "--threads", threads, "--speculate", 0, "--log-level", "warning") as running:
        server_rate(running, -1)
        for i in range(ROUNDS):
            served.append(server_rate(running, i))
            engine.append(engine_rate(path, threads))
    own, through = statistics.median(engine), statistics.median(served)
    lost, added_ms = 1 - through / own, 1000 * (1 / through - 1 / own)
    print(f"{threads} of {ALL} processors: engine alone {own:.1f} tokens/s, through the server {through:.1f}: "
          f"{100 * lost:.1f} % less (at most 5 %), {added_ms:.2f} ms more a token (at most 1 ms)")
    return lost, added_ms


model = NANO if QUICK else smollm2()
if ALL > 1:
    compare(model, ALL)
lost, added_ms = compare(model, max(ALL - 1, 1))
sys.exit(0 if QUICK or (lost <= 0.05 and added_ms <= 1) else 1)
