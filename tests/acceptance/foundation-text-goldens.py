#!/usr/bin/env python3
"""Tokenizer and chat goldens, byte-exact: every row of the tokenizers' golden.jsonl (by tokenizer_test, all
rows in one process) and every conversation of chat_templates/golden.json through `fathom chat-render`.
--quick: every fifth conversation."""
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import DATA, FATHOM, NANO, QUICK  # noqa: E402

BUILD = os.path.dirname(os.path.dirname(os.path.abspath(FATHOM)))
FLAGS = {"add_generation_prompt": {False: "--no-generation-prompt"}, "continue_final_message": {True: "--continue"},
         "thinking": {True: "--thinking", False: "--no-thinking"},
         "enable_thinking": {True: "--thinking", False: "--no-thinking"}}


def tokenizer_rows():
    """Runs the golden tests of the tokenizer; returns (rows in the files, tests that failed)."""
    rows = sum(1 for folder in os.listdir(f"{DATA}/tokenizers") if os.path.isdir(f"{DATA}/tokenizers/{folder}")
               for _ in open(f"{DATA}/tokenizers/{folder}/golden.jsonl", encoding="utf-8"))
    rows += sum(1 for _ in open(f"{NANO}/tokenizer_golden.jsonl", encoding="utf-8"))
    done = subprocess.run([f"{BUILD}/src/tokenizer/tokenizer_test", "--gtest_filter=*Golden*"],
                          capture_output=True, text=True)
    passed = re.search(r"PASSED  \] (\d+) test", done.stdout)
    if done.returncode != 0 or not passed or int(passed.group(1)) == 0:
        print(done.stdout[-3000:])
        return rows, 1
    return rows, 0


def render(case, work):
    flags = []
    for name, value in case["options"].items():
        if name == "tools":
            with open(f"{work}/tools.json", "w", encoding="utf-8") as f:
                json.dump(value, f, ensure_ascii=False)
            flags += ["--tools", f"{work}/tools.json"]
        elif value in FLAGS[name]:
            flags.append(FLAGS[name][value])
    with open(f"{work}/messages.json", "w", encoding="utf-8") as f:
        json.dump(case["messages"], f, ensure_ascii=False)
    done = subprocess.run([FATHOM, "chat-render", case["template"], "--messages", f"{work}/messages.json", *flags],
                          capture_output=True)
    return done.stdout.decode() if done.returncode == 0 else None, done.returncode


rows, bad_tokenizers = tokenizer_rows()
with open(f"{DATA}/chat_templates/golden.json", encoding="utf-8") as f:
    cases = json.load(f)["cases"][::5 if QUICK else 1]
bad = 0
with tempfile.TemporaryDirectory() as work:
    for case in cases:
        text, code = render(case, work)
        right = code == 2 if "error" in case else text == case["rendered"]
        if not right:
            bad += 1
            print(f"  differs: {case['template']} {case.get('conversation', case.get('name'))} {case['options']}")
print(f"tokenizer goldens: {rows} rows, {'byte-exact' if not bad_tokenizers else 'NOT byte-exact'}; "
      f"conversations rendered: {len(cases)}, different {bad}")
sys.exit(0 if bad == 0 and bad_tokenizers == 0 else 1)
