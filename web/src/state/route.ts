// Which part of the page is shown: #/ a new conversation, #/c/ID one that is there, #/server.

import { computed, effect, signal } from "@preact/signals";
import { conversations, currentId, open } from "./chats";
import { setLive } from "./server";

type Route = { view: "chat"; id: string | null } | { view: "server" };

function parse(hash: string): Route {
  if (hash === "#/server") return { view: "server" };
  const id = /^#\/c\/([0-9a-f]+)$/.exec(hash)?.[1] ?? null;
  return { view: "chat", id };
}

const route = signal<Route>(parse(location.hash));
export const view = computed(() => route.value.view);

export const chatLink = (id: string | null): string => (id === null ? "#/" : `#/c/${id}`);

export function go(hash: string): void {
  if (location.hash !== hash) location.hash = hash;
  else void follow();
}

async function follow(): Promise<void> {
  const next = parse(location.hash);
  if (next.view === "chat" && next.id !== currentId.value) await open(next.id);
  route.value = next;
  setLive(next.view === "server");
}

export async function startRouting(): Promise<void> {
  window.addEventListener("hashchange", () => void follow());
  await follow();
  // A conversation comes to be when something is asked, and may be deleted while it is shown.
  effect(() => {
    const id = currentId.value;
    if (route.value.view !== "chat") return;
    if (id !== null && !conversations.value.some((conversation) => conversation.id === id)) go("#/");
    else if (chatLink(id) !== (location.hash || "#/")) history.replaceState(null, "", chatLink(id));
  });
}
