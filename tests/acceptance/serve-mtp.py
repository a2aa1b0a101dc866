#!/usr/bin/env python3
"""Speculation with the model's own MTP module: one client of nano gets at least 1.3 times the tokens/s, greedy and at
temperature 1, in its longest answers (rounds with and without in turn, the median of their ratios), and on the random V3 fixture, where
most drafts are wrong, 40 answers of 200 tokens, greedy and sampled, one and four at a time, are what they are
without, to the last bit of every logprob.

--quick: fewer prompts and rounds; the speed is printed only. --speed: that alone.
"""
import concurrent.futures
import http.client
import json
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK  # noqa: E402
from serving import Server, fixture_with_text  # noqa: E402

ROUNDS, QUESTIONS = (2, 12) if QUICK else (15, 40)
PROMPTS, TOKENS = (8, 60) if QUICK else (40, 200)
FASTER = 1.3
FLAGS = ["--model-id", "m", "--log-level", "warning"]


def ask(connection, path, body):
    connection.request("POST", path, json.dumps({"model": "m", **body}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {text[:500]}")
    return json.loads(text)


def connect(server):
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)


def counts(server):
    m = server.status()["models"][0]
    return m["draft_tokens_total"], m["accepted_tokens_total"]


def questions():
    """Multiplications, nano's longest answers (120 tokens): those of 10 tokens are over within one prompt's time."""
    with open(os.path.join(NANO, "eval.jsonl"), encoding="utf-8") as f:
        rows = [r for r in map(json.loads, f) if r["task"] == "mul"]
    return [r["messages"] for r in rows[::len(rows) // QUESTIONS][:QUESTIONS]]


def tokens_per_s(server, temperature):
    """(tokens/s of one client that asks one question after the other, the answers)."""
    connection, tokens, texts, start = connect(server), 0, [], time.monotonic()
    for seed, messages in enumerate(questions()):
        answer = ask(connection, "/v1/chat/completions", {"messages": messages, "temperature": temperature,
                                                          "seed": seed, "max_tokens": 400})
        tokens += answer["usage"]["completion_tokens"]
        texts.append([{k: v for k, v in c.items() if k != "id"} for c in answer["choices"]])
    return tokens / (time.monotonic() - start), texts


def measure_speed():
    held = True
    with Server(NANO, *FLAGS) as drafting, Server(NANO, *FLAGS, "--speculate", 0) as plain:
        for temperature in (0, 1):
            name = "greedy" if temperature == 0 else f"temperature {temperature}"
            tokens_per_s(drafting, temperature), tokens_per_s(plain, temperature)  # warm: caches of prompts are full
            before, ratios, speeds = counts(drafting), [], ([], [])
            for i in range(ROUNDS):
                order = [0, 1] if i % 2 else [1, 0]
                got = {k: tokens_per_s((drafting, plain)[k], temperature) for k in order}
                if got[0][1] != got[1][1]:
                    print(f"nano, {name}: answers differ")
                    held = False
                for k in order:
                    speeds[k].append(got[k][0])
                ratios.append(got[0][0] / got[1][0])
            drafted, accepted = (b - a for a, b in zip(before, counts(drafting)))
            ratio = statistics.median(ratios)
            held = held and (QUICK or ratio >= FASTER)
            print(f"nano, {name}: {statistics.median(speeds[0]):.0f} tokens/s with drafts, "
                  f"{statistics.median(speeds[1]):.0f} without; median ratio {ratio:.2f} ({min(ratios):.2f} to "
                  f"{max(ratios):.2f}); {accepted} of {drafted} drafts accepted ({100 * accepted / max(drafted, 1):.0f} %)", flush=True)
        if counts(plain)[0] != 0:
            print("nano: --speculate 0 drafts")
            held = False
    return held


def choices(server, temperature, at_once):
    def one(seed):
        body = {"prompt": f"{seed} abc dip " * (1 + seed % 9), "max_tokens": TOKENS, "temperature": temperature,
                "seed": seed, "ignore_eos": True, "logprobs": 2}
        answer = ask(connect(server), "/v1/completions", body)
        return answer["choices"], answer["usage"]["completion_tokens"]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(PROMPTS)))


def measure_same(folder):
    """Answers of the random V3 fixture with and without drafts."""
    held, model = True, fixture_with_text(folder)
    with Server(model, *FLAGS) as drafting, Server(model, *FLAGS, "--speculate", 0) as plain:
        for temperature in (0, 1):
            expected = choices(plain, temperature, 1)
            for at_once in (1, 4):
                before = counts(drafting)
                got = choices(drafting, temperature, at_once)
                time.sleep(0.3)  # the counters come with heartbeats
                drafted, accepted = (b - a for a, b in zip(before, counts(drafting)))
                different = sum(a != b for a, b in zip(got, expected))
                full = all(n == TOKENS for _, n in got)
                held = held and different == 0 and full and drafted - accepted > PROMPTS
                print(f"random V3, temperature {temperature}, {at_once} at a time: {different} of {PROMPTS} answers of "
                      f"{TOKENS} tokens differ{'' if full else ', and some are short'}; {accepted} of {drafted} drafts "
                      f"accepted ({100 * accepted / max(drafted, 1):.1f} %)", flush=True)
        if counts(plain)[0] != 0:
            print("random V3: --speculate 0 drafts")
            held = False
    return held


with tempfile.TemporaryDirectory() as folder:
    same = "--speed" in sys.argv or measure_same(folder)
fast = measure_speed()
print(f"speculation: {'holds' if same and fast else 'does not hold'} (the same answers, {FASTER} times the speed)")
sys.exit(0 if same and fast else 1)
