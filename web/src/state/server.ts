// The server as the page sees it: its models, its state, and whether it answers at all.
//
// One loop asks GET /status: every second while the live view is open, every five seconds otherwise,
// not at all while the page is hidden. The same loop notices that the server is gone or back.

import { signal } from "@preact/signals";
import { ApiError, fetchStatus, listModels } from "../api/client";
import type { ModelInfo } from "../api/types";
import { append, type Reading } from "./samples";
import { apiKey, setApiKey } from "./settings";

export type Connection = "connecting" | "ok" | "lost";

export const connection = signal<Connection>("connecting");
/** For a moment after a loss. */
export const reconnected = signal(false);
export const models = signal<ModelInfo[]>([]);
export const readings = signal<Reading[]>([]);
/** False: the server has no GET /status. */
export const statusKnown = signal(true);
/** The server wants a key: the dialog is open, or was closed without one. */
export const keyState = signal<"fine" | "asked" | "refused" | "declined">("fine");

let live = false;
let failures = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
let asking = false;

/** Whether the live view is open. */
export function setLive(on: boolean): void {
  live = on;
  if (on) pollNow();
}

/** Called with every failed request, from here or from a chat. */
export function noteFailure(error: unknown): void {
  if (!(error instanceof ApiError)) return;
  if (error.kind === "auth") {
    keyState.value = apiKey.value === null ? "asked" : "refused";
    noteSuccess();
  } else if (error.kind === "network") {
    failures++;
    // One missed answer may be a hiccup of the network; two are a server that is gone.
    if (failures >= 2 || connection.value === "connecting") connection.value = "lost";
  } else {
    noteSuccess();
  }
}

export function noteSuccess(): void {
  failures = 0;
  if (connection.value === "lost") {
    reconnected.value = true;
    setTimeout(() => (reconnected.value = false), 2500);
  }
  const changed = connection.value !== "ok";
  connection.value = "ok";
  if (changed && keyState.value === "fine") void loadModels();
}

async function loadModels(): Promise<void> {
  try {
    models.value = await listModels();
  } catch (error) {
    noteFailure(error);
  }
}

const keyListeners: (() => void)[] = [];

/** Runs once when another key has been given. */
export function onceKeyGiven(listener: () => void): void {
  keyListeners.splice(0, keyListeners.length, listener);
}

/** Tries the server with another key, or once more. */
export function useKey(key: string | null, remember: boolean): void {
  setApiKey(key, remember);
  keyState.value = "fine";
  void loadModels();
  pollNow();
  for (const listener of keyListeners.splice(0)) listener();
}

export function pollNow(): void {
  clearTimeout(timer);
  timer = undefined;
  void poll();
}

async function poll(): Promise<void> {
  if (asking) return;
  asking = true;
  try {
    if (!document.hidden && keyState.value === "fine") await ask();
  } finally {
    asking = false;
    clearTimeout(timer);
    const fast = live || connection.value === "lost" || failures > 0;
    timer = setTimeout(() => void poll(), fast ? 1000 : 5000);
  }
}

async function ask(): Promise<void> {
  try {
    const status = await fetchStatus();
    statusKnown.value = true;
    readings.value = append(readings.value, { at: Date.now() / 1000, status });
    noteSuccess();
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) statusKnown.value = false;
    noteFailure(error);
  }
}

export function startPolling(): void {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) pollNow();
  });
  window.addEventListener("online", pollNow);
  window.addEventListener("offline", pollNow);
  pollNow();
}
