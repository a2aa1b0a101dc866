// One answer on its way: reads the stream, keeps the message up to date for the page, saves it as it
// grows, and knows when the engine pauses. Lives on while another conversation is shown.

import { batch, signal } from "@preact/signals";
import { ApiError, streamChat } from "../api/client";
import type { ChatEvent, ToolCall } from "../api/types";
import { bodyFor, pathFor, type Question } from "./body";
import type { Message } from "./tree";

export type Phase =
  | "starting" // nothing has come yet
  | "queued" // the server says that it is waiting
  | "thinking"
  | "answering";

/** Words are shown and saved this often at most. */
const showEveryMs = 50;
const saveEveryMs = 400;
/** A pause in the stream longer than this is told. */
export const stallMs = 1000;

export class Answer {
  readonly message;
  readonly phase = signal<Phase>("starting");
  /** Words had come, and now none do: a worker is being replaced, or the machine is busy. */
  readonly stalled = signal(false);

  private readonly controller = new AbortController();
  private readonly begun = performance.now();
  private readonly elapsedBefore: number;
  private draft: Message;
  private showTimer: ReturnType<typeof setTimeout> | undefined;
  private stallTimer: ReturnType<typeof setInterval> | undefined;
  private lastEvent = 0;
  private lastSave = 0;
  private reasoningBegun = 0;

  constructor(
    message: Message,
    private readonly question: Question,
    private readonly save: (message: Message) => Promise<void>,
  ) {
    this.draft = { ...message, status: "streaming", model: question.model };
    for (const name of ["error", "errorKind", "retryAfterS", "finish"] as const) delete this.draft[name];
    this.elapsedBefore = question.continued?.elapsedMs ?? 0;
    this.message = signal(this.draft);
  }

  stop(): void {
    this.controller.abort(new DOMException("stopped by the user", "AbortError"));
  }

  /** Resolves with the message as it ended, saved; `error` if it did not end well. Never rejects. */
  async run(): Promise<{ message: Message; error: unknown }> {
    let error: unknown = null;
    this.stallTimer = setInterval(() => this.watch(), 200);
    try {
      await this.save(this.draft).catch(() => undefined);
      for await (const event of streamChat(pathFor(this.question), bodyFor(this.question), this.controller.signal)) {
        this.take(event);
      }
      this.draft = { ...this.draft, status: "done" };
    } catch (caught) {
      error = this.controller.signal.aborted ? null : caught;
      this.draft = { ...this.draft, ...this.broken(caught) };
    } finally {
      clearInterval(this.stallTimer);
      clearTimeout(this.showTimer);
    }
    this.draft = { ...this.draft, elapsedMs: this.elapsed(), ...this.reasoningTime() };
    batch(() => {
      this.stalled.value = false;
      this.message.value = this.draft;
    });
    await this.save(this.draft).catch(() => undefined);
    return { message: this.draft, error };
  }

  private elapsed(): number {
    return this.elapsedBefore + performance.now() - this.begun;
  }

  private broken(error: unknown): Partial<Message> {
    if (this.controller.signal.aborted) return { status: "stopped" };
    const text = error instanceof Error ? error.message : String(error);
    const begun = this.draft.content !== "" || this.draft.reasoning !== "";
    if (!(error instanceof ApiError)) return { status: "failed", error: text };
    return {
      status: error.kind === "network" && begun ? "interrupted" : "failed", error: text, errorKind: error.kind,
      ...(error.retryAfterS !== null && { retryAfterS: error.retryAfterS }),
    };
  }

  private take(event: ChatEvent): void {
    if (event.type === "alive") {
      if (this.phase.value === "starting") this.phase.value = "queued";
      return;
    }
    this.lastEvent = performance.now();
    if (this.stalled.value) this.stalled.value = false;
    if (event.type === "usage") {
      this.draft = { ...this.draft, usage: event.usage };
    } else if (event.type === "finish") {
      this.draft = { ...this.draft, finish: event.reason };
    } else {
      this.grow(event);
    }
    this.showTimer ??= setTimeout(() => this.show(), showEveryMs);
  }

  private grow(event: Exclude<ChatEvent, { type: "alive" | "usage" | "finish" }>): void {
    this.draft = { ...this.draft };
    this.draft.firstTokenMs ??= performance.now() - this.begun;
    if (event.type === "reasoning") {
      this.reasoningBegun ||= performance.now();
      this.draft.reasoning += event.text;
      this.phase.value = "thinking";
      return;
    }
    Object.assign(this.draft, this.reasoningTime());
    this.phase.value = "answering";
    if (event.type === "content") this.draft.content += event.text;
    else this.draft.toolCalls = withCall(this.draft.toolCalls, event);
  }

  private reasoningTime(): Partial<Message> {
    if (this.reasoningBegun === 0) return {};
    const reasoningMs = performance.now() - this.reasoningBegun;
    this.reasoningBegun = 0;
    return { reasoningMs };
  }

  private show(): void {
    this.showTimer = undefined;
    this.message.value = this.draft;
    const now = performance.now();
    if (now - this.lastSave < saveEveryMs) return;
    this.lastSave = now;
    this.save(this.draft).catch(() => undefined);
  }

  private watch(): void {
    const tokensCame = this.lastEvent > 0 && this.draft.finish === undefined;
    this.stalled.value = tokensCame && performance.now() - this.lastEvent > stallMs;
  }
}

/** The calls with one more piece of one of them. */
export function withCall(calls: ToolCall[], piece: Extract<ChatEvent, { type: "tool" }>): ToolCall[] {
  const index = Math.min(Math.max(0, piece.index), calls.length);
  const call = calls[index] ?? { id: "", name: "", arguments: "" };
  const grown = [...calls];
  grown[index] = {
    id: piece.id ?? call.id,
    name: call.name + (piece.name ?? ""),
    arguments: call.arguments + (piece.arguments ?? ""),
  };
  return grown;
}
