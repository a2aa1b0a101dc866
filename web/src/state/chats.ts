// All conversations: the list, the one that is shown, what is asked in them, and their storing.
//
// Two tabs may be open: each tells the other what it changed, and an answer that is on its way in one
// holds a lock by which the other knows that it is not interrupted.

import { batch, computed, signal } from "@preact/signals";
import { Answer } from "../chat/answer";
import { canContinue, type Question } from "../chat/body";
import {
  type Conversation, historyOf, type Message, type Messages, newConversation, newMessage, pathOf, select, titleOf,
} from "../chat/tree";
import { openStore, type Store } from "../store/db";
import type { Exported } from "../store/transfer";
import { connection, models, noteFailure, noteSuccess, onceKeyGiven } from "./server";
import { settings } from "./settings";

let store: Store;
const channel = "BroadcastChannel" in window ? new BroadcastChannel("fathom") : null;

/** Newest first. */
export const conversations = signal<Conversation[]>([]);
/** null: a new conversation, which exists once something is asked. */
export const currentId = signal<string | null>(null);
const loaded = signal<ReadonlyMap<string, Messages>>(new Map());
/** Answers on their way, by message id. */
export const answers = signal<ReadonlyMap<string, Answer>>(new Map());
export const lasting = signal(true);
/** What a conversation that does not exist yet will begin with. */
export const draftConversation = signal<Conversation>(newConversation("", settings.value.params));

const none: Messages = new Map();

export const current = computed<Conversation>(() =>
  conversations.value.find((conversation) => conversation.id === currentId.value) ?? draftConversation.value);
export const currentMessages = computed<Messages>(() => loaded.value.get(current.value.id) ?? none);
export const shownPath = computed<Message[]>(() => pathOf(current.value, currentMessages.value));
export const currentAnswer = computed<Answer | null>(() => {
  const last = shownPath.value.at(-1);
  return (last && answers.value.get(last.id)) ?? null;
});

/** The conversation's model if the server has it, else the one used last, else the first. */
export const currentModel = computed<string>(() => {
  const names = models.value.map((model) => model.id);
  const wanted = [current.value.model, settings.value.model];
  return wanted.find((name) => names.includes(name)) ?? names[0] ?? "";
});

export async function openChats(): Promise<void> {
  store = await openStore();
  lasting.value = store.lasting;
  await reloadList();
  channel?.addEventListener("message", (event: MessageEvent<{ conversation: string }>) => {
    void reloadFromOtherTab(event.data.conversation);
  });
}

async function reloadList(): Promise<void> {
  conversations.value = (await store.conversations()).sort((a, b) => b.updatedAt - a.updatedAt);
}

async function reloadFromOtherTab(id: string): Promise<void> {
  await reloadList();
  const busy = [...answers.value.values()].some((answer) => answer.message.value.conversation === id);
  if (loaded.value.has(id) && !busy) await load(id, true);
}

function tellOthers(conversation: string): void {
  channel?.postMessage({ conversation });
}

async function load(id: string, again = false): Promise<void> {
  if (loaded.value.has(id) && !again) return;
  const messages = await store.messages(id);
  const held = await answersElsewhere();
  const found = new Map<string, Message>();
  const broken: Message[] = [];
  for (const message of messages) {
    const lost = message.status === "streaming" && !answers.value.has(message.id) && !held.has(message.id);
    const kept: Message = lost ? { ...message, status: "interrupted" } : message;
    if (lost) broken.push(kept);
    found.set(message.id, kept);
  }
  loaded.value = new Map(loaded.value).set(id, found);
  if (broken.length > 0) await store.putMessages(broken);
}

const lockPrefix = "fathom-answer-";

/** Answers that other tabs are receiving. Without locks (plain http beyond this machine): none known. */
async function answersElsewhere(): Promise<Set<string>> {
  if (!navigator.locks) return new Set();
  const { held = [] } = await navigator.locks.query();
  return new Set(held.map((lock) => lock.name ?? "").filter((name) => name.startsWith(lockPrefix))
    .map((name) => name.slice(lockPrefix.length)));
}

function whileLocked<T>(id: string, work: () => Promise<T>): Promise<T> {
  return navigator.locks ? navigator.locks.request(lockPrefix + id, work) as Promise<T> : work();
}

export async function open(id: string | null): Promise<void> {
  if (id !== null && conversations.value.some((conversation) => conversation.id === id)) {
    await load(id);
    currentId.value = id;
  } else {
    currentId.value = null;
    draftConversation.value = newConversation(settings.value.model, settings.value.params);
  }
}

/** Changes the shown conversation; one that does not exist yet only in memory. */
export function changeCurrent(part: Partial<Conversation>): void {
  if (currentId.value === null) draftConversation.value = { ...draftConversation.value, ...part };
  else void put({ ...current.value, ...part });
}

export async function rename(id: string, title: string): Promise<void> {
  const conversation = conversations.value.find((candidate) => candidate.id === id);
  if (conversation && title.trim() !== "") await put({ ...conversation, title: title.trim() });
}

