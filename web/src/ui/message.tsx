// One message of the conversation with what can be done with it.

import { useEffect, useRef, useState } from "preact/hooks";
import { canContinue } from "../chat/body";
import type { Answer } from "../chat/answer";
import { childrenOf, type Message, select } from "../chat/tree";
import { formatDuration, formatNumber, texts } from "../i18n";
import { answers, changeCurrent, current, currentAnswer, currentMessages, edit, regenerate, resume } from "../state/chats";
import { notify } from "../state/notices";
import { copy } from "./files";
import { Icon, type IconName } from "./icons";
import { Markdown } from "./markdown";
import { Reasoning } from "./reasoning";

export function MessageView({ message }: { message: Message }) {
  return message.role === "user" ? <Question message={message} /> : <AnswerView message={message} />;
}

function Action({ icon, label, run, disabled = false }: { icon: IconName; label: string; run: () => void; disabled?: boolean }) {
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} aria-disabled={disabled}
      onClick={() => !disabled && run()}>
      <Icon name={icon} size={18} />
    </button>
  );
}

function CopyAction({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  const run = async () => {
    if (!(await copy(text))) return notify(texts.value.copyFailed);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return <Action icon={done ? "check" : "copy"} label={done ? texts.value.copied : texts.value.copy} run={() => void run()} />;
}

/** ‹ 2/3 ›: the other versions of this message. */
function Versions({ message }: { message: Message }) {
  const siblings = childrenOf(currentMessages.value, message.parent);
  if (siblings.length < 2) return null;
  const index = siblings.findIndex((sibling) => sibling.id === message.id);
  const show = (step: number) => {
    const other = siblings[index + step];
    if (other) changeCurrent({ selected: select(current.value, other).selected });
  };
  const t = texts.value;
  return (
    <div class="versions" role="group" aria-label={t.version(index + 1, siblings.length)}>
      <Action icon="left" label={t.previousVersion} run={() => show(-1)} disabled={index === 0} />
      <span aria-hidden="true">{index + 1}/{siblings.length}</span>
      <Action icon="right" label={t.nextVersion} run={() => show(1)} disabled={index === siblings.length - 1} />
    </div>
  );
}

function Question({ message }: { message: Message }) {
  const [editing, setEditing] = useState(false);
  const t = texts.value;
  useEffect(() => setEditing(false), [message.id]);
  if (editing) return <Editor message={message} close={() => setEditing(false)} />;
  return (
    <article class="message question" aria-label={t.youSaid}>
      <div class="bubble">{message.content}</div>
      <div class="actions">
        <Versions message={message} />
        <CopyAction text={message.content} />
        <Action icon="edit" label={t.edit} run={() => setEditing(true)} disabled={currentAnswer.value !== null} />
      </div>
    </article>
  );
}

function Editor({ message, close }: { message: Message; close: () => void }) {
  const area = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(message.content);
  const t = texts.value;
  useEffect(() => {
    area.current?.focus();
    area.current?.setSelectionRange(text.length, text.length);
  }, []);
  const submit = () => {
    if (text.trim() === "") return;
    close();
    void edit(message, text.trim());
    document.getElementById("composer")?.focus();
  };
  return (
    <article class="message question is-editing">
      <form class="editor" onSubmit={(event) => { event.preventDefault(); submit(); }}>
        <textarea ref={area} aria-label={t.editLabel} value={text} rows={3}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") close();
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
              event.preventDefault();
              submit();
            }
          }} />
        <div class="editor-actions">
          <button type="button" class="button" onClick={close}>{t.cancel}</button>
          <button type="submit" class="button primary" disabled={text.trim() === ""}>{t.editSend}</button>
        </div>
      </form>
    </article>
  );
}

