// What the person chose, kept in localStorage; and the API key, kept in sessionStorage unless it is
// to be remembered.

import { effect, signal } from "@preact/signals";
import { setKeySource } from "../api/client";
import { defaultParams, type Params } from "../api/types";

export interface Settings {
  language: "auto" | "en" | "zh";
  theme: "auto" | "light" | "dark";
  /** What new conversations begin with. */
  params: Params;
  model: string;
}

const settingsKey = "fathom.settings"; // public/boot.js reads it too
const apiKeyKey = "fathom.key";

const initial: Settings = { language: "auto", theme: "auto", params: defaultParams, model: "" };

/** Storage may be forbidden (then everything is forgotten with the tab), and hold anything. */
function read(storage: "localStorage" | "sessionStorage", key: string): string | null {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

function write(storage: "localStorage" | "sessionStorage", key: string, value: string | null): void {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, value);
  } catch {
    // Full or forbidden: nothing that could be done about it here.
  }
}

function stored(): Settings {
  try {
    const found = JSON.parse(read("localStorage", settingsKey) ?? "{}") as Partial<Settings>;
    return { ...initial, ...found, params: { ...defaultParams, ...found.params } };
  } catch {
    return initial;
  }
}

export const settings = signal<Settings>(stored());

export function change(part: Partial<Settings>): void {
  settings.value = { ...settings.value, ...part };
}

effect(() => write("localStorage", settingsKey, JSON.stringify(settings.value)));

export const apiKey = signal<string | null>(read("sessionStorage", apiKeyKey) ?? read("localStorage", apiKeyKey));
export const apiKeyRemembered = signal(read("localStorage", apiKeyKey) !== null);
setKeySource(() => apiKey.value);

export function setApiKey(key: string | null, remember: boolean): void {
  apiKey.value = key;
  apiKeyRemembered.value = key !== null && remember;
  write("sessionStorage", apiKeyKey, remember ? null : key);
  write("localStorage", apiKeyKey, remember ? key : null);
}
