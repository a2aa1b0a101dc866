// The way around: chat or server, the conversations, settings.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Conversation } from "../chat/tree";
import { language, texts } from "../i18n";
import { answers, conversations, currentId, remove, rename, search } from "../state/chats";
import { notify } from "../state/notices";
import { chatLink, go, view } from "../state/route";
import { connection, readings } from "../state/server";
import { change, settings } from "../state/settings";
import { focusComposer } from "./composer";
import { Icon, Logo } from "./icons";
import { closeDrawer, drawerOpen } from "./menu";
import { openSettings } from "./settings";

const query = signal("");
const found = signal<Set<string>>(new Set());

export function newChat(): void {
  go("#/");
  closeDrawer();
  requestAnimationFrame(focusComposer);
}

export function Sidebar() {
  const t = texts.value;
  return (
    <nav id="sidebar" class={`sidebar${drawerOpen.value ? " is-open" : ""}`} aria-label={t.navigation}
      onKeyDown={(event) => event.key === "Escape" && closeDrawer()}>
      <div class="brand">
        <Logo />
        <span class="brand-name">fathom</span>
        <button type="button" class="icon-button drawer-close" aria-label={t.closeMenu} onClick={closeDrawer}>
          <Icon name="close" />
        </button>
      </div>
      <div class="tabs">
        <a href={chatLink(currentId.value)} aria-current={view.value === "chat" ? "page" : undefined} onClick={closeDrawer}>
          <Icon name="chat" size={18} />{t.chat}
        </a>
        <a href="#/server" aria-current={view.value === "server" ? "page" : undefined} onClick={closeDrawer}>
          <Icon name="pulse" size={18} />{t.server}<StateDot />
        </a>
      </div>
      <button type="button" id="new-chat" class="new-chat" onClick={newChat}><Icon name="plus" size={18} />{t.newChat}</button>
      <Search />
      <List />
      <Footer />
    </nav>
  );
}

export function serverState(): "ok" | "degraded" | "unavailable" | "unknown" {
  if (connection.value === "lost") return "unavailable";
  const state = readings.value.at(-1)?.status.state;
  return state === "ok" || state === "degraded" || state === "unavailable" ? state : "unknown";
}

function StateDot() {
  const state = serverState();
  const t = texts.value;
  const name = { ok: t.ok, degraded: t.stateDegraded, unavailable: t.stateUnavailable, unknown: t.connecting }[state];
  return <span class={`state-dot ${state}`} title={name}><span class="visually-hidden">: {name}</span></span>;
}

function Search() {
  const t = texts.value;
  useEffect(() => {
    const text = query.value.trim();
    if (text === "") return;
    const timer = setTimeout(() => void search(text).then((ids) => (found.value = ids)), 150);
    return () => clearTimeout(timer);
  }, [query.value]);
  return (
    <div class="search">
      <Icon name="search" size={16} />
      <input id="search" type="search" aria-label={t.search} placeholder={t.search} value={query.value}
        onInput={(event) => (query.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape" && query.value !== "") {
            event.stopPropagation();
            query.value = "";
          }
        }} />
    </div>
  );
}

function matches(conversation: Conversation, text: string): boolean {
  return text === "" || conversation.title.toLowerCase().includes(text) || found.value.has(conversation.id);
}

function groupsOf(list: Conversation[]): [string, Conversation[]][] {
  const t = texts.value;
  const midnight = new Date().setHours(0, 0, 0, 0);
  const day = 86_400_000;
  const groups: [string, Conversation[]][] = [[t.today, []], [t.yesterday, []], [t.lastWeek, []], [t.older, []]];
  for (const conversation of list) {
    const at = conversation.updatedAt;
    const index = at >= midnight ? 0 : at >= midnight - day ? 1 : at >= midnight - 7 * day ? 2 : 3;
    groups[index]?.[1].push(conversation);
  }
  return groups.filter(([, members]) => members.length > 0);
}

