"""Foreign tools that scripts install for themselves: Python packages into a virtual environment, Node packages into a
folder, both under build/tools and kept for the next run.

What cannot be installed (no network, no npm, no venv module) ends the script as skipped. Standard library only.
"""
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

from fixtures import ROOT

TOOLS = os.path.join(ROOT, "build/tools")


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def _run(what, command, timeout_s, **options):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s,
                              **options)
    except subprocess.TimeoutExpired:
        skip(f"{what} took more than {timeout_s} s")
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["no output"]
        skip(f"{what} failed: {lines[-1].strip()[:300]}")


@contextlib.contextmanager
def _made_once(name, *inputs):
    """Yields (folder, whether it must be filled); the folder's name says what it was made from. One at a time."""
    digest = hashlib.sha256(sys.version.encode())
    for path in inputs:
        with open(path, "rb") as f:
            digest.update(f.read())
    folder = os.path.join(TOOLS, f"{name}-{digest.hexdigest()[:12]}")
    os.makedirs(TOOLS, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = os.path.join(folder, ".complete")
        missing = not os.path.exists(stamp)
        if missing:
            shutil.rmtree(folder, ignore_errors=True)
        yield folder, missing
        if missing:
            open(stamp, "w").close()


def python_with(name, requirements, timeout_s=300):
    """The bin folder of a virtual environment that has the packages of a requirements file."""
    with _made_once(name, requirements) as (folder, missing):
        bin_folder = os.path.join(folder, "bin")
        if missing:
            _run("python3 -m venv", [sys.executable, "-m", "venv", folder], 120)
            _run("pip install", [os.path.join(bin_folder, "pip"), "install", "--quiet", "--disable-pip-version-check",
                                 "-r", requirements], timeout_s)
    return bin_folder


def node_with(name, source, timeout_s=300):
    """A copy of the folder `source` (package.json, its lock, scripts) with its packages installed; the scripts are
    those of now."""
    if not shutil.which("npm") or not shutil.which("node"):
        skip("node and npm are not installed")
    inputs = [os.path.join(source, f) for f in ("package.json", "package-lock.json")]
    with _made_once(name, *inputs) as (folder, missing):
        if missing:
            os.makedirs(folder)
            for path in inputs:
                shutil.copy(path, folder)
            _run("npm ci", ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], timeout_s, cwd=folder)
        for script in os.listdir(source):
            if script.endswith(".mjs"):
                shutil.copy(os.path.join(source, script), folder)
    return folder
