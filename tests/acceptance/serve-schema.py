#!/usr/bin/env python3
"""Answers keep to their schema: 500 random JSON schemas, two answers each of nano and one of the random V3 fixture, at
temperature 1. Every answer that ended by itself must parse and validate by the package jsonschema; answers that
max_tokens cut are counted, and at most 5 % may be.

Then, if it was built (cmake --preset bench, or $BENCH_GRAMMAR), what masks cost with DeepSeek-V3's 128k vocabulary.
jsonschema comes from PyPI into build/tools/jsonschema. --quick: 25 schemas. --seed N: other schemas.
"""
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA, NANO, QUICK, ROOT  # noqa: E402
from json_schemas import Schemas  # noqa: E402
from serving import Server, stream, fixture_with_text  # noqa: E402

PACKAGES = ["jsonschema==4.26.0", "rfc3339-validator==0.1.4"]  # the latter checks date-time and time
TOOLS = os.path.join(ROOT, "build/tools/jsonschema")
SCHEMAS, AT_ONCE, MAX_TOKENS = 25 if QUICK else 500, 16, 1500
MOST_CUT = 0.05
SEED = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 5


def in_tools_python():
    """Runs this script again by a Python that has jsonschema."""
    python = os.path.join(TOOLS, "bin/python")
    if sys.prefix == TOOLS:
        return
    check = [python, "-c", "import jsonschema, rfc3339_validator"]
    if not os.path.exists(python) or subprocess.run(check, capture_output=True).returncode != 0:
        made = subprocess.run([sys.executable, "-m", "venv", TOOLS], capture_output=True, text=True)
        if made.returncode == 0:
            made = subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True)
        if made.returncode != 0:
            print(f"skipped: no {PACKAGES[0]} in {TOOLS}: {(made.stderr or made.stdout).strip()[-300:]}")
            sys.exit(77)
    os.execv(python, [python, *sys.argv])


def v3_with_chat(folder):
    """The random V3 fixture with a tokenizer and the published chat template."""
    fixture_with_text(folder)
    with open(os.path.join(DATA, "chat_templates/deepseek_v3.jinja"), encoding="utf-8") as f:
        template = f.read()
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump({"chat_template": template}, f)
    return folder


def request(schema, seed):
    body = {"model": "m", "messages": [{"role": "user", "content": f"{seed}+{seed % 7}="}], "temperature": 1,
            "seed": seed, "max_tokens": MAX_TOKENS, "thinking": {"type": "disabled"},
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}}
    return body


async def answers(port, work):
    """Results of (schema, seed) pairs, AT_ONCE at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(schema, seed):
        async with turns:
            return await stream(port, "/v1/chat/completions", request(schema, seed))
    return await asyncio.gather(*(one(*w) for w in work))


def fault(schema, text):
    """Why a text is no answer to a schema, or None."""
    import jsonschema
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"not JSON: {error}"
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    error = next(validator.iter_errors(value), None)
    return error and f"{error.json_path}: {error.message[:200]}"


def measure(name, model, schemas, each):
    work = [(s, 1000 * i + k) for i, s in enumerate(schemas) for k in range(each)]
    start = time.monotonic()
    with Server(model, "--model-id", "m", "--log-level", "warning") as server:
        results = asyncio.run(answers(server.port, work))
    seconds = time.monotonic() - start
    ended = cut = 0
    faults = []
    for (schema, seed), r in zip(work, results):
        if r.error or r.finish not in ("stop", "length"):
            faults.append(f"seed {seed}: {str(r.error or r.finish).splitlines()[-1][-400:]}; schema {json.dumps(schema, ensure_ascii=False)[:900]}")
        elif r.finish == "length":
            cut += 1
        else:
            ended += 1
            why = fault(schema, r.text)
            if why:
                faults.append(f"seed {seed}: {why}\n  text {r.text[:600]!r}\n  schema "
                              f"{json.dumps(schema, ensure_ascii=False)[:1500]}")
    for f in faults[:8]:
        print(f"{name}: {f}")
    tokens = sum(r.tokens for r in results)
    print(f"{name}: {len(schemas)} schemas, {len(work)} answers: {ended} ended, {len(faults)} at fault, {cut} cut by "
          f"length ({100 * cut / len(work):.1f} %), "
          f"{len({r.text for r in results})} different texts, {tokens} tokens in {seconds:.0f} s", flush=True)
    return not faults and cut <= MOST_CUT * len(work)


def mask_cost():
    """Runs bench_grammar, if it is there, and prints its rows."""
    built = os.environ.get("BENCH_GRAMMAR", os.path.join(ROOT, "build/bench/bench/bench_grammar"))
    if not os.access(built, os.X_OK):
        print(f"mask cost not measured: no {os.path.relpath(built, ROOT)}")
        return
    done = subprocess.run([built, "--benchmark_min_time=0.2"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{built}: exit {done.returncode}\n{done.stderr}")
    for line in done.stdout.splitlines():
        if re.match(r"\w+(/\S+)?\s+\d", line):
            print(line)


in_tools_python()
made = Schemas(random.Random(SEED))
schemas = [made.one() for _ in range(SCHEMAS)]
with tempfile.TemporaryDirectory() as folder:
    held = [measure("nano", NANO, schemas, 2), measure("random V3", v3_with_chat(folder), schemas, 1)]
if not QUICK:
    mask_cost()
print("keywords drawn: " + ", ".join(f"{k} {n}" for k, n in sorted(made.features.items())))
print(f"schemas: {'hold' if all(held) else 'do not hold'} (all that ended valid, at most {100 * MOST_CUT:.0f} % cut)")
sys.exit(0 if all(held) else 1)
