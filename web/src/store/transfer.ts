// Conversations as files: JSON, which can be imported again, and Markdown, which is for reading.
//
// An imported file is foreign: every field is checked, sizes are bounded, and all ids are made anew,
// so that importing never overwrites what is there.

import { defaultParams, type Params, type Thinking, type ToolCall } from "../api/types";
import { type Conversation, type Message, type MessageStatus, newId, pathOf, root } from "../chat/tree";

export interface Exported {
  conversation: Conversation;
  messages: Message[];
}

const format = "fathom-conversations";
export const maxImportBytes = 64 * 1024 * 1024;
const maxMessages = 100_000;

export function toJson(exported: Exported[]): string {
  return `${JSON.stringify({ format, version: 1, conversations: exported }, null, 2)}\n`;
}

/** The shown branch. */
export function toMarkdown({ conversation, messages }: Exported, names: { user: string; reasoning: string }): string {
  const parts = [`# ${conversation.title || conversation.id}`];
  if (conversation.params.system.trim() !== "") parts.push(quote(conversation.params.system));
  for (const message of pathOf(conversation, new Map(messages.map((m) => [m.id, m])))) {
    parts.push(`## ${message.role === "user" ? names.user : (message.model ?? "fathom")}`);
    if (message.reasoning !== "") parts.push(`**${names.reasoning}**\n\n${quote(message.reasoning)}`);
    if (message.content !== "") parts.push(message.content.trim());
    for (const call of message.toolCalls) parts.push(`\`${call.name}\`\n\n\`\`\`json\n${call.arguments}\n\`\`\``);
  }
  return `${parts.join("\n\n")}\n`;
}

function quote(text: string): string {
  return text.trim().split("\n").map((line) => `> ${line}`.trimEnd()).join("\n");
}

type Fields = Record<string, unknown>;

function fields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${what}: expected an object, found ${value === null ? "null" : typeof value}`);
  }
  return value as Fields;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${what}: expected a list, found ${typeof value}`);
  return value;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const finite = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;

/** Throws an Error that says what is wrong with the file. */
export function fromJson(source: string): Exported[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(source);
  } catch (error) {
    throw new Error(`not a JSON file: ${(error as Error).message}`);
  }
  const file = fields(parsed, "the file");
  if (file["format"] !== format) throw new Error(`format: expected "${format}", found ${JSON.stringify(file["format"])}`);
  if (file["version"] !== 1) throw new Error(`version: expected 1, found ${JSON.stringify(file["version"])}`);
  return list(file["conversations"], "conversations").map((entry, index) =>
    readConversation(fields(entry, `conversations[${index}]`), `conversations[${index}]`));
}

function readConversation(entry: Fields, where: string): Exported {
  const head = fields(entry["conversation"], `${where}.conversation`);
  const raw = list(entry["messages"], `${where}.messages`);
  if (raw.length > maxMessages) throw new Error(`${where}.messages: ${raw.length} of them, at most ${maxMessages}`);
  const id = newId();
  const ids = new Map<string, string>();
  const objects = raw.map((message, index) => fields(message, `${where}.messages[${index}]`));
  for (const [index, message] of objects.entries()) {
    const old = text(message["id"]);
    if (old === "" || ids.has(old)) throw new Error(`${where}.messages[${index}].id: missing or used twice`);
    ids.set(old, newId());
  }
  const now = Date.now();
  const selected: Record<string, string> = {};
  for (const [parent, child] of Object.entries(fields(head["selected"] ?? {}, `${where}.conversation.selected`))) {
    const from = parent === root ? root : ids.get(parent);
    const to = ids.get(text(child));
    if (from !== undefined && to !== undefined) selected[from] = to;
  }
  return {
    conversation: {
      id, title: text(head["title"]).slice(0, 200), model: text(head["model"]).slice(0, 200),
      createdAt: finite(head["createdAt"]) ?? now, updatedAt: finite(head["updatedAt"]) ?? now,
      params: readParams(head["params"] ?? {}), selected,
    },
    messages: objects.map((message, index) => readMessage(message, id, ids, `${where}.messages[${index}]`)),
  };
}

function readParams(value: unknown): Params {
  const params = fields(value, "params");
  const thinking = text(params["thinking"]);
  return {
    system: text(params["system"]),
    thinking: (["on", "off"].includes(thinking) ? thinking : defaultParams.thinking) as Thinking,
    temperature: finite(params["temperature"]),
    top_p: finite(params["top_p"]),
    max_tokens: finite(params["max_tokens"]),
    seed: finite(params["seed"]),
  };
}

function readMessage(message: Fields, conversation: string, ids: Map<string, string>, where: string): Message {
  const role = message["role"];
  if (role !== "user" && role !== "assistant") {
    throw new Error(`${where}.role: expected "user" or "assistant", found ${JSON.stringify(role)}`);
  }
  const parent = message["parent"] === null ? null : ids.get(text(message["parent"]));
  if (parent === undefined) throw new Error(`${where}.parent: there is no such message`);
  const status = text(message["status"]) as MessageStatus;
  const toolCalls: ToolCall[] = Array.isArray(message["toolCalls"])
    ? message["toolCalls"].map((call) => fields(call, `${where}.toolCalls`)).map((call) => ({
        id: text(call["id"]), name: text(call["name"]), arguments: text(call["arguments"]),
      }))
    : [];
  const read: Message = {
    id: ids.get(text(message["id"])) as string,
    conversation, parent, role,
    content: text(message["content"]),
    reasoning: text(message["reasoning"]),
    toolCalls,
    status: ["done", "stopped", "failed"].includes(status) ? status : role === "user" ? "done" : "interrupted",
    createdAt: finite(message["createdAt"]) ?? 0,
  };
  for (const name of ["error", "finish", "model"] as const) {
    if (typeof message[name] === "string") read[name] = message[name];
  }
  for (const name of ["reasoningMs", "firstTokenMs", "elapsedMs"] as const) {
    const value = finite(message[name]);
    if (value !== null) read[name] = value;
  }
  const usage = message["usage"];
  if (typeof usage === "object" && usage !== null) {
    const counts = usage as Fields;
    read.usage = {};
    for (const name of ["prompt_tokens", "completion_tokens", "prompt_cache_hit_tokens"] as const) {
      const value = finite(counts[name]);
      if (value !== null) read.usage[name] = value;
    }
  }
  return read;
}
