#!/usr/bin/env python3
"""A soak of the server under a sanitizer: an hour under ASan or 20 minutes under TSan of mixed traffic (chats, streams,
tools, JSON schemas, long prompts, background responses, clients that leave, requests that make no sense, workers that
are killed). No report, no request that fails without a reason, no growth of memory, nothing left behind.

$FATHOM_SOAK_BINARY: a fathom built with -DFATHOM_SANITIZE=address or thread; found out which from the binary.
--quick: 15 s with the binary of the tests, whatever it is built with.
"""
import asyncio
import collections
import glob
import json
import os
import random
import signal
import sys
import tempfile
import time

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
sys.path.insert(0, LIB)
from fixtures import FATHOM, QUICK  # noqa: E402
from serving import Server, nano_with_tools  # noqa: E402

CLIENTS = 12
# Of the front and the last worker, from the end of the first quarter to the end.
GROWTH_LIMIT = 1.10
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
          "required": ["a", "b"], "additionalProperties": False}


def sanitizer(binary):
    with open(binary, "rb") as f:
        data = f.read()
    return "thread" if b"__tsan_init" in data else "address" if b"__asan_init" in data else None


async def call(port, method, path, body=None, leave_after=None):
    """(status, body); with `leave_after` the connection is cut after so many bytes of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        await writer.drain()
        if leave_after is not None:
            await reader.read(leave_after)
            writer.transport.abort()
            return 0, b""
        answer = await asyncio.wait_for(reader.read(-1), 600)
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), rest
    finally:
        writer.close()


def chat(rng, **fields):
    text = f"{rng.randrange(100)}+{rng.randrange(100)}=" if rng.random() < 0.7 else "say " * rng.randrange(1, 400)
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": rng.randrange(1, 120),
            "temperature": rng.choice([0, 1]), "seed": rng.randrange(1000), **fields}


async def one_request(port, rng):
    """One request of a random kind: (its kind, what is wrong or None)."""
    kind = rng.choice(["chat", "stream", "json", "schema", "tool", "leave", "nonsense", "completion", "background",
                       "anthropic", "look", "tokenize"])
    path, expected, leave, method = "/v1/chat/completions", {200}, None, "POST"
    if kind == "chat":
        body = chat(rng, n=rng.choice([1, 1, 2]), logprobs=True, top_logprobs=3)
    elif kind == "stream":
        body = chat(rng, stream=True, user_id=f"u{rng.randrange(5)}")
    elif kind == "json":
        body = chat(rng, response_format={"type": "json_object"})
        body["messages"][0]["content"] += " in json"
    elif kind == "schema":
        body = chat(rng, response_format={"type": "json_schema", "json_schema": {
            "name": "s", "strict": True, "schema": {**SCHEMA, "title": str(rng.randrange(30))}}})
    elif kind == "tool":
        body = chat(rng, tools=[WEATHER], tool_choice="required", stream=rng.random() < 0.5)
    elif kind == "leave":
        body, leave = {**chat(rng, stream=True), "max_tokens": 900}, rng.randrange(1, 4000)
    elif kind == "nonsense":
        body = rng.choice([b"{", b"[]", b"\xff\xfe", b'{"model":"m","messages":7}', b'{"model":"no"}'])
        expected = {400, 404, 422}
    elif kind == "completion":
        path = "/v1/completions"
        body = {"model": "m", "prompt": "1+1=" * rng.randrange(1, 100), "max_tokens": rng.randrange(1, 200),
                "ignore_eos": True}
    elif kind == "background":
        path, body = "/v1/responses", {"model": "m", "input": "2+2=", "background": True, "max_output_tokens": 40}
    elif kind == "anthropic":
        path, body = "/anthropic/v1/messages", chat(rng)
        body.pop("seed")
    elif kind == "look":
        method, body = "GET", None
        path = rng.choice(["/v1/models", "/metrics", "/status", "/health", "/", "/openapi.json"])
    else:
        path, body = "/tokenize", {"model": "m", "content": "text " * rng.randrange(1, 500)}
    try:
        status, answer = await call(port, method, path, body, leave)
        if kind == "background" and status == 200:
            name = json.loads(answer)["id"]
            while json.loads((await call(port, "GET", f"/v1/responses/{name}"))[1])["status"] in ("queued", "in_progress"):
                await asyncio.sleep(0.05)
            await call(port, "DELETE", f"/v1/responses/{name}")
    except Exception as error:  # noqa: BLE001: whatever it is, the request failed
        return kind, f"{type(error).__name__}: {error}"
    if leave is None and (status not in expected or b'"error":' in answer and status == 200 and b"data: " in answer):
        return kind, f"{status} {answer[:200]}"
    return kind, None


def memory_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Dirty:", "Private_Clean:"))) / 1024


async def traffic(server, seconds):
    """(requests of each kind, failures, [(seconds, MiB of the front, worker, MiB of the worker)], kills)."""
    counts, failures, samples, kills, rng = collections.Counter(), [], [], 0, random.Random(6)
    start = time.monotonic()
    end = start + seconds

    async def client(seed):
        own = random.Random(seed)
        while time.monotonic() < end:
            kind, wrong = await one_request(server.port, own)
            counts[kind] += 1
            if wrong:
                failures.append(f"{kind}: {wrong}")

    async def watch():
        nonlocal kills
        killing_ends = start + 0.2 * seconds  # before memory is compared, so that one worker is seen for long
        while time.monotonic() < end:
            await asyncio.sleep(min(seconds / 60, 10))
            workers = [w["pid"] for w in await asyncio.to_thread(server.workers)
                       if w["role"] == "active" and w["state"] == "ready"]
            if not workers:
                continue
            samples.append((time.monotonic() - start, memory_mib(server.process.pid), workers[0],
                            memory_mib(workers[0])))
            if time.monotonic() < killing_ends:
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills += 1

    await asyncio.gather(watch(), *(client(seed) for seed in range(CLIENTS)))
    return counts, failures, samples, kills


def growth(samples, column):
    """Median of the last tenth over that of the tenth after the first 30 %."""
    def middle(part):
        values = sorted(s[column] for s in part)
        return values[len(values) // 2]
    n = len(samples)
    tenth = max(1, n // 10)
    return middle(samples[-tenth:]) / middle(samples[3 * n // 10:3 * n // 10 + tenth])


binary = FATHOM if QUICK else os.environ.get("FATHOM_SOAK_BINARY", "")
if not QUICK and not os.access(binary, os.X_OK):
    print("skipped: $FATHOM_SOAK_BINARY does not name a fathom built with -DFATHOM_SANITIZE=address or thread")
    sys.exit(77)
built_with = sanitizer(binary)
if not QUICK and built_with is None:
    sys.exit(f"{binary} has no sanitizer")
duration = 15 if QUICK else 1200 if built_with == "thread" else 3600
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as reports:
    for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
        os.environ[name] = f"{os.environ.get(name, '')}:log_path={reports}/report:detect_leaks=1"
    os.environ["TSAN_OPTIONS"] += f":suppressions={LIB}/tsan.supp"
    # A cache that is all in use long before memory is compared.
    flags = ["--model-id", "m", "--standby", 1, "--log-level", "error", "--cache-tokens", 8192]
    with Server(nano_with_tools(folder), *flags, binary=binary) as running:
        counted, failed, seen, killed = asyncio.run(traffic(running, duration))
        deadline = time.monotonic() + 60
        while True:
            model = running.status()["models"][0]
            left = model["running"] + model["waiting"] + model["kv_pages_used"] - model["kv_pages_cached"]
            if left == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    found = []
    for report in glob.glob(f"{reports}/report*"):
        with open(report, encoding="utf-8", errors="replace") as f:
            found.append(f.read())
same_worker = [s for s in seen if s[2] == seen[-1][2]]
front, worker = growth(seen, 1), growth(same_worker, 3)
print(", ".join(f"{kind} {n}" for kind, n in sorted(counted.items())), flush=True)
for failure in failed[:5]:
    print("failed:", failure)
for report in found[:2]:
    print(report[:3000])
held = not failed and not found and left == 0 and (QUICK or max(front, worker) <= GROWTH_LIMIT)
print(f"soak, {built_with or 'no'} sanitizer: {sum(counted.values())} requests and {killed} kills in {duration} s, "
      f"{len(failed)} failures, {len(found)} reports, {left} sequences and pages left; memory of the front "
      f"{seen[-1][1]:.0f} MiB ({front:.2f} times what it was), of the worker {seen[-1][3]:.0f} MiB ({worker:.2f} times)")
sys.exit(0 if held else 1)
