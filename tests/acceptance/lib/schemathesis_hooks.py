"""What schemathesis cannot know: names that exist. Loaded by it (SCHEMATHESIS_HOOKS), see serve-openapi.py.

A random model name ends every request at "no such model". So a valid one becomes the served model's, and half of the
ids of responses become those of responses that were just stored. Most of what the schema allows is simplified until it
can be answered, since a dozen random fields nearly always hold a pair that excludes each other. What breaks the schema
stays as it was made.
"""
import itertools
import json
import os
import urllib.request

import schemathesis

BASE, KEY, MODEL = os.environ["FATHOM_BASE"], os.environ["FATHOM_KEY"], os.environ["FATHOM_MODEL"]
_count = itertools.count()


def _stored_response(background):
    body = {"model": MODEL, "input": "1+1=", "max_output_tokens": 2, "background": background}
    request = urllib.request.Request(BASE + "/v1/responses", json.dumps(body).encode(),
                                     {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["id"]


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str) and 1 <= len(body["model"]) <= 256:
        body["model"] = MODEL
    return body


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    number = next(_count)
    if not isinstance(path_parameters, dict) or number % 2:
        return path_parameters
    if isinstance(path_parameters.get("model"), str):
        path_parameters["model"] = MODEL
    if isinstance(path_parameters.get("response"), str):
        path_parameters["response"] = _stored_response(background=number % 4 == 0)
    return path_parameters


NEEDED = ("model", "messages", "input", "prompt", "tokens", "max_tokens")


def _conversation(messages):
    texts = [m["content"] for m in messages if isinstance(m, dict) and isinstance(m.get("content"), str)]
    return [{"role": "user", "content": (texts or ["1+1="])[0][:100]}]


def _simpler(body, number):
    """What the request needs, and one field of the others."""
    others = [name for name in sorted(body) if name not in NEEDED]
    chosen = {others[number % len(others)]} if others else set()
    out = {name: value for name, value in body.items() if name in NEEDED or name in chosen}
    if isinstance(out.get("messages"), list):
        out["messages"] = _conversation(out["messages"])
    if isinstance(out.get("input"), list) and number % 2:
        out["input"] = "1+1="
    if isinstance(out.get("tokens"), list):
        out["tokens"] = [t % 1000 if isinstance(t, int) else t for t in out["tokens"]]
    return out


@schemathesis.hook
def before_call(context, case, kwargs):
    number = next(_count)
    allowed = case.meta is not None and case.meta.generation.mode.is_positive
    if allowed and isinstance(case.body, dict) and number % 4:
        case.body = _simpler(case.body, number)
        if case.path.endswith("/tokenize"):  # wants one of prompt, content and messages
            case.body = {"model": MODEL, "prompt": str(case.body.get("prompt")), "return_token_strs": number % 2 == 0}
