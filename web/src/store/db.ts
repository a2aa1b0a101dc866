// Conversations in IndexedDB: one record per conversation, one per message, so that an answer that
// is being streamed rewrites itself alone. Where there is no IndexedDB (some private windows), the
// same interface keeps them in memory until the page is left.

import type { Conversation, Message } from "../chat/tree";

export interface Store {
  /** False: what is written is gone when the page is left. */
  readonly lasting: boolean;
  conversations(): Promise<Conversation[]>;
  messages(conversation: string): Promise<Message[]>;
  putConversation(conversation: Conversation): Promise<void>;
  putMessages(messages: Message[]): Promise<void>;
  /** With all its messages. */
  deleteConversation(id: string): Promise<void>;
  deleteAll(): Promise<void>;
  /** Ids of the conversations that hold the text in a message, whatever its case. */
  search(text: string): Promise<Set<string>>;
}

const version = 1;

export async function openStore(name = "fathom"): Promise<Store> {
  try {
    return new IndexedStore(await openDatabase(name));
  } catch {
    return new MemoryStore();
  }
}

function openDatabase(name: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, version);
    request.onupgradeneeded = () => {
      const db = request.result;
      db.createObjectStore("conversations", { keyPath: "id" });
      db.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
    };
    request.onsuccess = () => {
      // Another tab with a newer page may want to change the layout.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds an older layout"));
  });
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function completed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

function contains(message: Message, lower: string): boolean {
  return message.content.toLowerCase().includes(lower);
}

class IndexedStore implements Store {
  readonly lasting = true;
  constructor(private readonly db: IDBDatabase) {}

  conversations(): Promise<Conversation[]> {
    return result(this.db.transaction("conversations").objectStore("conversations").getAll());
  }

  messages(conversation: string): Promise<Message[]> {
    return result(this.db.transaction("messages").objectStore("messages").index("conversation").getAll(conversation));
  }

  putConversation(conversation: Conversation): Promise<void> {
    const transaction = this.db.transaction("conversations", "readwrite");
    transaction.objectStore("conversations").put(conversation);
    return completed(transaction);
  }

  putMessages(messages: Message[]): Promise<void> {
    const transaction = this.db.transaction("messages", "readwrite");
    for (const message of messages) transaction.objectStore("messages").put(message);
    return completed(transaction);
  }

  async deleteConversation(id: string): Promise<void> {
    const transaction = this.db.transaction(["conversations", "messages"], "readwrite");
    transaction.objectStore("conversations").delete(id);
    const messages = transaction.objectStore("messages");
    for (const key of await result(messages.index("conversation").getAllKeys(id))) messages.delete(key);
    return completed(transaction);
  }

  deleteAll(): Promise<void> {
    const transaction = this.db.transaction(["conversations", "messages"], "readwrite");
    transaction.objectStore("conversations").clear();
    transaction.objectStore("messages").clear();
    return completed(transaction);
  }

  search(text: string): Promise<Set<string>> {
    const lower = text.toLowerCase();
    const found = new Set<string>();
    const request = this.db.transaction("messages").objectStore("messages").openCursor();
    return new Promise((resolve, reject) => {
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor) return resolve(found);
        const message = cursor.value as Message;
        if (!found.has(message.conversation) && contains(message, lower)) found.add(message.conversation);
        cursor.continue();
      };
    });
  }
}

class MemoryStore implements Store {
  readonly lasting = false;
  private readonly heads = new Map<string, Conversation>();
  private readonly bodies = new Map<string, Message>();

  async conversations(): Promise<Conversation[]> {
    return [...this.heads.values()];
  }
  async messages(conversation: string): Promise<Message[]> {
    return [...this.bodies.values()].filter((message) => message.conversation === conversation);
  }
  async putConversation(conversation: Conversation): Promise<void> {
    this.heads.set(conversation.id, conversation);
  }
  async putMessages(messages: Message[]): Promise<void> {
    for (const message of messages) this.bodies.set(message.id, message);
  }
  async deleteConversation(id: string): Promise<void> {
    this.heads.delete(id);
    for (const message of await this.messages(id)) this.bodies.delete(message.id);
  }
  async deleteAll(): Promise<void> {
    this.heads.clear();
    this.bodies.clear();
  }
  async search(text: string): Promise<Set<string>> {
    const lower = text.toLowerCase();
    const found = [...this.bodies.values()].filter((message) => contains(message, lower));
    return new Set(found.map((message) => message.conversation));
  }
}
