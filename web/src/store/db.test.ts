import "fake-indexeddb/auto";
import { describe, expect, it, vi } from "vitest";
import { newConversation, newMessage } from "../chat/tree";
import { openStore, type Store } from "./db";

async function exercise(store: Store) {
  const a = newConversation("nano");
  const b = newConversation("nano");
  await store.putConversation(a);
  await store.putConversation(b);
  const question = newMessage(a.id, null, "user", "How DEEP is it?");
  const answer = newMessage(a.id, question.id, "assistant", "");
  const other = newMessage(b.id, null, "user", "海有多深");
  await store.putMessages([question, answer, other]);
  await store.putMessages([{ ...answer, content: "Six feet", status: "done" }]);

  expect((await store.conversations()).map((c) => c.id).sort()).toEqual([a.id, b.id].sort());
  expect((await store.messages(a.id)).map((m) => m.content).sort()).toEqual(["How DEEP is it?", "Six feet"]);
  expect(await store.search("deep")).toEqual(new Set([a.id]));
  expect(await store.search("多深")).toEqual(new Set([b.id]));
  expect(await store.search("nothing")).toEqual(new Set());

  await store.deleteConversation(a.id);
  expect((await store.conversations()).map((c) => c.id)).toEqual([b.id]);
  expect(await store.messages(a.id)).toEqual([]);
  expect(await store.messages(b.id)).toHaveLength(1);
  await store.deleteAll();
  expect(await store.conversations()).toEqual([]);
  expect(await store.messages(b.id)).toEqual([]);
}

describe("Store", () => {
  it("keeps conversations and messages in IndexedDB", async () => {
    const store = await openStore("one");
    expect(store.lasting).toBe(true);
    await exercise(store);
  });

  it("keeps them over a reload", async () => {
    const conversation = newConversation("nano");
    await (await openStore("two")).putConversation(conversation);
    expect(await (await openStore("two")).conversations()).toEqual([conversation]);
  });

  it("keeps them in memory where there is no IndexedDB", async () => {
    vi.stubGlobal("indexedDB", undefined);
    const store = await openStore("three");
    vi.unstubAllGlobals();
    expect(store.lasting).toBe(false);
    await exercise(store);
  });
});
