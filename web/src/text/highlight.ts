// Colours for code. The highlighter is loaded when the first block of code is shown; until then, and
// for languages it does not know, code is plain text.

import { signal } from "@preact/signals";
import type { HLJSApi } from "highlight.js";

let highlighter: HLJSApi | null = null;
let loading = false;

/** Turns true once, when code that was shown plain can be shown in colour. */
export const highlighterReady = signal(false);

/** Longer texts stay plain: colouring them would make the page stutter. */
const maxChars = 100_000;

/** HTML of spans and escaped text, or null: show the code as it is. */
export function highlight(code: string, language: string): string | null {
  if (code.length > maxChars || language === "") return null;
  if (highlighter === null) {
    void load();
    return null;
  }
  if (!highlighter.getLanguage(language)) return null;
  return highlighter.highlight(code, { language, ignoreIllegals: true }).value;
}

async function load(): Promise<void> {
  if (loading) return;
  loading = true;
  highlighter = (await import("./languages")).default;
  highlighterReady.value = true;
}
