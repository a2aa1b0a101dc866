// The conversation: its messages, the box to write into, and the choice of model above them.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { root } from "../chat/tree";
import { texts } from "../i18n";
import { answerAgain, changeCurrent, current, currentAnswer, currentId, currentModel, shownPath } from "../state/chats";
import { models } from "../state/server";
import { change } from "../state/settings";
import { Composer, focusComposer, setDraft } from "./composer";
import { Icon } from "./icons";
import { MenuButton } from "./menu";
import { MessageView } from "./message";
import { ParamsPanel } from "./params";

const panelOpen = signal(false);

export function ChatView() {
  const t = texts.value;
  const empty = shownPath.value.length === 0;
  return (
    <div class="view">
      <header class="bar">
        <MenuButton />
        <ModelChoice />
        <h1 class="visually-hidden">{current.value.title || t.newChat}</h1>
        <button type="button" class="icon-button at-end" id="params-toggle" aria-label={t.parameters} title={t.parameters}
          aria-expanded={panelOpen.value} onClick={() => (panelOpen.value = !panelOpen.value)}>
          <Icon name="sliders" />
        </button>
      </header>
      <div class="columns">
        <div class="column">
          {empty ? <Greeting /> : <Log />}
          <div class="dock"><Composer /></div>
        </div>
        {panelOpen.value && <ParamsPanel close={() => {
          panelOpen.value = false;
          document.getElementById("params-toggle")?.focus();
        }} />}
      </div>
    </div>
  );
}

function ModelChoice() {
  const t = texts.value;
  if (models.value.length === 0) return <div class="model-choice none">{t.noModels}</div>;
  return (
    <div class="model-choice">
      <label class="visually-hidden" for="model">{t.model}</label>
      <select id="model" value={currentModel.value} onChange={(event) => {
        const model = event.currentTarget.value;
        changeCurrent({ model });
        change({ model });
      }}>
        {models.value.map(({ id }) => <option key={id} value={id}>{id}</option>)}
      </select>
      <Icon name="down" size={16} />
    </div>
  );
}

function Greeting() {
  const t = texts.value;
  return (
    <div class="greeting">
      <div class="greeting-inner">
        <p class="greeting-title">{t.greeting}</p>
        <p class="greeting-hint">{t.greetingHint}</p>
        <ul class="suggestions">
          {t.suggestions.map((text) => (
            <li key={text}>
              <button type="button" class="suggestion" onClick={() => { setDraft(text); focusComposer(); }}>{text}</button>
            </li>
          ))}
        </ul>
      </div>
    </div>
  );
}

/** How near its end the log counts as being read at its end, in pixels. */
const nearPx = 48;

function Log() {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const lastTop = useRef(0);
  const [away, setAway] = useState(false);
  const path = shownPath.value;
  const questions = path.filter((message) => message.role === "user").length;
  const t = texts.value;

  const toEnd = () => {
    following.current = true;
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  };
  // A new question, or another conversation, is followed; whoever scrolled up to read is left alone.
  useEffect(toEnd, [questions, currentId.value]);
  useEffect(() => {
    const box = scroller.current;
    if (!box || !content.current) return;
    const observer = new ResizeObserver(() => {
      if (following.current) box.scrollTop = box.scrollHeight;
    });
    observer.observe(content.current);
    observer.observe(box);
    return () => observer.disconnect();
  }, []);

  const last = path.at(-1);
  return (
    <div class="log-frame">
      <div class="log" ref={scroller} tabIndex={0} role="region" aria-label={t.messages}
        onScroll={(event) => {
          const box = event.currentTarget;
          const near = box.scrollHeight - box.scrollTop - box.clientHeight < nearPx;
          // Only a person scrolls up. Being away from the end may just mean that the text grew.
          if (near) following.current = true;
          else if (box.scrollTop < lastTop.current) following.current = false;
          lastTop.current = box.scrollTop;
          setAway(!following.current);
        }}>
        <div class="log-content" ref={content}>
          {path.map((message) => <MessageView key={message.parent ?? root} message={message} />)}
          {last?.role === "user" && currentAnswer.value === null && (
            <div class="note">
              <span class="note-text">{t.interrupted}</span>
              <button type="button" class="button" onClick={() => void answerAgain(last)}>{t.regenerate}</button>
            </div>
          )}
        </div>
      </div>
      {away && (
        <button type="button" class="to-end" aria-label={t.toBottom} title={t.toBottom} onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}
