// @vitest-environment jsdom
import { afterEach, describe, expect, it, vi } from "vitest";
import { ApiError, readChunk, setKeySource, streamChat } from "./client";
import type { ChatEvent } from "./types";

afterEach(() => {
  vi.unstubAllGlobals();
  setKeySource(() => null);
});

function answerWith(body: BodyInit | null, init: ResponseInit = {}) {
  const fetcher = vi.fn(async (_url: string, _init: RequestInit) => new Response(body, init));
  vi.stubGlobal("fetch", fetcher);
  return fetcher;
}

async function collect(signal = new AbortController().signal): Promise<ChatEvent[]> {
  const events: ChatEvent[] = [];
  for await (const event of streamChat("v1/chat/completions", { model: "nano" }, signal)) events.push(event);
  return events;
}

const delta = (fields: object, finish: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: fields, finish_reason: finish }] })}\n\n`;

describe("readChunk", () => {
  it("reads reasoning, content, tool calls, finish and usage in this order", () => {
    expect(
      readChunk(
        JSON.stringify({
          choices: [
            {
              delta: {
                reasoning_content: "r",
                content: "c",
                tool_calls: [{ index: 1, id: "call_1", function: { name: "f", arguments: "{" } }],
              },
              finish_reason: "tool_calls",
            },
          ],
          usage: { prompt_tokens: 3 },
        }),
      ),
    ).toEqual([
      { type: "reasoning", text: "r" },
      { type: "content", text: "c" },
      { type: "tool", index: 1, id: "call_1", name: "f", arguments: "{" },
      { type: "finish", reason: "tool_calls" },
      { type: "usage", usage: { prompt_tokens: 3 } },
    ]);
  });

  it("says nothing for empty deltas", () => {
    expect(readChunk('{"choices":[{"delta":{"role":"assistant","reasoning_content":"","content":null}}]}')).toEqual([]);
    expect(readChunk('{"choices":[],"usage":null}')).toEqual([]);
  });

  it("throws the server's error, and its own for what is not JSON", () => {
    expect(() => readChunk('{"error":{"message":"no worker is up"}}')).toThrow("no worker is up");
    expect(() => readChunk("<html>")).toThrow(ApiError);
  });
});

describe("streamChat", () => {
  it("yields events and keep-alives, and ends at [DONE]", async () => {
    answerWith(`: keep-alive\n\n${delta({ content: "Hi" })}${delta({}, "stop")}data: [DONE]\n\ndata: junk\n\n`);
    expect(await collect()).toEqual([
      { type: "alive" },
      { type: "content", text: "Hi" },
      { type: "finish", reason: "stop" },
    ]);
  });

  it("fails as a network error when the stream ends too early", async () => {
    answerWith(delta({ content: "Hi" }));
    await expect(collect()).rejects.toMatchObject({ kind: "network" });
  });

  it("sends the key, and tells a wrong one from other refusals", async () => {
    setKeySource(() => "sk-1");
    const fetcher = answerWith('{"error":{"message":"Authentication Fails"}}', { status: 401 });
    await expect(collect()).rejects.toMatchObject({ kind: "auth", message: "Authentication Fails" });
    expect(new Headers(fetcher.mock.calls[0]?.[1].headers).get("authorization")).toBe("Bearer sk-1");
  });

  it("carries Retry-After", async () => {
    answerWith('{"error":{"message":"full"}}', { status: 429, headers: { "retry-after": "3" } });
    await expect(collect()).rejects.toMatchObject({ kind: "busy", retryAfterS: 3 });
  });

  it("takes a proxy's page for what its status says", async () => {
    answerWith("<h1>Bad gateway</h1>", { status: 502, statusText: "Bad Gateway" });
    await expect(collect()).rejects.toMatchObject({ kind: "network", message: "502 Bad Gateway" });
  });

  it("cancels the body when the reader stops", async () => {
    const cancelled = vi.fn();
    const text = new TextEncoder().encode(delta({ content: "Hi" }));
    answerWith(new ReadableStream({ start: (c) => c.enqueue(text), cancel: cancelled }));
    for await (const event of streamChat("v1/chat/completions", {}, new AbortController().signal)) {
      expect(event.type).toBe("content");
      break;
    }
    expect(cancelled).toHaveBeenCalled();
  });
});
