import { describe, expect, it } from "vitest";
import { defaultParams } from "../api/types";
import { type Message, newConversation, newMessage, pathOf, select } from "../chat/tree";
import { type Exported, fromJson, toJson, toMarkdown } from "./transfer";

function sample(): Exported {
  const question = newMessage("c", null, "user", "How deep?");
  const first: Message = { ...newMessage("c", question.id, "assistant", "One."), status: "done", createdAt: 1 };
  const second: Message = {
    ...newMessage("c", question.id, "assistant", "Two."), status: "done", createdAt: 2, reasoning: "Hm.\n\nYes.",
    model: "nano", usage: { prompt_tokens: 3, completion_tokens: 4 }, reasoningMs: 5,
  };
  const conversation = select({ ...newConversation("nano"), title: "Depth" }, first);
  return { conversation, messages: [question, first, second] };
}
const shown = ({ conversation, messages }: Exported) =>
  pathOf(conversation, new Map(messages.map((m) => [m.id, m]))).map((m) => m.content);
const file = (conversation: object, messages: object[]) =>
  JSON.stringify({ format: "fathom-conversations", version: 1, conversations: [{ conversation, messages }] });

describe("JSON", () => {
  it("comes back as it went, with ids of its own and the chosen branch", () => {
    const exported = sample();
    const [imported] = fromJson(toJson([exported])) as [Exported];
    expect(shown(imported)).toEqual(["How deep?", "One."]);
    expect(imported.conversation).toMatchObject({ title: "Depth", model: "nano", params: defaultParams });
    expect(imported.messages[2]).toMatchObject({
      reasoning: "Hm.\n\nYes.", usage: { prompt_tokens: 3, completion_tokens: 4 }, reasoningMs: 5, status: "done",
    });
    const old = new Set(exported.messages.map((m) => m.id));
    expect(imported.messages.some((m) => old.has(m.id))).toBe(false);
  });

  it("takes an answer that was being streamed as interrupted", () => {
    const [imported] = fromJson(file({}, [{ id: "a", parent: null, role: "assistant", status: "streaming" }]));
    expect(imported?.messages[0]?.status).toBe("interrupted");
  });

  it.each([
    ["{", "not a JSON file"],
    ["[]", "the file: expected an object"],
    ['{"format":"x"}', 'format: expected "fathom-conversations", found "x"'],
    ['{"format":"fathom-conversations","version":2}', "version: expected 1, found 2"],
    ['{"format":"fathom-conversations","version":1}', "conversations: expected a list"],
    [file({}, [{ id: "a", parent: null, role: "system" }]), 'role: expected "user" or "assistant", found "system"'],
    [file({}, [{ id: "a", parent: "b", role: "user" }]), "parent: there is no such message"],
    [file({}, [{ id: "a", parent: null, role: "user" }, { id: "a", parent: null, role: "user" }]), "used twice"],
    [file({ selected: [] }, []), "selected: expected an object"],
  ])("refuses %s", (source, message) => {
    expect(() => fromJson(source)).toThrow(message);
  });
});

describe("Markdown", () => {
  it("holds the shown branch, reasoning as a quotation", () => {
    const exported = sample();
    exported.conversation = select(exported.conversation, exported.messages[2] as Message);
    expect(toMarkdown(exported, { user: "You", reasoning: "Reasoning" })).toBe(
      "# Depth\n\n## You\n\nHow deep?\n\n## nano\n\n**Reasoning**\n\n> Hm.\n>\n> Yes.\n\nTwo.\n");
  });
});
