// The server's HTTP interface: one function per question the page asks, errors as ApiError.
//
// Addresses are relative to the page, so that it also works below a path of a reverse proxy. Who
// asks (the API key) is set from outside: see setKeySource.

import { SseParser } from "./sse";
import type { ChatEvent, ModelInfo, ServerStatus, Usage } from "./types";

/** What a failed request means for the person in front of the page. */
export type ErrorKind =
  | "auth" // a key is needed, or the one given is wrong
  | "busy" // the queue is full
  | "unavailable" // the server is there, but cannot answer now
  | "network" // the server cannot be reached, or the connection broke
  | "request" // the server refuses what was asked
  | "server"; // a fault of the server

export class ApiError extends Error {
  constructor(
    readonly kind: ErrorKind,
    message: string,
    readonly status = 0,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

let keySource: () => string | null = () => null;
export function setKeySource(source: () => string | null): void {
  keySource = source;
}

function address(path: string): string {
  return new URL(path, new URL(".", document.baseURI)).href;
}

function kindOf(status: number): ErrorKind {
  if (status === 401 || status === 403) return "auth";
  if (status === 429) return "busy";
  if (status === 502 || status === 504) return "network";
  if (status === 503) return "unavailable";
  return status >= 500 ? "server" : "request";
}

async function errorOf(response: Response): Promise<ApiError> {
  let message = `${response.status} ${response.statusText}`.trim();
  try {
    const body = (await response.json()) as { error?: { message?: unknown } };
    if (typeof body.error?.message === "string") message = body.error.message;
  } catch {
    // Not JSON: a proxy's page. The status says enough.
  }
  const wait = Number.parseFloat(response.headers.get("retry-after") ?? "");
  return new ApiError(kindOf(response.status), message, response.status, Number.isFinite(wait) ? wait : null);
}

async function request(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = keySource();
  if (key) headers.set("authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(address(path), { ...init, headers, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("network", "the server cannot be reached");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function json(path: string, timeoutMs: number): Promise<unknown> {
  try {
    const response = await request(path, { signal: AbortSignal.timeout(timeoutMs) });
    return await response.json();
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError("network", `no usable answer from ${path} within ${timeoutMs} ms`);
  }
}

export async function listModels(): Promise<ModelInfo[]> {
  const body = (await json("v1/models", 10_000)) as { data?: ModelInfo[] };
  return (body.data ?? []).filter((model) => typeof model.id === "string");
}

export async function fetchStatus(): Promise<ServerStatus> {
  return (await json("status", 4_000)) as ServerStatus;
}

interface Chunk {
  choices?: {
    delta?: {
      content?: string | null;
      reasoning_content?: string | null;
      tool_calls?: { index?: number; id?: string; function?: { name?: string; arguments?: string } }[] | null;
    };
    finish_reason?: string | null;
  }[];
  usage?: Usage | null;
  error?: { message?: string; code?: string };
}

/** What one `data:` line of a chat stream says, in order. Throws ApiError for an error event. */
export function readChunk(data: string): ChatEvent[] {
  let chunk: Chunk;
  try {
    chunk = JSON.parse(data) as Chunk;
  } catch {
    throw new ApiError("server", `the stream holds something that is not JSON: ${data.slice(0, 80)}`);
  }
  if (chunk.error) throw new ApiError("server", chunk.error.message ?? "the server reports an error");
  const events: ChatEvent[] = [];
  const choice = chunk.choices?.[0];
  if (choice?.delta?.reasoning_content) events.push({ type: "reasoning", text: choice.delta.reasoning_content });
  if (choice?.delta?.content) events.push({ type: "content", text: choice.delta.content });
  for (const call of choice?.delta?.tool_calls ?? []) {
    events.push({
      type: "tool",
      index: call.index ?? 0,
      ...(call.id !== undefined && { id: call.id }),
      ...(call.function?.name !== undefined && { name: call.function.name }),
      ...(call.function?.arguments !== undefined && { arguments: call.function.arguments }),
    });
  }
  if (choice?.finish_reason) events.push({ type: "finish", reason: choice.finish_reason });
  if (chunk.usage) events.push({ type: "usage", usage: chunk.usage });
  return events;
}

/**
 * Asks, and yields what the stream says until it is complete. Aborting the signal cancels the
 * answer on the server and rejects with the signal's reason. A stream that ends before its answer
 * does is an ApiError "network": what came until then stands.
 */
export async function* streamChat(path: string, body: object, signal: AbortSignal): AsyncGenerator<ChatEvent> {
  const response = await request(path, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.body) throw new ApiError("network", "the server's answer is empty");
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  let finished = false;
  try {
    for (;;) {
      const { done, value } = await readSome(reader, signal);
      if (done) break;
      for (const item of parser.push(decoder.decode(value, { stream: true }))) {
        if (item.kind === "comment") {
          yield { type: "alive" };
        } else if (item.data === "[DONE]") {
          return;
        } else {
          for (const event of readChunk(item.data)) {
            if (event.type === "finish") finished = true;
            yield event;
          }
        }
      }
    }
  } finally {
    // Also when the consumer stops reading: the server must notice.
    reader.cancel().catch(() => undefined);
  }
  if (!finished) throw new ApiError("network", "the connection broke before the answer was complete");
}

async function readSome(reader: ReadableStreamDefaultReader<Uint8Array>, signal: AbortSignal) {
  try {
    return await reader.read();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError("network", "the connection broke before the answer was complete");
  }
}
