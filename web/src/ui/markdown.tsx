// Markdown in the page. While it grows, complete blocks are read out one by one.

import { useEffect, useMemo, useRef } from "preact/hooks";
import { language, texts } from "../i18n";
import { announce, notify } from "../state/notices";
import { highlighterReady } from "../text/highlight";
import { MarkdownRenderer, spoken } from "../text/markdown";
import { copy } from "./files";

async function copyCode(event: MouseEvent): Promise<void> {
  const button = (event.target as Element).closest("button.code-copy");
  const code = button?.closest(".code")?.querySelector("code");
  if (!button || !code) return;
  const copied = await copy(code.textContent ?? "");
  notify(copied ? texts.value.copied : texts.value.copyFailed);
}

export function Markdown({ source, growing = false }: { source: string; growing?: boolean }) {
  const chosen = language.value;
  const coloured = highlighterReady.value;
  const renderer = useMemo(
    () => new MarkdownRenderer({ copy: texts.value.copy, image: texts.value.picture }),
    [chosen, coloured],
  );
  const blocks = useMemo(() => renderer.render(source, growing), [renderer, source, growing]);
  useReadOut(blocks, growing);
  return (
    <div class="markdown" onClick={(event) => void copyCode(event)}>
      {blocks.map((block, index) => (
        <div class="block" key={index} dangerouslySetInnerHTML={{ __html: block.html }} />
      ))}
    </div>
  );
}

function useReadOut(blocks: { source: string }[], growing: boolean): void {
  // What was there when the text was first shown is not news.
  const read = useRef(growing ? 0 : blocks.length);
  const wasGrowing = useRef(growing);
  useEffect(() => {
    const complete = growing ? blocks.length - 1 : blocks.length;
    if (growing || wasGrowing.current) {
      for (; read.current < complete; read.current++) announce(spoken(blocks[read.current]?.source ?? ""));
    }
    wasGrowing.current = growing;
    if (!growing) read.current = blocks.length;
  }, [blocks, growing]);
}