function AnswerView({ message: stored }: { message: Message }) {
  const answer = answers.value.get(stored.id);
  const message = answer?.message.value ?? stored;
  const growing = answer !== undefined;
  const thinking = growing && message.content === "" && message.toolCalls.length === 0;
  const t = texts.value;
  return (
    <article class="message answer" aria-label={t.answers(message.model ?? "fathom")} aria-busy={growing}>
      <div class="who">{message.model ?? "fathom"}</div>
      {message.reasoning !== "" &&
        <Reasoning key={message.id} text={message.reasoning} thinking={thinking} tookMs={message.reasoningMs} />}
      {message.content !== "" && <Markdown key={message.id} source={message.content} growing={growing} />}
      {message.toolCalls.map((call, index) => (
        <div class="tool-call" key={index}>
          <div class="tool-name"><Icon name="tool" size={16} /><span class="visually-hidden">{t.toolCall}: </span>{call.name}</div>
          <pre tabIndex={0}>{pretty(call.arguments)}</pre>
        </div>
      ))}
      {answer ? <Progress answer={answer} message={message} /> : <Ending message={message} />}
      {!growing && (
        <div class="actions">
          <Versions message={message} />
          {message.content !== "" && <CopyAction text={message.content} />}
          {message.status !== "failed" && <Action icon="refresh" label={t.regenerate} run={() => void regenerate(message)} disabled={currentAnswer.value !== null} />}
          <Figures message={message} />
        </div>
      )}
    </article>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** What happens while words do not: waiting before the first, and pauses between. */
function Progress({ answer, message }: { answer: Answer; message: Message }) {
  const t = texts.value;
  const phase = answer.phase.value;
  const begun = message.content !== "" || message.reasoning !== "" || message.toolCalls.length > 0;
  const text = answer.stalled.value ? t.stalled : phase === "queued" && !begun ? t.queued : phase === "starting" && !begun ? t.starting : "";
  return (
    <div class={`progress${begun ? " has-begun" : ""}`} role="status">
      {(!begun || answer.stalled.value) && <span class="dots" aria-hidden="true"><i /><i /><i /></span>}
      {text}
    </div>
  );
}

/** Why an answer ended, where that is not simply that it was complete. */
function Ending({ message }: { message: Message }) {
  const t = texts.value;
  const busy = currentAnswer.value !== null;
  if (message.status === "done" || message.status === "streaming") {
    const text = { length: t.lengthLimit, content_filter: t.filtered, insufficient_system_resource: t.resources }[message.finish ?? ""];
    if (!text) return null;
    return <Note text={text} actions={message.finish === "length" && canContinue(message) && !busy ? [[t.continueAnswer, () => void resume(message)]] : []} />;
  }
  const text = { stopped: t.stopped, interrupted: t.interrupted, failed: t.failed }[message.status];
  const detail = message.status === "failed" ? reasonOf(message) : undefined;
  const actions: [string, () => void][] = [];
  if (!busy && canContinue(message)) actions.push([t.continueAnswer, () => void resume(message)]);
  if (!busy) actions.push([message.status === "failed" ? t.retry : t.regenerate, () => void regenerate(message)]);
  return <Note text={text} detail={detail} serious={message.status === "failed"} actions={actions} />;
}

/** The page's own words for what it knows, else the server's. */
function reasonOf(message: Message): string | undefined {
  const t = texts.value;
  if (message.errorKind === "busy") return message.retryAfterS ? t.busy(Math.ceil(message.retryAfterS)) : t.busyNow;
  if (message.errorKind === "network") return t.networkError;
  if (message.errorKind === "auth") return t.apiKeyNeeded;
  return message.error;
}

function Note({ text, detail, actions, serious = false }: {
  text: string; detail?: string | undefined; actions: [string, () => void][]; serious?: boolean;
}) {
  return (
    <div class={`note${serious ? " serious" : ""}`}>
      {serious && <Icon name="warning" size={18} />}
      <span class="note-text">{text}{detail && <span class="note-detail"> {detail}</span>}</span>
      {actions.map(([label, run]) => <button type="button" class="button" key={label} onClick={run}>{label}</button>)}
    </div>
  );
}

function Figures({ message }: { message: Message }) {
  const tokens = message.usage?.completion_tokens;
  if (!tokens) return null;
  const t = texts.value;
  const parts = [t.tokens(formatNumber(tokens))];
  const seconds = ((message.elapsedMs ?? 0) - (message.firstTokenMs ?? 0)) / 1000;
  const rate = (tokens - 1) / seconds;
  if (seconds > 0.05 && tokens > 1) parts.push(t.tokensPerSecond(formatNumber(rate, rate < 10 ? 1 : 0)));
  const details = [];
  if (message.firstTokenMs !== undefined) details.push(t.firstToken(formatDuration(message.firstTokenMs)));
  if (message.usage?.prompt_cache_hit_tokens) details.push(t.cachedTokens(formatNumber(message.usage.prompt_cache_hit_tokens)));
  return <span class="figures" title={details.join(" · ")}>{parts.join(" · ")}</span>;
}
