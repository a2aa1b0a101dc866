// What is sent for a question: the shown branch and the parameters as the API's JSON.

import type { Params } from "../api/types";
import type { Message } from "./tree";

interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
  reasoning_content?: string;
  prefix?: true;
}

export interface Question {
  model: string;
  params: Params;
  history: Message[];
  /** An answer that broke off and is to go on from its last word. */
  continued?: Message;
}

/** Answers can go on where they have begun to answer; cut reasoning has to begin anew. */
export function canContinue(message: Message): boolean {
  return message.role === "assistant" && message.content.trim() !== "" && message.toolCalls.length === 0;
}

export function pathFor(question: Question): string {
  return question.continued ? "beta/chat/completions" : "v1/chat/completions";
}

export function bodyFor({ model, params, history, continued }: Question): Record<string, unknown> {
  const messages: ChatMessage[] = [];
  if (params.system.trim() !== "") messages.push({ role: "system", content: params.system });
  for (const message of history) {
    // An answer of which nothing came would be refused, and says nothing.
    if (message.role === "assistant" && message.content === "") continue;
    messages.push({ role: message.role, content: message.content });
  }
  if (continued) {
    messages.push({
      role: "assistant", content: continued.content, prefix: true,
      ...(continued.reasoning !== "" && { reasoning_content: continued.reasoning }),
    });
  }
  const body: Record<string, unknown> = {
    model, messages, stream: true, stream_options: { include_usage: true },
  };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"] as const) {
    if (params[name] !== null) body[name] = params[name];
  }
  if (params.thinking !== "default") {
    body["thinking"] = { type: params.thinking === "on" ? "enabled" : "disabled" };
  }
  return body;
}
