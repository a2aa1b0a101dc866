#!/usr/bin/env python3
"""The vendors' own clients work against a server that asks for a key: OpenAI's for Python and for Node with at least
40 different calls each, streamed and not, and Anthropic's for Python. Every call checks what it got.

The clients are installed into build/tools, in the versions that lib/requirements-clients.txt and
lib/openai-node/package-lock.json name. --quick: a part of OpenAI's Python calls.
"""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import NANO, QUICK  # noqa: E402
from serving import Server, nano_with_tools  # noqa: E402
from tools import node_with, python_with  # noqa: E402

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib")
KEY = "sk-acceptance-0123456789abcdef"


def server_in(folder):
    with_tools = os.path.join(folder, "nano-tools")
    os.mkdir(with_tools)
    nano_with_tools(with_tools)
    keys, config = os.path.join(folder, "keys"), os.path.join(folder, "fathom.yaml")
    with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
        f.write(f"tester:{KEY}\n")
    with open(config, "w") as f:
        f.write(f"models:\n  - path: {NANO}\n    id: nano\n    aliases: [deepseek-reasoner]\n"
                f"  - path: {with_tools}\n    id: nano-tools\n    aliases: [deepseek-chat]\n"
                f"auth:\n  api_key_file: {keys}\nlog:\n  level: warning\n")
    return Server(None, "--config", config, key=KEY)


def run(server, command, folder):
    environment = {**os.environ, "FATHOM_BASE": f"http://127.0.0.1:{server.port}", "FATHOM_KEY": KEY,
                   "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        environment.pop(name, None)
    return subprocess.run(command, cwd=folder, env=environment, timeout=50 if QUICK else 600).returncode


python = os.path.join(python_with("clients", os.path.join(LIB, "requirements-clients.txt"), 45 if QUICK else 300),
                      "python")
node = None if QUICK else node_with("openai-node", os.path.join(LIB, "openai-node"))
with tempfile.TemporaryDirectory() as folder:
    with server_in(folder) as server:
        main = os.path.join(LIB, "openai_python/main.py")
        codes = [run(server, [python, main, "openai", *(["--quick"] if QUICK else [])], folder)]
        if not QUICK:
            codes.append(run(server, [python, main, "anthropic"], folder))
            codes.append(run(server, ["node", os.path.join(node, "main.mjs")], node))
        restarts = sum(w["restarts"] for m in server.status()["models"] for w in m["workers"])
    if restarts:
        print(f"{restarts} workers had to be restarted")
print(f"clients: {'all calls hold' if not any(codes) and not restarts else 'some calls fail'}")
sys.exit(1 if any(codes) or restarts else 0)
