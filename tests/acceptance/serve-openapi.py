#!/usr/bin/env python3
"""The server does what its /openapi.json says: schemathesis sends what the document allows and what it forbids, to
every operation in it. No answer is a 5xx, none breaks its schema, none has a status or content type that the document
lacks, nothing forbidden is accepted, nothing is answered without a key.

A context of 256 tokens keeps the answers short. schemathesis is installed into build/tools in the version that
lib/requirements-openapi.txt names. --quick: a few examples an operation. $SEED: other examples than usual.
"""
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK  # noqa: E402
from serving import Server  # noqa: E402
from tools import python_with  # noqa: E402

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
KEY = "sk-acceptance-0123456789abcdef"
EXAMPLES = 3 if QUICK else 20
BUDGET_S = 170  # of a full run, which repeats its random part until then
# What a schema cannot say (a tool_choice without tools, a prompt that is too long) is refused, and rightly so.
LEFT_OUT = ["positive_data_acceptance"]
# Does what it is told, and then all others are refused; tests/e2e/serve_test.py has it.
NOT_CALLED = "/models/{model}/unload"


def run_schemathesis(program, server, folder):
    """(the finished process, the path of the record of all requests)"""
    base = f"http://127.0.0.1:{server.port}"
    record = os.path.join(folder, "record.har")
    environment = {**os.environ, "FATHOM_BASE": base, "FATHOM_KEY": KEY, "FATHOM_MODEL": "nano",
                   "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": LIB, "PYTHONDONTWRITEBYTECODE": "1"}
    document = os.path.join(folder, "openapi.json")
    with open(document, "w") as f:
        f.write(server.get("/openapi.json"))
    command = [program, "run", document, "--url", base, "--header", f"Authorization: Bearer {KEY}",
               "--max-examples", str(EXAMPLES), "--exclude-checks", ",".join(LEFT_OUT), "--seed",
               os.environ.get("SEED", "4"), "--phases", "fuzzing" if QUICK else "coverage,fuzzing",
               "--suppress-health-check", "all", "--request-timeout", "20", "--generation-database", "none",
               "--exclude-path", NOT_CALLED, "--continue-on-failure", "--no-color", "--report", "har", "--report-har-path", record]
    if not QUICK:
        command += ["--max-time", str(BUDGET_S)]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=55 if QUICK else BUDGET_S + 120)
    return done, record


def operation_of(method, path, operations):
    for name in operations:
        if name[0] == method and re.fullmatch(re.sub(r"\\\{[^/]*\\\}|\{[^/]*\}", "[^/]*", name[1]), path):
            return name
    return None


def counted(record, operations):
    """Requests by operation and by status, and the operations that did what was asked."""
    by_operation, by_status, done = collections.Counter(), collections.Counter(), set()
    with open(record) as f:
        entries = json.load(f)["log"]["entries"]
    for entry in entries:
        path = entry["request"]["url"].split("?")[0].split("/", 3)[-1]
        operation = operation_of(entry["request"]["method"].lower(), "/" + path, operations)
        status = entry["response"]["status"]
        by_operation[operation] += 1
        by_status[status] += 1
        if status == 200:
            done.add(operation)
    return by_operation, by_status, done


program = os.path.join(python_with("schemathesis", os.path.join(LIB, "requirements-openapi.txt"),
                                   45 if QUICK else 300), "schemathesis")
with tempfile.TemporaryDirectory() as folder:
    keys = os.path.join(folder, "keys")
    with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
        f.write(f"tester:{KEY}\n")
    with Server(NANO, "--model-id", "nano", "--context", 256, "--api-key-file", keys, "--log-level", "warning",
                key=KEY) as server:
        paths = json.loads(server.get("/openapi.json"))["paths"]
        operations = [(method, path) for path, item in paths.items() if path != NOT_CALLED
                      for method in item]
        done, record = run_schemathesis(program, server, folder)
        restarts = sum(w["restarts"] for m in server.status()["models"] for w in m["workers"])
    if not os.path.exists(record):
        sys.exit(f"schemathesis did not run:\n{done.stdout[-3000:]}")
    by_operation, by_status, answered = counted(record, operations)
missed = [f"{m} {p}" for m, p in operations if not by_operation[(m, p)]]
faults = sum(n for status, n in by_status.items() if status >= 500 or status == 0)
if done.returncode != 0:
    print(done.stdout[-12000:])
for name in missed:
    print(f"not asked: {name}")
print(f"openapi: {sum(by_status.values())} requests to {len(operations) - len(missed)} of {len(operations)} operations, "
      f"{len(answered)} of which answered with 200; by status: {', '.join(f'{s}: {n}' for s, n in sorted(by_status.items()))}")
held = done.returncode == 0 and not missed and not faults and not restarts
print(f"openapi: {'no violation' if held else 'violated'}, {faults} answers of 5xx, {restarts} restarts of a worker")
sys.exit(0 if held else 1)
