// Server-sent events, parsed from text that arrives in arbitrary pieces (HTML standard, section 9.2).
//
// Comments are handed out too: the server sends ": keep-alive" while a question waits in the queue,
// and the page shows that. Reconnecting (id, retry) is not done here: a POST cannot be resumed.

export type SseItem = { kind: "event"; event: string; data: string } | { kind: "comment"; text: string };

/** No event of the API comes near this; a server that sends a longer one is not ours. */
export const maxEventChars = 16 * 1024 * 1024;

export class SseParser {
  private rest = "";
  private started = false;
  private event = "";
  private data: string[] = [];
  private chars = 0;

  /** Returns what the text completes. Throws RangeError if one event exceeds maxEventChars. */
  push(text: string): SseItem[] {
    if (!this.started && text !== "") {
      this.started = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    const items: SseItem[] = [];
    let buffer = this.rest + text;
    let begin = 0;
    for (;;) {
      const end = lineEnd(buffer, begin);
      if (end < 0) break;
      this.line(buffer.slice(begin, end), items);
      begin = buffer[end] === "\r" && buffer[end + 1] === "\n" ? end + 2 : end + 1;
    }
    this.rest = buffer.slice(begin);
    if (this.rest.length + this.chars > maxEventChars) {
      throw new RangeError(`an event of the stream is longer than ${maxEventChars} characters`);
    }
    return items;
  }

  private line(line: string, items: SseItem[]): void {
    if (line === "") {
      if (this.data.length > 0) {
        items.push({ kind: "event", event: this.event || "message", data: this.data.join("\n") });
      }
      this.event = "";
      this.data = [];
      this.chars = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) {
      items.push({ kind: "comment", text: line.slice(1).trim() });
      return;
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") {
      this.data.push(value);
      this.chars += value.length;
    } else if (field === "event") {
      this.event = value;
    }
  }
}

/** Where the line that begins at `begin` ends; -1 if that is not known yet. */
function lineEnd(buffer: string, begin: number): number {
  for (let i = begin; i < buffer.length; i++) {
    const c = buffer.charCodeAt(i);
    if (c === 10) return i;
    // A carriage return at the very end may be half of a pair.
    if (c === 13) return i + 1 < buffer.length ? i : -1;
  }
  return -1;
}
