"""What schemathesis cannot know: names that exist. Loaded by it (SCHEMATHESIS_HOOKS), see serve-openapi.py.

A random model name ends every request at "no such model". So a valid one becomes the served model's, and half of the
ids of responses become those of responses that were just stored. What breaks the schema stays as it was made.
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
