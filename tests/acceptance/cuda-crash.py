#!/usr/bin/env python3
"""32 streams on a GPU keep their words through kills (-9) of their engine: serve-crash.py on nano and the random V3
fixture with the build for GPUs. A new process has to open the device and copy the weights: pauses are printed, not
judged."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from gpu import BINARY, require_gpu  # noqa: E402

require_gpu()
script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve-crash.py")
os.environ["FATHOM_BINARY"] = BINARY
flags = sys.argv[1:] or ["--only", "v3"]
os.execv(sys.executable, [sys.executable, script, "--limit", "60", *flags])
