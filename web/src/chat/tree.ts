// A conversation as a tree: editing a question or asking for another answer adds a sibling, and
// nothing is ever overwritten. Pure functions; storing and showing is done elsewhere.

import type { ErrorKind } from "../api/client";
import { defaultParams, type Params, type ToolCall, type Usage } from "../api/types";

export type Role = "user" | "assistant";

export type MessageStatus =
  | "done"
  | "streaming"
  | "stopped" // by the user
  | "interrupted" // the page or the connection went away
  | "failed"; // the server refused or broke

export interface Message {
  id: string;
  conversation: string;
  /** null: the conversation begins here. */
  parent: string | null;
  role: Role;
  content: string;
  reasoning: string;
  toolCalls: ToolCall[];
  status: MessageStatus;
  createdAt: number;
  error?: string;
  errorKind?: ErrorKind;
  retryAfterS?: number;
  finish?: string;
  model?: string;
  usage?: Usage;
  /** Milliseconds from the first word of reasoning to the first of the answer. */
  reasoningMs?: number;
  firstTokenMs?: number;
  elapsedMs?: number;
}

export interface Conversation {
  id: string;
  title: string;
  createdAt: number;
  updatedAt: number;
  /** Empty: whatever the server offers first. */
  model: string;
  params: Params;
  /** The chosen child of each message; of `root`, the chosen beginning. */
  selected: Record<string, string>;
}

export type Messages = ReadonlyMap<string, Message>;

export const root = "root";

export function newId(): string {
  // crypto.randomUUID needs a secure context, which http://machine:8080 is not.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(model: string, params: Params = defaultParams): Conversation {
  const now = Date.now();
  return {
    id: newId(), title: "", createdAt: now, updatedAt: now, model, params: { ...params }, selected: {},
  };
}

export function newMessage(conversation: string, parent: string | null, role: Role, content: string): Message {
  return {
    id: newId(), conversation, parent, role, content, reasoning: "", toolCalls: [],
    status: role === "user" ? "done" : "streaming", createdAt: Date.now(),
  };
}

/** All that answer or follow `parent`, oldest first. */
export function childrenOf(messages: Messages, parent: string | null): Message[] {
  const found: Message[] = [];
  for (const message of messages.values()) if (message.parent === parent) found.push(message);
  return found.sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
}

/** The messages shown: from the beginning along the chosen branch. */
export function pathOf(conversation: Conversation, messages: Messages): Message[] {
  const children = new Map<string, Message[]>();
  for (const message of messages.values()) {
    const key = message.parent ?? root;
    const list = children.get(key);
    if (list) list.push(message);
    else children.set(key, [message]);
  }
  const path: Message[] = [];
  let key = root;
  for (;;) {
    const list = children.get(key);
    if (!list) return path;
    const chosen = list.find((message) => message.id === conversation.selected[key]) ?? latest(list);
    path.push(chosen);
    key = chosen.id;
  }
}

function latest(list: Message[]): Message {
  return list.reduce((a, b) => (b.createdAt > a.createdAt || (b.createdAt === a.createdAt && b.id > a.id) ? b : a));
}

/** The messages up to and without `id`, following parents. */
export function historyOf(messages: Messages, id: string): Message[] {
  const history: Message[] = [];
  const seen = new Set([id]);
  for (let parent = messages.get(id)?.parent; parent && !seen.has(parent);) {
    const message = messages.get(parent);
    if (!message) break;
    seen.add(parent);
    history.unshift(message);
    parent = message.parent;
  }
  return history;
}

/** The conversation with `message` on the shown branch. */
export function select(conversation: Conversation, message: Message): Conversation {
  return { ...conversation, selected: { ...conversation.selected, [message.parent ?? root]: message.id } };
}

/** A title from the first question: its first line, cut at a word. */
export function titleOf(text: string): string {
  const line = text.trim().split("\n", 1)[0]?.replace(/^[#>*\-\s`]+/, "").trim() ?? "";
  const characters = [...line];
  if (characters.length <= 60) return line;
  const cut = characters.slice(0, 60).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > 30 ? cut.slice(0, space) : cut}…`;
}
