"""What OpenAI's Python client can ask beside chat: completions, models, responses, errors, headers, and all of it
asynchronously."""
import asyncio
import json
import time
import urllib.request

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict

from suite import BASE, KEY, NANO, PLAIN, TOOLS, case, equal, holds, raises

client = OpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0, timeout=60)
beta = OpenAI(base_url=BASE + "/beta", api_key=KEY, max_retries=0, timeout=60)
SUM = [{"role": "user", "content": "12+34="}]
LONG = {"ignore_eos": True}


def complete(**fields):
    return client.completions.create(**{"model": NANO, "prompt": "12+34=", "max_tokens": 12, "temperature": 0, **fields})


def respond(**fields):
    return client.responses.create(**{"model": NANO, "input": "12+34=", **fields})


def running():
    request = urllib.request.Request(BASE + "/status", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return sum(m["running"] + m["waiting"] for m in json.load(answer)["models"])


def becomes_idle():
    deadline = time.monotonic() + 5
    while running():
        holds(time.monotonic() < deadline, "the answer is computed on although nobody waits for it")
        time.sleep(0.02)


@case("completions: plain and streamed", quick=True)
def _():
    whole = complete().choices[0]
    holds(whole.text and whole.finish_reason in ("stop", "length"), f"choice is {whole}")
    equal("".join(c.choices[0].text for c in complete(stream=True) if c.choices), whole.text, "streamed text")


@case("completions: echo")
def _():
    equal(complete(echo=True).choices[0].text, "12+34=" + complete().choices[0].text, "text")


@case("completions: several prompts, several answers each")
def _():
    answer = complete(prompt=["1+1=", "2+2="], n=2)
    equal([c.index for c in answer.choices], [0, 1, 2, 3], "indexes")
    equal(answer.choices[0].text, answer.choices[1].text, "greedy texts of one prompt")


@case("completions: token ids as the prompt")
def _():
    ids = client.post("/tokenize", cast_to=object, body={"model": NANO, "prompt": "12+34="})["tokens"]
    equal(complete(prompt=ids).choices[0].text, complete().choices[0].text, "text")


@case("completions: logprobs")
def _():
    answer = complete(logprobs=2)
    logprobs = answer.choices[0].logprobs
    equal("".join(logprobs.tokens), answer.choices[0].text, "tokens together")
    equal(len(logprobs.token_logprobs), len(logprobs.text_offset), "lengths")
    holds(all(len(top) >= 2 for top in logprobs.top_logprobs), "fewer than 2 top_logprobs")


@case("completions: stop and usage, streamed")
def _():
    chunks = list(complete(stream=True, stop=["1", "2", "3", "4"], max_tokens=50,
                           stream_options={"include_usage": True}))
    text = "".join(c.choices[0].text for c in chunks if c.choices)
    holds(not set(text) & set("1234"), f"text is {text!r}")
    holds(chunks[-1].usage.completion_tokens >= 1, "no usage")


@case("completions: fill in the middle")
def _():
    answer = beta.completions.create(model=NANO, prompt="def add(b, t):\n    return ", suffix="\n", max_tokens=20,
                                     temperature=0)
    equal(answer.choices[0].text, "b + t", "text")


@case("chat: prefix completion")
def _():
    messages = [*SUM, {"role": "assistant", "content": "4", "prefix": True}]
    answer = beta.chat.completions.create(model=NANO, messages=messages, temperature=0, max_tokens=5, extra_body=PLAIN)
    holds(answer.choices[0].finish_reason in ("stop", "length"), "finish_reason")


@case("models: list", quick=True)
def _():
    equal({m.id for m in client.models.list()}, {NANO, TOOLS}, "models")


@case("models: retrieve")
def _():
    model = client.models.retrieve(NANO)
    equal((model.id, model.object), (NANO, "model"), "model")


@case("responses: create", quick=True)
def _():
    answer = respond()
    equal((answer.status, answer.output_text), ("completed", "46"), "answer")
    equal([item.type for item in answer.output], ["reasoning", "message"], "items")
    equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens, "total_tokens")


@case("responses: streamed", quick=True)
def _():
    events = list(respond(stream=True))
    equal([e.sequence_number for e in events], list(range(len(events))), "sequence numbers")
    equal((events[0].type, events[-1].type), ("response.created", "response.completed"), "first and last")
    equal("".join(e.delta for e in events if e.type == "response.output_text.delta"), "46", "text")
    equal(events[-1].response.output_text, "46", "final text")


