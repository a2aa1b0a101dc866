import { describe, expect, it } from "vitest";
import { maxEventChars, type SseItem, SseParser } from "./sse";

function parse(...pieces: string[]): SseItem[] {
  const parser = new SseParser();
  return pieces.flatMap((piece) => parser.push(piece));
}
const message = (data: string): SseItem => ({ kind: "event", event: "message", data });

describe("SseParser", () => {
  it("hands out an event when its blank line has come", () => {
    const parser = new SseParser();
    expect(parser.push('data: {"a":1}\n')).toEqual([]);
    expect(parser.push("\n")).toEqual([message('{"a":1}')]);
  });

  it("gives the same for every way to cut the text", () => {
    const text = "\uFEFF: keep-alive\n\ndata: one\r\n\r\nevent: error\rdata: two\rdata:three\r\rdata: \u4f60\u597d\n\n";
    const whole = parse(text);
    expect(whole).toEqual([
      { kind: "comment", text: "keep-alive" },
      message("one"),
      { kind: "event", event: "error", data: "two\nthree" },
      message("\u4f60\u597d"),
    ]);
    for (let cut = 0; cut <= text.length; cut++) {
      expect(parse(text.slice(0, cut), text.slice(cut)), `cut at ${cut}`).toEqual(whole);
    }
    expect(parse(...text)).toEqual(whole);
  });

  it("takes a carriage return at the end of a piece as half of a pair", () => {
    expect(parse("data: a\r", "\ndata: b\r\n", "\r\n")).toEqual([message("a\nb")]);
  });

  it("leaves out blocks without data and ignores fields it does not know", () => {
    expect(parse("event: ping\n\n", "id: 7\nretry: 10\ndata\n\n")).toEqual([message("")]);
  });

  it("strips one space only, and keeps colons in the value", () => {
    expect(parse("data:  a: b\n\n")).toEqual([message(" a: b")]);
  });

  it("refuses an event without end", () => {
    const parser = new SseParser();
    expect(() => parser.push("data: " + "x".repeat(maxEventChars + 1))).toThrow(RangeError);
  });

  it("refuses an event of endlessly many lines", () => {
    const parser = new SseParser();
    const line = `data: ${"x".repeat(1 << 20)}\n`;
    expect(() => {
      for (let i = 0; i < 32; i++) parser.push(line);
    }).toThrow(RangeError);
  });
});
