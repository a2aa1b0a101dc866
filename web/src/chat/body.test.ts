import { describe, expect, it } from "vitest";
import { defaultParams } from "../api/types";
import { bodyFor, canContinue, pathFor } from "./body";
import { newMessage } from "./tree";

const user = (text: string) => newMessage("c", null, "user", text);
const answer = (text: string, reasoning = "") => ({ ...newMessage("c", null, "assistant", text), reasoning });

describe("bodyFor", () => {
  it("leaves to the server what was not set", () => {
    expect(bodyFor({ model: "nano", params: defaultParams, history: [user("hi")] })).toEqual({
      model: "nano", messages: [{ role: "user", content: "hi" }],
      stream: true, stream_options: { include_usage: true },
    });
  });

  it("sends parameters, zero among them, and the system prompt first", () => {
    const params = {
      ...defaultParams, system: "Be brief.", temperature: 0, top_p: 0.9, max_tokens: 5, seed: 0,
      thinking: "off" as const,
    };
    expect(bodyFor({ model: "m", params, history: [user("hi")] })).toMatchObject({
      temperature: 0, top_p: 0.9, max_tokens: 5, seed: 0, thinking: { type: "disabled" },
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "hi" }],
    });
  });

  it("keeps reasoning of earlier turns, and answers without content, to itself", () => {
    const history = [user("a"), answer("b", "because"), user("c"), answer("", "cut"), user("d")];
    expect(bodyFor({ model: "m", params: defaultParams, history })["messages"]).toEqual([
      { role: "user", content: "a" }, { role: "assistant", content: "b" },
      { role: "user", content: "c" }, { role: "user", content: "d" },
    ]);
  });

  it("continues an answer as a prefix, on the path that knows it", () => {
    const question = { model: "m", params: defaultParams, history: [user("a")], continued: answer("half", "why") };
    expect(pathFor(question)).toBe("beta/chat/completions");
    expect((bodyFor(question)["messages"] as object[]).at(-1)).toEqual({
      role: "assistant", content: "half", prefix: true, reasoning_content: "why",
    });
    expect(canContinue(question.continued)).toBe(true);
    expect(canContinue(answer("", "cut while thinking"))).toBe(false);
  });
});
