import { describe, expect, it } from "vitest";
import {
  childrenOf, type Conversation, historyOf, type Message, newConversation, newMessage, pathOf, select, titleOf,
} from "./tree";

/** "a<root" adds message a at the beginning, "b<a" adds b below a; later ones are younger. */
function build(...edges: string[]) {
  const conversation = newConversation("nano");
  const messages = new Map<string, Message>();
  edges.forEach((edge, index) => {
    const [id = "", parent = ""] = edge.split("<");
    messages.set(id, {
      ...newMessage(conversation.id, parent === "root" ? null : parent, index % 2 ? "assistant" : "user", id),
      id, createdAt: 1000 + index,
    });
  });
  return { conversation, messages };
}
const ids = (list: Message[]) => list.map((message) => message.id).join(" ");

describe("branches", () => {
  const { conversation, messages } = build("q1<root", "a1<q1", "a2<q1", "q2<a1", "b1<q2", "q1'<root", "c1<q1'");
  const choose = (...chosen: string[]): Conversation =>
    chosen.reduce((c, id) => select(c, messages.get(id) as Message), conversation);

  it("shows the youngest branch unless one was chosen", () => {
    expect(ids(pathOf(conversation, messages))).toBe("q1' c1");
    expect(ids(pathOf(choose("q1"), messages))).toBe("q1 a2");
    expect(ids(pathOf(choose("q1", "a1"), messages))).toBe("q1 a1 q2 b1");
  });

  it("remembers the choice inside a branch that is left and entered again", () => {
    expect(ids(pathOf(choose("q1", "a1", "q1'", "q1"), messages))).toBe("q1 a1 q2 b1");
  });

  it("falls back when the chosen message is gone", () => {
    const gone = new Map(messages);
    gone.delete("a1");
    expect(ids(pathOf(choose("q1", "a1"), gone))).toBe("q1 a2");
  });

  it("lists siblings oldest first", () => {
    expect(ids(childrenOf(messages, "q1"))).toBe("a1 a2");
    expect(ids(childrenOf(messages, null))).toBe("q1 q1'");
  });

  it("gives the history of a message whatever branch is shown", () => {
    expect(ids(historyOf(messages, "b1"))).toBe("q1 a1 q2");
    expect(ids(historyOf(messages, "q1"))).toBe("");
    expect(ids(historyOf(messages, "absent"))).toBe("");
  });

  it("does not change the conversation it is given", () => {
    expect(conversation.selected).toEqual({});
  });

  it("ends on circles that an imported file may hold", () => {
    const circle = build("a<b", "b<a", "c<root", "d<c");
    expect(ids(historyOf(circle.messages, "a"))).toBe("b");
    expect(ids(pathOf(circle.conversation, circle.messages))).toBe("c d");
    circle.messages.set("c", { ...(circle.messages.get("c") as Message), parent: "c" });
    expect(ids(pathOf(circle.conversation, circle.messages))).toBe("");
  });
});

describe("titleOf", () => {
  it("takes the first line without markup", () => {
    expect(titleOf("\n## How deep?\nmore")).toBe("How deep?");
    expect(titleOf("  ")).toBe("");
  });
  it("cuts at a word, and never inside a character", () => {
    expect(titleOf(`${"word ".repeat(20)}`)).toBe(`${"word ".repeat(11)}word…`);
    expect(titleOf("🐋".repeat(80))).toBe(`${"🐋".repeat(60)}…`);
  });
});
