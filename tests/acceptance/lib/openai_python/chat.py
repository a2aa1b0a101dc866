"""Chat completions by OpenAI's Python client, streamed and not: the fields of the request and what becomes of them."""
import json
from typing import Literal

import openai
from openai import OpenAI
from pydantic import BaseModel, ConfigDict

from suite import BASE, KEY, NANO, PLAIN, TOOLS, case, equal, holds, raises

client = OpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0, timeout=60)
SUM = [{"role": "user", "content": "12+34="}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99},
                                           "kind": {"type": "string", "enum": ["x", "y"]}},
          "required": ["a", "kind"], "additionalProperties": False}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds two digits", "strict": True, "parameters": {
        "type": "object", "properties": {n: {"type": "integer", "minimum": 0, "maximum": 9} for n in "ab"},
        "required": ["a", "b"], "additionalProperties": False}}}
NOW = {"type": "function", "function": {"name": "now", "description": "The time", "strict": True, "parameters": {
    "type": "object", "properties": {}, "required": [], "additionalProperties": False}}}


def chat(**fields):
    return client.chat.completions.create(**{"model": NANO, "messages": SUM, **fields})


def streamed(**fields):
    """(content, reasoning, finish reason, chunks) of a streamed answer."""
    chunks = list(chat(stream=True, **fields))
    choices = [c.choices[0] for c in chunks if c.choices]
    return ("".join(c.delta.content or "" for c in choices),
            "".join(getattr(c.delta, "reasoning_content", None) or "" for c in choices),
            [c.finish_reason for c in choices if c.finish_reason], chunks)


@case("chat: thinks and answers", quick=True)
def _():
    answer = chat()
    equal(answer.object, "chat.completion")
    equal(answer.choices[0].message.content, "46", "content")
    equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    holds("46" in answer.choices[0].message.reasoning_content, "the thoughts lack the result")
    usage = answer.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")
    holds(0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens, f"usage is {usage}")


@case("chat: streamed, the same answer", quick=True)
def _():
    whole = chat().choices[0].message
    content, reasoning, finish, chunks = streamed()
    equal((content, reasoning), (whole.content, whole.reasoning_content), "streamed answer")
    equal(finish, ["stop"], "finish reasons")
    equal(len({c.id for c in chunks}), 1, "number of ids")
    equal({c.object for c in chunks}, {"chat.completion.chunk"}, "objects")
    equal(chunks[0].choices[0].delta.role, "assistant", "first role")


@case("chat: thinking disabled")
def _():
    answer = chat(extra_body=PLAIN)
    equal(answer.usage.completion_tokens_details.reasoning_tokens, 0, "reasoning_tokens")
    equal(getattr(answer.choices[0].message, "reasoning_content", None), None, "reasoning_content")


@case("chat: reasoning_effort none")
def _():
    equal(chat(reasoning_effort="none").usage.completion_tokens_details.reasoning_tokens, 0, "reasoning_tokens")


@case("chat: reasoning_effort high")
def _():
    equal(chat(reasoning_effort="high").choices[0].message.content, "46", "content")


@case("chat: deepseek-chat is an alias, of a model whose thoughts it switches off")
def _():
    equal(chat(model="deepseek-chat", max_tokens=20).usage.completion_tokens_details.reasoning_tokens, 0, "reasoning_tokens")


@case("chat: deepseek-reasoner is an alias")
def _():
    equal(chat(model="deepseek-reasoner").choices[0].message.content, "46", "content")


@case("chat: several turns and a system message")
def _():
    one = chat().usage.prompt_tokens
    answer = chat(messages=[{"role": "system", "content": "Be short."}, {"role": "user", "content": "1+1="},
                            {"role": "assistant", "content": "2"}, *SUM])
    equal(answer.choices[0].message.content, "46", "content")
    holds(answer.usage.prompt_tokens > one + 5, "the earlier turns are not in the prompt")


@case("chat: content in parts")
def _():
    parts = [{"role": "user", "content": [{"type": "text", "text": "12+34="}]}]
    equal(chat(messages=parts).choices[0].message.content, "46", "content")


@case("chat: Chinese, streamed")
def _():
    messages = [{"role": "user", "content": "你好"}]
    content, _, _, _ = streamed(messages=messages, max_tokens=200)
    equal(content, chat(messages=messages, max_tokens=200).choices[0].message.content, "content")
    holds(any("\u4e00" <= c <= "\u9fff" for c in content) and "\ufffd" not in content, f"content is {content!r}")


@case("chat: max_tokens", quick=True)
def _():
    answer = chat(max_tokens=3)
    equal((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3), "end")


