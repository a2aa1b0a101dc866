#!/usr/bin/env python3
"""Prompts of V3.2 and V4 through `fathom chat-render`, byte-exact: every conversation of golden_v32.json and
golden_v4.json. V4's completions are taken apart by chat_test. --quick: every fifth conversation."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA, FATHOM, QUICK  # noqa: E402

BUILD = os.path.dirname(os.path.dirname(os.path.abspath(FATHOM)))


def render(case, work):
    def file(name, value):
        path = f"{work}/{name}.json"
        with open(path, "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False)
        return path

    options = case["options"]
    flags = ["--thinking" if options.get("thinking") else "--no-thinking"]
    if options.get("reasoning_effort"):
        flags += ["--reasoning-effort", options["reasoning_effort"]]
    if options.get("drop_thinking") is False:
        flags.append("--keep-thinking")
    if case.get("tools"):
        flags += ["--tools", file("tools", case["tools"])]
    if case.get("response_format"):
        flags += ["--response-schema", file("schema", case["response_format"])]
    done = subprocess.run([FATHOM, "chat-render", case["family"], "--messages", file("messages", case["messages"]),
                           *flags], capture_output=True)
    return done.stdout.decode() if done.returncode == 0 else None


cases = []
for name in ("golden_v32.json", "golden_v4.json"):
    with open(f"{DATA}/chat_templates/{name}", encoding="utf-8") as f:
        cases += json.load(f)["cases"][::5 if QUICK else 1]
bad = 0
with tempfile.TemporaryDirectory() as work:
    for case in cases:
        if render(case, work) != case.get("rendered"):
            bad += 1
            print(f"differs: {case['family']} {case['conversation']} {case['options']}")
completions = subprocess.run([f"{BUILD}/src/chat/chat_test", "--gtest_filter=ChatGolden.CompletionsOfV4"],
                             capture_output=True, text=True)
ran = completions.returncode == 0 and "[  PASSED  ] 1 test" in completions.stdout
if not ran:
    print(completions.stdout[-2000:])
print(f"{len(cases)} prompts, {bad} differ; completions {'as published' if ran else 'differ'}")
sys.exit(1 if bad or not ran or not cases else 0)
