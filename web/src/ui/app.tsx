// The whole page: landmarks, the keys that work everywhere, and what is applied to the document.

import { useEffect } from "preact/hooks";
import { locale, texts } from "../i18n";
import { current, currentAnswer } from "../state/chats";
import { view } from "../state/route";
import { settings } from "../state/settings";
import { ChatView } from "./chat";
import { focusComposer } from "./composer";
import { closeDrawer, drawerOpen } from "./menu";
import { Banner, LiveRegion, Notices } from "./notices";
import { ServerView } from "./server";
import { Dialogs } from "./settings";
import { newChat, Sidebar } from "./sidebar";

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function onKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
  const mod = event.ctrlKey || event.metaKey;
  if (mod && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    newChat();
  } else if (mod && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    drawerOpen.value = true;
    document.getElementById("search")?.focus();
  } else if (event.key === "/" && !mod && !isTyping(event.target)) {
    event.preventDefault();
    focusComposer();
  } else if (event.key === "Escape" && currentAnswer.value) {
    currentAnswer.value.stop();
    focusComposer();
  }
}

export function App() {
  const t = texts.value;
  const theme = settings.value.theme;
  const title = view.value === "server" ? t.serverTitle : current.value.title;
  useEffect(() => {
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => {
    document.documentElement.lang = locale.value;
    document.title = title ? `${title} · fathom` : "fathom";
  }, [locale.value, title]);
  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  return (
    <>
      <a class="skip-link" href="#main" onClick={(event) => {
        event.preventDefault();
        if (view.value === "chat") focusComposer();
        else document.getElementById("main")?.focus();
      }}>{view.value === "chat" ? t.skipToMessage : t.skipToMain}</a>
      <div class="app">
        <Sidebar />
        {drawerOpen.value && <div class="scrim" onClick={closeDrawer} />}
        <main id="main" tabIndex={-1}>
          <Banner />
          {view.value === "server" ? <ServerView /> : <ChatView />}
        </main>
      </div>
      <Notices />
      <LiveRegion />
      <Dialogs />
    </>
  );
}
