"""What the end-to-end tests share: running the program under limits, and reading safetensors.

The program is $FATHOM_BINARY. $FATHOM_SANITIZED names the sanitizers it was built with: those need
address space and time of their own, so the limits on memory and time are for builds without.
"""
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "golden" / "data"
NANO = ROOT / "models" / "nano"
BINARY = os.environ.get("FATHOM_BINARY", str(ROOT / "build" / "release" / "bin" / "fathom"))
SANITIZED = bool(os.environ.get("FATHOM_SANITIZED"))
ENVIRONMENT = {**os.environ, "FATHOM_MODELS": str(ROOT / "models"), "LC_ALL": "C.UTF-8", "TERM": "xterm"}
ADDRESS_SPACE = 4 << 30


def limit_memory():
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fathom(*args, stdin=b"", timeout=120, environment=ENVIRONMENT, **options):
    """Runs the program; returns the CompletedProcess with bytes in stdout and stderr."""
    return subprocess.run([BINARY, *map(str, args)], input=stdin, capture_output=True, timeout=timeout,
                          env=environment, preexec_fn=limit_memory, **options)


class FathomTest(unittest.TestCase):
    """A test with a temporary directory, self.tmp."""

    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp(prefix="fathom-e2e-"))
        self.addCleanup(shutil.rmtree, self.tmp, ignore_errors=True)

    def write(self, name, content):
        path = self.tmp / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def ok(self, *args, stdin=b""):
        """Runs a command that must succeed without a word on standard error; returns its output."""
        done = fathom(*args, stdin=stdin)
        self.assertEqual((done.returncode, done.stderr), (0, b""), f"fathom {args}")
        return done.stdout


def read_safetensors(path):
    """Tensors of types I64 and F32 as {name: (shape, values)}."""
    data = Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        code = {"I64": "q", "F32": "f"}.get(entry.get("dtype"))
        if code:
            begin, end = entry["data_offsets"]
            raw = data[8 + size + begin:8 + size + end]
            tensors[name] = entry["shape"], struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)
    return tensors


def main():
    if not os.access(BINARY, os.X_OK):
        sys.exit(f"{BINARY}: no such program; set FATHOM_BINARY")
    unittest.main(verbosity=2)
