// The box one writes into. Enter sends, unless an input method is composing a word with it.

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { texts } from "../i18n";
import { currentAnswer, currentId, currentModel, send } from "../state/chats";
import { Icon } from "./icons";

/** What was written and not sent, by conversation. */
const drafts = signal<Record<string, string>>({});

export function setDraft(text: string): void {
  drafts.value = { ...drafts.value, [currentId.value ?? ""]: text };
}

export function focusComposer(): void {
  document.getElementById("composer")?.focus();
}

export function Composer() {
  const area = useRef<HTMLTextAreaElement>(null);
  const text = drafts.value[currentId.value ?? ""] ?? "";
  const answer = currentAnswer.value;
  const ready = text.trim() !== "" && answer === null && currentModel.value !== "";
  const t = texts.value;

  useLayoutEffect(() => {
    const box = area.current;
    if (!box || CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);
  useEffect(() => {
    // On a phone this would open the keyboard over what is to be read.
    if (matchMedia("(hover: hover)").matches) area.current?.focus();
  }, [currentId.value]);

  const submit = () => {
    if (!ready) return;
    setDraft("");
    void send(text.trim());
  };
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); submit(); }}>
      <label class="visually-hidden" for="composer">{t.messageLabel}</label>
      <textarea id="composer" ref={area} rows={1} value={text} placeholder={t.messagePlaceholder}
        aria-describedby="composer-hint" enterkeyhint="send" autocomplete="off"
        onInput={(event) => setDraft(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
          event.preventDefault();
          submit();
        }} />
      {answer ? (
        <button type="button" class="send" aria-label={t.stop} title={t.stop} onClick={() => { answer.stop(); focusComposer(); }}>
          <Icon name="stop" />
        </button>
      ) : (
        <button type="submit" class="send" aria-label={t.send} title={t.send} disabled={!ready}>
          <Icon name="send" />
        </button>
      )}
      <p id="composer-hint" class="composer-hint">{t.messageHint}</p>
    </form>
  );
}
