"""Anthropic's Messages by Anthropic's Python client."""
import anthropic

from suite import BASE, KEY, NANO, TOOLS, case, equal, holds, raises

client = anthropic.Anthropic(base_url=BASE + "/anthropic", api_key=KEY, max_retries=0, timeout=60)
SUM = [{"role": "user", "content": "12+34="}]


def create(**fields):
    return client.messages.create(**{"model": NANO, "max_tokens": 200, "messages": SUM, **fields})


@case("messages: create")
def _():
    answer = create()
    equal([b.type for b in answer.content], ["thinking", "text"], "blocks")
    equal((answer.content[1].text, answer.stop_reason), ("46", "end_turn"), "answer")


@case("messages: streamed")
def _():
    with client.messages.stream(model=NANO, max_tokens=200, messages=SUM) as stream:
        equal("".join(stream.text_stream), "46", "text")
        final = stream.get_final_message()
    equal(final.stop_reason, "end_turn", "stop_reason")
    equal(final.usage.output_tokens, create().usage.output_tokens, "output_tokens")


@case("messages: max_tokens, system, stop sequences")
def _():
    equal(create(max_tokens=2, system="Be short.").stop_reason, "max_tokens", "stop_reason")
    stopped = create(thinking={"type": "disabled"}, stop_sequences=[str(d) for d in range(10)])
    equal(stopped.stop_reason, "stop_sequence", "stop_reason")
    holds(stopped.stop_sequence in list("0123456789"), f"stop_sequence is {stopped.stop_sequence!r}")


@case("messages: tools")
def _():
    tool = {"name": "now", "description": "The time", "strict": True,
            "input_schema": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}}
    answer = create(model=TOOLS, tools=[tool], max_tokens=400, thinking={"type": "disabled"},
                    tool_choice={"type": "any", "disable_parallel_tool_use": True})
    call = answer.content[-1]
    equal((answer.stop_reason, call.type, call.name, call.input), ("tool_use", "tool_use", "now", {}), "answer")


@case("messages: count_tokens")
def _():
    equal(client.messages.count_tokens(model=NANO, messages=SUM).input_tokens, create().usage.input_tokens, "tokens")


@case("messages: errors")
def _():
    raises(anthropic.BadRequestError, lambda: create(max_tokens=0))
    other = anthropic.Anthropic(base_url=BASE + "/anthropic", api_key="sk-wrong", max_retries=0)
    raises(anthropic.AuthenticationError, lambda: other.messages.create(model=NANO, max_tokens=5, messages=SUM))