@case("responses: the stream helper")
def _():
    with client.responses.stream(model=NANO, input="12+34=") as stream:
        for _ in stream:
            pass
        equal(stream.get_final_response().output_text, "46", "text")


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ok: bool


@case("responses: parse into a Pydantic model")
def _():
    answer = client.responses.parse(model=NANO, input="Is 2 even?", text_format=Answer, max_output_tokens=900,
                                    reasoning={"effort": "none"})
    holds(isinstance(answer.output_parsed, Answer), "nothing was parsed")


@case("responses: max_output_tokens")
def _():
    answer = respond(max_output_tokens=3)
    equal((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"), "end")


@case("responses: instructions, metadata, messages as input")
def _():
    answer = respond(instructions="Be short.", metadata={"a": "b"},
                     input=[{"role": "user", "content": [{"type": "input_text", "text": "12+34="}]}])
    equal((answer.output_text, answer.metadata, answer.instructions), ("46", {"a": "b"}, "Be short."), "answer")


@case("responses: go on with previous_response_id")
def _():
    first = respond()
    second = respond(previous_response_id=first.id, input="1+1=")
    equal((second.previous_response_id, second.output_text), (first.id, "2"), "answer")
    holds(second.usage.input_tokens > first.usage.input_tokens, "the conversation is not in the prompt")


@case("responses: retrieve and delete")
def _():
    answer = respond()
    equal(client.responses.retrieve(answer.id).output_text, "46", "text")
    client.responses.delete(answer.id)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(answer.id), status_code=404)


@case("responses: store false")
def _():
    answer = respond(store=False)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(answer.id))


@case("responses: function calls")
def _():
    tool = {"type": "function", "name": "now", "description": "The time", "strict": True, "parameters": {
        "type": "object", "properties": {}, "required": [], "additionalProperties": False}}
    answer = respond(model=TOOLS, tools=[tool], tool_choice="required", parallel_tool_calls=False,
                     max_output_tokens=400, reasoning={"effort": "none"})
    call = next(item for item in answer.output if item.type == "function_call")
    equal((call.name, json.loads(call.arguments)), ("now", {}), "call")
    more = [*[i.model_dump(exclude_none=True) for i in answer.output],
            {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}]
    respond(model=TOOLS, input=[{"role": "user", "content": "12+34="}, *more], max_output_tokens=20)


@case("responses: background, polled")
def _():
    answer = respond(background=True)
    deadline = time.monotonic() + 20
    while answer.status in ("queued", "in_progress"):
        holds(time.monotonic() < deadline, f"still {answer.status} after 20 s")
        time.sleep(0.02)
        answer = client.responses.retrieve(answer.id)
    equal((answer.status, answer.output_text), ("completed", "46"), "answer")


@case("responses: background, resumed by starting_after", quick=True)
def _():
    seen = []
    stream = respond(background=True, stream=True, max_output_tokens=300, extra_body=LONG)
    for event in stream:
        seen.append(event)
        if len(seen) == 6:
            break
    stream.close()
    answer_id = seen[0].response.id
    rest = list(client.responses.retrieve(answer_id, stream=True, starting_after=seen[-1].sequence_number))
    numbers = [e.sequence_number for e in seen + rest]
    equal(numbers, list(range(len(numbers))), "sequence numbers")
    deltas = "".join(e.delta for e in seen + rest if e.type.endswith("_text.delta"))
    again = list(client.responses.retrieve(answer_id, stream=True))
    equal("".join(e.delta for e in again if e.type.endswith("_text.delta")), deltas, "text")
    equal(rest[-1].type, "response.incomplete", "last event")


@case("responses: background, cancelled")
def _():
    answer = respond(background=True, max_output_tokens=1900, extra_body=LONG)
    cancelled = client.responses.cancel(answer.id)
    equal(cancelled.status, "cancelled", "status")
    equal(client.responses.retrieve(answer.id).status, "cancelled", "status later")
    becomes_idle()


@case("error: wrong key", quick=True)
def _():
    other = OpenAI(base_url=BASE + "/v1", api_key="sk-wrong", max_retries=0)
    error = raises(openai.AuthenticationError, lambda: other.models.list(), status_code=401)
    holds("sk-wrong" not in error.message, "the message shows the key")


@case("error: wrong key for a stream")
def _():
    other = OpenAI(base_url=BASE + "/v1", api_key="sk-wrong", max_retries=0)
    raises(openai.AuthenticationError, lambda: other.chat.completions.create(model=NANO, messages=SUM, stream=True))


@case("error: unknown model", quick=True)
def _():
    error = raises(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-9", messages=SUM),
                   status_code=404, code="model_not_found")
    holds("gpt-9" in error.message, f"the message is {error.message!r}")