async function put(conversation: Conversation): Promise<void> {
  const others = conversations.value.filter((candidate) => candidate.id !== conversation.id);
  conversations.value = [conversation, ...others].sort((a, b) => b.updatedAt - a.updatedAt);
  await store.putConversation(conversation);
  tellOthers(conversation.id);
}

async function putMessages(messages: Message[]): Promise<void> {
  const byConversation = new Map(loaded.value);
  for (const message of messages) {
    const grown = new Map(byConversation.get(message.conversation));
    byConversation.set(message.conversation, grown.set(message.id, message));
  }
  loaded.value = byConversation;
  await store.putMessages(messages);
}

/** Deletes, and returns what brings it back. */
export async function remove(id: string): Promise<() => Promise<void>> {
  const conversation = conversations.value.find((candidate) => candidate.id === id);
  for (const answer of answers.value.values()) if (answer.message.value.conversation === id) answer.stop();
  const messages = await store.messages(id);
  conversations.value = conversations.value.filter((candidate) => candidate.id !== id);
  const rest = new Map(loaded.value);
  rest.delete(id);
  loaded.value = rest;
  await store.deleteConversation(id);
  tellOthers(id);
  return async () => {
    if (conversation) await add([{ conversation, messages }]);
  };
}

export async function removeAll(): Promise<void> {
  for (const answer of answers.value.values()) answer.stop();
  await store.deleteAll();
  batch(() => {
    conversations.value = [];
    loaded.value = new Map();
  });
  tellOthers("");
}

export async function add(exported: Exported[]): Promise<void> {
  for (const { conversation, messages } of exported) {
    await store.putMessages(messages);
    await put(conversation);
  }
}

export async function exportOf(ids: string[]): Promise<Exported[]> {
  const exported: Exported[] = [];
  for (const id of ids) {
    const conversation = conversations.value.find((candidate) => candidate.id === id);
    if (conversation) exported.push({ conversation, messages: await store.messages(id) });
  }
  return exported;
}

export function search(text: string): Promise<Set<string>> {
  return store.search(text);
}

// What is asked. Each of these adds to the shown conversation and begins an answer.

export async function send(text: string): Promise<void> {
  const parent = shownPath.value.at(-1)?.id ?? null;
  await ask(text, parent);
}

/** Another version of a question, beside it. */
export async function edit(message: Message, text: string): Promise<void> {
  await ask(text, message.parent);
}

async function ask(text: string, parent: string | null): Promise<void> {
  let conversation = current.value;
  if (conversation.title === "") conversation = { ...conversation, title: titleOf(text) };
  const question = newMessage(conversation.id, parent, "user", text);
  conversation = { ...select(conversation, question), updatedAt: Date.now() };
  batch(() => {
    void putMessages([question]);
    void put(conversation);
    currentId.value = conversation.id;
  });
  await begin(conversation, newMessage(conversation.id, question.id, "assistant", ""));
}

/** Another answer to the same question, beside the first; a failed one without a word is replaced. */
export async function regenerate(message: Message): Promise<void> {
  const empty = message.status === "failed" && message.content === "" && message.reasoning === "";
  const fresh = newMessage(message.conversation, message.parent, "assistant", "");
  await begin(current.value, empty ? { ...fresh, id: message.id } : fresh);
}

export async function resume(message: Message): Promise<void> {
  if (canContinue(message)) await begin(current.value, message, message);
}

/** Answers a question that has none (the page was left between the two). */
export async function answerAgain(question: Message): Promise<void> {
  await begin(current.value, newMessage(question.conversation, question.id, "assistant", ""));
}

async function begin(conversation: Conversation, message: Message, continued?: Message): Promise<void> {
  if (answers.value.has(message.id)) return;
  const history = historyOf(new Map(currentMessages.value).set(message.id, message), message.id);
  const model = currentModel.value;
  const question: Question = {
    model, params: conversation.params, history, ...(continued && { continued }),
  };
  const answer = new Answer(message, question, (grown) => store.putMessages([grown]));
  batch(() => {
    answers.value = new Map(answers.value).set(message.id, answer);
    void putMessages([answer.message.value]);
    void put({ ...select(conversation, message), model, updatedAt: Date.now() });
  });
  const { message: ended, error } = await whileLocked(message.id, () => answer.run());
  const rest = new Map(answers.value);
  rest.delete(message.id);
  const exists = conversations.value.some((candidate) => candidate.id === ended.conversation);
  batch(() => {
    answers.value = rest;
    if (exists) void putMessages([ended]);
  });
  if (!exists) await store.deleteConversation(ended.conversation);
  if (error !== null) {
    if (ended.errorKind === "auth") {
      onceKeyGiven(() => {
        if (currentMessages.value.has(ended.id)) void regenerate(ended);
      });
    }
    noteFailure(error);
  }
  if (error === null && connection.value !== "ok") noteSuccess();
  tellOthers(ended.conversation);
}
