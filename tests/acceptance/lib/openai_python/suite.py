"""The list of calls and how they are run, for the modules beside this one. Runs in the virtual environment that
serve-clients.py makes; what it needs comes in the environment."""
import os
import time
import traceback

BASE = os.environ["FATHOM_BASE"]  # http://127.0.0.1:PORT
KEY = os.environ["FATHOM_KEY"]
NANO, TOOLS = "nano", "nano-tools"  # the models that are served: nano, and nano with a template that has tools
PLAIN = {"thinking": {"type": "disabled"}}  # extra_body: an answer without thoughts

CASES = []


def case(name, quick=False):
    def add(function):
        CASES.append((name, quick, function))
        return function
    return add


def equal(seen, expected, what="value"):
    if seen != expected:
        raise AssertionError(f"{what} is {seen!r}, expected {expected!r}")


def holds(condition, message):
    if not condition:
        raise AssertionError(message)


def raises(kind, call, **attributes):
    """The exception that the call must end in, whose attributes must be these."""
    try:
        call()
    except kind as error:
        if type(error) is not kind:
            raise AssertionError(f"{type(error).__name__} was raised, expected {kind.__name__}") from error
        for name, expected in attributes.items():
            equal(getattr(error, name), expected, f"{kind.__name__}.{name}")
        return error
    raise AssertionError(f"nothing was raised, expected {kind.__name__}")


def run(label, quick):
    """Runs the cases, prints the failures, returns how many there were."""
    failures, ran, start = 0, 0, time.monotonic()
    for name, is_quick, function in CASES:
        if quick and not is_quick:
            continue
        ran += 1
        try:
            function()
        except Exception as error:  # noqa: BLE001: whatever it is, the call failed
            failures += 1
            where = traceback.extract_tb(error.__traceback__)
            line = next((f.lineno for f in reversed(where) if os.path.basename(f.filename) != "suite.py"
                         and os.path.dirname(f.filename) == os.path.dirname(os.path.abspath(__file__))), 0)
            print(f"{label}: {name} failed (line {line}): {type(error).__name__}: {str(error)[:500]}")
    print(f"{label}: {ran} calls, {failures} failures, {time.monotonic() - start:.1f} s", flush=True)
    return failures