@case("chat: max_completion_tokens, streamed")
def _():
    content, reasoning, finish, chunks = streamed(max_completion_tokens=2, stream_options={"include_usage": True})
    equal((finish, chunks[-1].usage.completion_tokens), (["length"], 2), "end")


@case("chat: stream_options include_usage", quick=True)
def _():
    _, _, _, chunks = streamed(stream_options={"include_usage": True})
    equal(chunks[-1].choices, [], "choices of the last chunk")
    equal(chunks[-1].usage.completion_tokens, chat().usage.completion_tokens, "completion_tokens")
    holds(all(c.usage is None for c in chunks[:-1]), "usage stands in more than the last chunk")


@case("chat: seed", quick=True)
def _():
    free = {"temperature": 2, "max_tokens": 40, "extra_body": {**PLAIN, "ignore_eos": True}}
    texts = [chat(seed=s, **free).choices[0].message.content for s in (7, 7, 8)]
    equal(texts[0], texts[1], "text of the same seed")
    holds(texts[0] != texts[2], "two seeds gave one text")


@case("chat: seed, streamed")
def _():
    free = {"temperature": 2, "seed": 7, "max_tokens": 40, "extra_body": {**PLAIN, "ignore_eos": True}}
    equal(streamed(**free)[0], chat(**free).choices[0].message.content, "streamed text")


@case("chat: n answers")
def _():
    answer = chat(n=3, temperature=2, seed=1, max_tokens=30, extra_body={**PLAIN, "ignore_eos": True})
    equal([c.index for c in answer.choices], [0, 1, 2], "indexes")
    equal(len({c.message.content for c in answer.choices}), 3, "number of different answers")
    equal(answer.usage.completion_tokens, 90, "completion_tokens")


@case("chat: n answers, streamed")
def _():
    fields = {"n": 3, "temperature": 2, "seed": 1, "max_tokens": 30, "extra_body": {**PLAIN, "ignore_eos": True}}
    texts = {}
    for chunk in chat(stream=True, **fields):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    equal(texts, {c.index: c.message.content for c in chat(**fields).choices}, "texts")


@case("chat: stop")
def _():
    fields = {"extra_body": PLAIN, "messages": [{"role": "user", "content": "spell tiger"}], "max_tokens": 60}
    whole = chat(**fields).choices[0].message.content
    holds(len(whole) > 2, f"the whole answer is {whole!r}")
    answer = chat(stop=[whole[2], "\x00"], **fields).choices[0]
    equal(answer.message.content, whole[:whole.index(whole[2])], "content")
    equal(answer.finish_reason, "stop", "finish_reason")
    equal(streamed(stop=whole[2], **fields)[0], answer.message.content, "streamed content")


@case("chat: logprobs", quick=True)
def _():
    content = chat(logprobs=True, top_logprobs=3, temperature=0, extra_body=PLAIN).choices[0].logprobs.content
    for token in content:
        equal(len(token.top_logprobs), 3, "number of top_logprobs")
        equal(token.top_logprobs[0].token, token.token, "likeliest token")
        equal(bytes(token.bytes).decode(), token.token, "bytes")
        holds(token.logprob <= 0, f"logprob is {token.logprob}")


@case("chat: logprobs, streamed")
def _():
    fields = {"logprobs": True, "top_logprobs": 1, "temperature": 0, "extra_body": PLAIN}
    whole = [(t.token, t.logprob) for t in chat(**fields).choices[0].logprobs.content]
    seen = [(t.token, t.logprob) for c in chat(stream=True, **fields) if c.choices and c.choices[0].logprobs
            for t in c.choices[0].logprobs.content or []]
    equal(seen, whole, "streamed logprobs")


@case("chat: logit_bias")
def _():
    tokens = client.post("/tokenize", cast_to=object, body={"model": NANO, "prompt": "7",
                                                             "add_special_tokens": False})["tokens"]
    answer = chat(logit_bias={str(tokens[0]): 100}, max_tokens=4, temperature=0, extra_body=PLAIN)
    equal(answer.choices[0].message.content, "7777", "content")


@case("chat: penalties and top_p")
def _():
    answer = chat(frequency_penalty=0.5, presence_penalty=0.5, top_p=0.1, temperature=1, max_tokens=20)
    holds(answer.usage.completion_tokens > 0, "nothing was answered")


@case("chat: json_object", quick=True)
def _():
    answer = chat(messages=[{"role": "user", "content": "12+34= as json"}], max_tokens=200, extra_body=PLAIN,
                  response_format={"type": "json_object"})
    holds(isinstance(json.loads(answer.choices[0].message.content), dict), "not an object")


@case("chat: json_object, streamed, after thoughts")
def _():
    content, reasoning, finish, _ = streamed(messages=[{"role": "user", "content": "12+34= as json"}],
                                             max_tokens=600, response_format={"type": "json_object"})
    equal(finish, ["stop"], "finish reasons")
    holds(isinstance(json.loads(content), dict), "not an object")


