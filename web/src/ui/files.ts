// Files to and from the person's disk, and the clipboard.

import { texts } from "../i18n";
import { add, exportOf } from "../state/chats";
import { notify } from "../state/notices";
import { fromJson, maxImportBytes, toJson, toMarkdown } from "../store/transfer";

function offer(name: string, type: string, content: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function fileName(title: string, extension: string): string {
  const plain = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `${plain || "fathom"}.${extension}`;
}

export async function saveJson(ids: string[]): Promise<void> {
  const exported = await exportOf(ids);
  const title = exported.length === 1 ? exported[0]?.conversation.title ?? "" : "fathom-conversations";
  offer(fileName(title, "json"), "application/json", toJson(exported));
}

export async function saveMarkdown(id: string): Promise<void> {
  const [exported] = await exportOf([id]);
  if (!exported) return;
  const names = { user: texts.value.you, reasoning: texts.value.reasoning };
  offer(fileName(exported.conversation.title, "md"), "text/markdown", toMarkdown(exported, names));
}

export async function importFile(file: File): Promise<void> {
  try {
    if (file.size > maxImportBytes) throw new Error(`${file.size} bytes, at most ${maxImportBytes}`);
    const exported = fromJson(await file.text());
    await add(exported);
    notify(texts.value.imported(exported.length));
  } catch (error) {
    notify(texts.value.importFailed((error as Error).message), undefined, 10_000);
  }
}

/** False where the browser does not allow it. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** The clipboard's interface is missing where the page is neither local nor encrypted. */
function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}