@case("error: unknown model of a list of one")
def _():
    raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-9"), status_code=404)


@case("error: out of range", quick=True)
def _():
    raises(openai.BadRequestError, lambda: client.chat.completions.create(model=NANO, messages=SUM, temperature=3),
           status_code=400, param="temperature", type="invalid_request_error")


@case("error: no messages")
def _():
    raises(openai.BadRequestError, lambda: client.chat.completions.create(model=NANO, messages=[], stream=True))


@case("error: longer than the context")
def _():
    error = raises(openai.BadRequestError, lambda: complete(prompt="12+34=" * 1000))
    equal(error.code, "context_length_exceeded", "code")


@case("error: a schema that cannot be enforced")
def _():
    schema = {"type": "object", "properties": {"a": {"$ref": "https://example.com/x.json"}}}
    raises(openai.BadRequestError, lambda: client.chat.completions.create(
        model=NANO, messages=SUM,
        response_format={"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}))


@case("error: embeddings")
def _():
    raises(openai.BadRequestError, lambda: client.embeddings.create(model=NANO, input="x"), param="model")


@case("error: no such route")
def _():
    raises(openai.NotFoundError, lambda: client.images.generate(model=NANO, prompt="x"), status_code=404)


@case("error: wrong method")
def _():
    equal(raises(openai.APIStatusError, lambda: client.post("/models", cast_to=object, body={})).status_code, 405)


@case("error: time-out, then the answer stops")
def _():
    raises(openai.APITimeoutError, lambda: client.with_options(timeout=0.15).completions.create(
        model=NANO, prompt="12", max_tokens=1900, extra_body=LONG))
    becomes_idle()


@case("a stream that is left is computed no further")
def _():
    stream = complete(max_tokens=1900, stream=True, extra_body=LONG)
    next(iter(stream))
    stream.close()
    becomes_idle()


@case("headers: with_raw_response")
def _():
    raw = client.chat.completions.with_raw_response.create(model=NANO, messages=SUM)
    equal(raw.headers["content-type"].split(";")[0], "application/json", "content-type")
    equal(raw.headers["x-request-id"], raw.parse()._request_id, "request id")
    holds(raw.headers["x-ds-trace-id"], "no x-ds-trace-id")


@case("headers: with_streaming_response")
def _():
    with client.chat.completions.with_streaming_response.create(model=NANO, messages=SUM, stream=True) as raw:
        equal(raw.headers["content-type"].split(";")[0], "text/event-stream", "content-type")
        lines = [line for line in raw.iter_lines() if line.startswith("data: ")]
    equal(lines[-1], "data: [DONE]", "last line")


@case("headers: a request id of the client's")
def _():
    raw = client.models.with_raw_response.list(extra_headers={"X-Request-Id": "from-the-client-1"})
    equal(raw.headers["x-request-id"], "from-the-client-1", "x-request-id")


@case("tokenize and detokenize")
def _():
    text = "sort 3 1 2, 你好"
    made = client.post("/tokenize", cast_to=object, body={"model": NANO, "prompt": text, "add_special_tokens": False})
    equal(made["count"], len(made["tokens"]), "count")
    back = client.post("/detokenize", cast_to=object, body={"model": NANO, "tokens": made["tokens"]})
    equal(back["prompt"], text, "text")


def asynchronously(function):
    async def run():
        async with AsyncOpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0, timeout=60) as other:
            return await function(other)
    return asyncio.run(run())


@case("async: 16 at a time, each its own answer", quick=True)
def _():
    async def ask(other):
        return await asyncio.gather(*(other.chat.completions.create(
            model=NANO, messages=[{"role": "user", "content": f"{i}+{i}="}]) for i in range(10, 26)))
    equal([a.choices[0].message.content for a in asynchronously(ask)], [str(2 * i) for i in range(10, 26)], "answers")


@case("async: streamed")
def _():
    async def ask(other):
        stream = await other.chat.completions.create(model=NANO, messages=SUM, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    equal(asynchronously(ask), "46", "content")


@case("async: responses, streamed")
def _():
    async def ask(other):
        stream = await other.responses.create(model=NANO, input="12+34=", stream=True)
        return [e async for e in stream][-1].response.output_text
    equal(asynchronously(ask), "46", "text")


@case("async: a cancelled task is computed no further")
def _():
    async def ask(other):
        task = asyncio.create_task(other.completions.create(model=NANO, prompt="12", max_tokens=1900, extra_body=LONG))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    asynchronously(ask)
    becomes_idle()