@case("chat: json_object needs the word json")
def _():
    error = raises(openai.BadRequestError, lambda: chat(response_format={"type": "json_object"}))
    holds("json" in error.message, f"the message is {error.message!r}")


@case("chat: json_schema", quick=True)
def _():
    for seed in range(4):
        answer = chat(response_format={"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA,
                                                                              "strict": True}},
                      temperature=2, seed=seed, max_tokens=500, extra_body=PLAIN)
        value = json.loads(answer.choices[0].message.content)
        holds(set(value) == {"a", "kind"} and 0 <= value["a"] <= 99 and value["kind"] in "xy", f"value is {value}")


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ok: bool
    kind: Literal["red", "green"]


@case("chat: parse into a Pydantic model")
def _():
    answer = client.chat.completions.parse(model=NANO, messages=SUM, response_format=Answer, max_tokens=200,
                                           extra_body=PLAIN)
    holds(isinstance(answer.choices[0].message.parsed, Answer), "nothing was parsed")


@case("chat: the stream helper")
def _():
    with client.chat.completions.stream(model=NANO, messages=SUM, response_format=Answer, max_tokens=200,
                                        extra_body=PLAIN) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    holds({"content.delta", "content.done"} <= kinds, f"events are {kinds}")
    holds(isinstance(final.choices[0].message.parsed, Answer), "nothing was parsed")


@case("tools: none described to a model without them")
def _():
    raises(openai.BadRequestError, lambda: chat(tools=[ADD]), status_code=400)


@case("tools: required", quick=True)
def _():
    choice = chat(model=TOOLS, tools=[ADD, NOW], tool_choice="required", max_tokens=400).choices[0]
    equal(choice.finish_reason, "tool_calls", "finish_reason")
    for call in choice.message.tool_calls:
        arguments = json.loads(call.function.arguments)
        equal(set(arguments), set("ab") if call.function.name == "add" else set(), "arguments")
        holds(call.id and call.type == "function", f"call is {call}")


@case("tools: a named one, no parallel calls")
def _():
    named = {"type": "function", "function": {"name": "now"}}
    choice = chat(model=TOOLS, tools=[ADD, NOW], tool_choice=named, parallel_tool_calls=False, max_tokens=400).choices[0]
    equal([c.function.name for c in choice.message.tool_calls], ["now"], "calls")


@case("tools: streamed")
def _():
    names, arguments, ids, finish = [], {}, set(), None
    for chunk in chat(model=TOOLS, tools=[ADD, NOW], tool_choice="required", max_tokens=400, stream=True):
        choice = chunk.choices[0]
        for call in choice.delta.tool_calls or []:
            if call.function.name:
                names.append(call.function.name)
                ids.add(call.id)
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
        finish = choice.finish_reason or finish
    equal((finish, len(ids)), ("tool_calls", len(names)), "end")
    holds(names and all(isinstance(json.loads(a), dict) for a in arguments.values()), f"arguments are {arguments}")


@case("tools: tool_choice none")
def _():
    answer = chat(model=TOOLS, tools=[ADD], tool_choice="none", max_tokens=50, extra_body=PLAIN)
    equal(answer.choices[0].message.tool_calls, None, "tool_calls")


@case("tools: tool_choice auto")
def _():
    answer = chat(model=TOOLS, tools=[ADD], tool_choice="auto", max_tokens=50, extra_body=PLAIN)
    holds(answer.choices[0].finish_reason in ("stop", "length", "tool_calls"), "finish_reason")


@case("tools: a result goes back")
def _():
    call = chat(model=TOOLS, tools=[ADD], tool_choice="required", parallel_tool_calls=False, max_tokens=400,
                extra_body=PLAIN).choices[0].message
    messages = [*SUM, call.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "46"}]
    answer = chat(model=TOOLS, tools=[ADD], tool_choice="none", messages=messages, max_tokens=20, extra_body=PLAIN)
    holds(answer.usage.prompt_tokens > 20, "the result is not in the prompt")


class Add(BaseModel):
    a: int
    b: int


@case("tools: parse arguments into a Pydantic model")
def _():
    answer = client.chat.completions.parse(
        model=TOOLS, messages=SUM, tools=[openai.pydantic_function_tool(Add)], tool_choice="required", max_tokens=600,
        parallel_tool_calls=False, seed=1, extra_body=PLAIN)
    holds(isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Add), "nothing was parsed")


@case("chat: fields that do nothing here")
def _():
    equal(chat(user="u", metadata={"a": "b"}, store=False, service_tier="auto").choices[0].message.content, "46")
