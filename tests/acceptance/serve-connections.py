#!/usr/bin/env python3
"""Connections that do harm: 10,000 at a time that send nothing, half a header, do not read their answers, are half
closed, or are cut. The server's memory must stay bounded, and another client's p99 latency within 20 % of what it is
without them: the median of rounds, with and without them in turn. Then 1,000 clients that leave in the middle of a
stream must leave no sequence and no page behind.

--quick: 500 connections, 50 leaving clients, and latencies printed only.
"""
import asyncio
import http.client
import json
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK  # noqa: E402
from serving import Server, percentile  # noqa: E402

CONNECTIONS, LEAVING, ROUNDS, REQUESTS = (500, 50, 2, 60) if QUICK else (10_000, 1000, 9, 400)
SHARES = {"silent": 0.74, "half a header": 0.10, "slow reader": 0.10, "slow stream": 0.01, "half closed": 0.05}
MOST_BYTES_EACH = 32 << 10  # of the server's memory for a connection of the crowd, on average
MOST_SLOWER = 1.2
CUTS_PER_S = 20  # connections that the crowd opens and cuts while it stands
ASK = {"model": "m", "prompt": "12+30=", "max_tokens": 16, "temperature": 0, "ignore_eos": True}


def post(path, body):
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


def reset_on_close(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def crowd(port, count):
    """A process of its own: holds `count` connections until its standard input ends."""
    held = []

    def connect(i, receive_buffer=None):
        s = socket.socket()
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.bind((f"127.0.0.{2 + i % 50}", 0))  # no lack of ports
        s.connect(("127.0.0.1", port))
        return s

    for kind, share in SHARES.items():
        for i in range(int(count * share)):
            s = connect(i, 4096 if kind.startswith("slow") else None)
            if kind == "half a header":
                s.send(b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Part: 1")
            elif kind == "slow reader":
                s.send(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            elif kind == "slow stream":
                s.send(post("/v1/completions", {**ASK, "max_tokens": 256, "stream": True}))
            elif kind == "half closed":
                s.send(b"GET /status HTTP/1.1\r\nHo")
                s.shutdown(socket.SHUT_WR)
            if i % 2:
                reset_on_close(s)
            held.append(s)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 1 / CUTS_PER_S)[0]:
        s = connect(len(held))
        s.send(post("/v1/completions", ASK)[:90])
        reset_on_close(s)
        s.close()


class Crowd:
    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--crowd", str(port),
                                         str(CONNECTIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            self.process.wait()
            sys.exit("the crowd could not connect")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def wait_until(what, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            print(f"after {seconds} s still not: {what}", flush=True)
            return False
        time.sleep(0.1)
    return True


def idle(server):
    m = server.status()["models"][0]
    return m["running"] == 0 and m["waiting"] == 0


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


def latencies(port, texts):
    """Seconds of REQUESTS requests, every other on a connection of its own."""
    kept, out = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
    body = json.dumps(ASK)
    for i in range(REQUESTS):
        start = time.monotonic()
        connection = kept if i % 2 else http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        out.append(time.monotonic() - start)
        texts.add((answer.status, json.loads(text)["choices"][0]["text"] if answer.status == 200 else text))
        if connection is not kept:
            connection.close()
    kept.close()
    return out


def measure_crowd(server):
    pid, memory, rounds, texts, failures = server.process.pid, [], [], set(), []
    latencies(server.port, texts)  # warm
    before = rss(pid)
    for _ in range(ROUNDS):
        quiet = latencies(server.port, texts)
        with Crowd(server.port):
            if not wait_until("the slow streams are computed", lambda: idle(server)):
                failures.append("slow streams occupy the engine")
            there = server.status()["http"]["connections"]
            if there < CONNECTIONS * (1 - SHARES["half closed"]) - 5:
                failures.append(f"only {there} connections are open")
            crowded = latencies(server.port, texts)
            memory.append(rss(pid))
        rounds.append((quiet, crowded))
        if not wait_until("the crowd's connections are gone", lambda: server.status()["http"]["connections"] <= 2):
            failures.append("connections stay")
    after = rss(pid)
    if len(texts) != 1 or next(iter(texts))[0] != 200:
        failures.append(f"answers differ: {list(texts)[:3]}")
    each = (max(memory) - before) / CONNECTIONS
    for share in (0.5, 0.99):
        q, c = (sorted(1e3 * percentile(r[k], share) for r in rounds) for k in (0, 1))
        ratio = percentile([c / q for q, c in ((percentile(a, share), percentile(b, share)) for a, b in rounds)], 0.5)
        q, c = percentile(q, 0.5), percentile(c, 0.5)
        print(f"latency p{100 * share:.0f}, median of {ROUNDS} rounds: {q:.2f} ms without, {c:.2f} ms with "
              f"{CONNECTIONS} connections; ratio of a round's two: median {ratio:.2f}", flush=True)
    if not QUICK and min(ratio, c / q) > MOST_SLOWER:
        failures.append(f"p99 is {ratio:.2f} times that without them, at most {MOST_SLOWER} allowed")
    mib = 1 << 20
    print(f"server memory: {before / mib:.1f} MiB before, {memory[0] / mib:.1f} MiB with the first {CONNECTIONS} "
          f"connections, at most {max(memory) / mib:.1f} MiB, {after / mib:.1f} MiB after round {ROUNDS}; "
          f"{each / 1024:.1f} KiB a connection", flush=True)
    if each > MOST_BYTES_EACH:
        failures.append(f"{each / 1024:.1f} KiB a connection, at most {MOST_BYTES_EACH >> 10} allowed")
    if max(memory) > memory[0] * 1.25 + 8 * mib:
        failures.append("memory grows from round to round")
    return failures


async def leave(port, rng, turns, seen):
    """Asks for a long stream and leaves, at once or after some events: closed, reset or half closed."""
    async with turns:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/completions", {**ASK, "prompt": f"{rng.randrange(10**6)}+" * rng.choice([1, 20]),
                                              "max_tokens": 1500, "stream": True}))
        await writer.drain()
        status = "not waited for"
        for i in range(rng.choice([0, 1, 15, 40, 120])):
            line = await asyncio.wait_for(reader.readline(), 120)
            if i == 0:
                status = line.split()[1].decode() if line.startswith(b"HTTP/") else "none"
        seen[status] = seen.get(status, 0) + 1
        how = rng.randrange(3)
        if how == 0:
            reset_on_close(writer.get_extra_info("socket"))
        elif how == 1:
            writer.write_eof()
            await asyncio.sleep(0.05)
        writer.transport.abort() if how == 0 else writer.close()


async def all_leave(port, seen):
    rng, turns = random.Random(6), asyncio.Semaphore(64)
    await asyncio.gather(*(leave(port, rng, turns, seen) for _ in range(LEAVING)))


def measure_leaving(server):
    seen = {}
    before = server.status()["models"][0]
    asyncio.run(all_leave(server.port, seen))
    start = time.monotonic()

    def nothing_left():
        m = server.status()["models"][0]
        return m["running"] == m["waiting"] == 0 and m["kv_pages_used"] == m["kv_pages_cached"]

    ended = wait_until("nothing is left of clients that left", nothing_left, 10)
    after = server.status()["models"][0]
    print(f"{LEAVING} clients left in the middle (answers by status {seen}), "
          f"{after['generation_tokens_total'] - before['generation_tokens_total']} tokens made for them; "
          f"{time.monotonic() - start:.1f} s later: {after['running']} running, {after['waiting']} waiting, "
          f"{after['kv_pages_used'] - after['kv_pages_cached']} pages in use beyond {after['kv_pages_cached']} cached ones",
          flush=True)
    failures = [] if ended else ["clients that left leave sequences or pages behind"]
    if set(seen) != {"200", "not waited for"}:
        failures.append(f"not every request got its stream: {seen}")
    return failures


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < CONNECTIONS + 500:
        print(f"skipped: at most {hard} open files for a process here, {CONNECTIONS + 500} needed")
        return 77
    # Deadlines that would thin the crowd out are put off: this is about what connections cost while they last.
    put_off = [f for name in ("idle", "header", "send") for f in (f"--limits-{name}-timeout-s", 3600)]
    with Server(NANO, "--model-id", "m", "--log-level", "error", "--limits-max-connections", CONNECTIONS + 2000,
                *put_off) as server:
        failures = measure_crowd(server) + measure_leaving(server)
    for failure in failures:
        print(f"fails: {failure}")
    print(f"connections: {'hold' if not failures else 'do not hold'}")
    return 1 if failures else 0


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if "--crowd" in sys.argv:
    crowd(*map(int, sys.argv[sys.argv.index("--crowd") + 1:][:2]))
else:
    sys.exit(main())