function List() {
  const t = texts.value;
  const text = query.value.trim().toLowerCase();
  const shown = conversations.value.filter((conversation) => matches(conversation, text));
  return (
    <div class="conversations" role="region" aria-label={t.conversations} tabIndex={-1}>
      {groupsOf(shown).map(([title, members]) => (
        <section key={title}>
          <h2>{title}</h2>
          <ul>{members.map((conversation) => <Entry key={conversation.id} conversation={conversation} />)}</ul>
        </section>
      ))}
      {shown.length === 0 && <p class="none">{text === "" ? t.noConversations : t.noMatch}</p>}
    </div>
  );
}

function Entry({ conversation }: { conversation: Conversation }) {
  const t = texts.value;
  const [renaming, setRenaming] = useState(false);
  const title = conversation.title || t.untitled;
  const { id } = conversation;
  const active = view.value === "chat" && id === currentId.value;
  const busy = [...answers.value.values()].some((answer) => answer.message.peek().conversation === id);
  if (renaming) return <li><Renamer conversation={conversation} close={() => setRenaming(false)} /></li>;
  return (
    <li class={`entry${active ? " is-active" : ""}`}>
      <a href={chatLink(id)} title={title} aria-current={active ? "page" : undefined} onClick={closeDrawer}>
        {busy && <span class="busy-dot" aria-hidden="true" />}{title}
      </a>
      <span class="entry-actions">
        <button type="button" class="icon-button" id={`rename-${id}`} aria-label={t.renameTitle(title)} title={t.rename} onClick={() => setRenaming(true)}>
          <Icon name="edit" size={16} />
        </button>
        <button type="button" class="icon-button" aria-label={t.deleteTitle(title)} onClick={() => void removeEntry(id, title)}>
          <Icon name="trash" size={16} />
        </button>
      </span>
    </li>
  );
}

async function removeEntry(id: string, title: string): Promise<void> {
  const wasOpen = id === currentId.value;
  const restore = await remove(id);
  document.getElementById("new-chat")?.focus();
  notify(texts.value.deleted(title), {
    label: texts.value.undo,
    run: () => void restore().then(() => wasOpen && go(chatLink(id))),
  });
}

function Renamer({ conversation, close }: { conversation: Conversation; close: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.select(), []);
  const back = () => {
    close();
    requestAnimationFrame(() => document.getElementById(`rename-${conversation.id}`)?.focus());
  };
  return (
    <form class="renamer" onSubmit={(event) => {
      event.preventDefault();
      void rename(conversation.id, input.current?.value ?? "");
      back();
    }}>
      <input ref={input} aria-label={texts.value.title} defaultValue={conversation.title} maxLength={200}
        onBlur={() => {
          void rename(conversation.id, input.current?.value ?? "");
          close();
        }}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.stopPropagation();
          if (input.current) input.current.value = conversation.title;
          back();
        }} />
    </form>
  );
}

function Footer() {
  const t = texts.value;
  const theme = settings.value.theme;
  const next = { auto: "light", light: "dark", dark: "auto" } as const;
  const names = { auto: t.automatic, light: t.light, dark: t.dark };
  const icons = { auto: "auto", light: "sun", dark: "moon" } as const;
  const other = language.value === "zh" ? "en" : "zh";
  return (
    <div class="sidebar-foot">
      <button type="button" class="foot-button" onClick={openSettings}><Icon name="gear" size={18} />{t.settings}</button>
      <button type="button" class="icon-button" aria-label={`${t.theme}: ${names[theme]}`} title={`${t.theme}: ${names[theme]}`}
        onClick={() => change({ theme: next[theme] })}>
        <Icon name={icons[theme]} size={18} />
      </button>
      <button type="button" class="language-button" lang={other} aria-label={other === "zh" ? "中文" : "English"}
        onClick={() => change({ language: other })}>
        {other === "zh" ? "中" : "EN"}
      </button>
    </div>
  );
}
