// The chosen language, and numbers and times as it writes them.

import { computed } from "@preact/signals";
import { settings } from "../state/settings";
import { en, type Texts } from "./en";
import { zh } from "./zh";

export type Language = "en" | "zh";

function browserLanguage(): Language {
  for (const tag of navigator.languages) {
    if (tag.toLowerCase().startsWith("zh")) return "zh";
    if (tag.toLowerCase().startsWith("en")) return "en";
  }
  return "en";
}

export const language = computed<Language>(() =>
  settings.value.language === "auto" ? browserLanguage() : settings.value.language);

export const texts = computed<Texts>(() => (language.value === "zh" ? zh : en));

export const locale = computed(() => (language.value === "zh" ? "zh-CN" : "en"));

export function formatNumber(value: number, digits = 0): string {
  return new Intl.NumberFormat(locale.value, { maximumFractionDigits: digits, minimumFractionDigits: 0 }).format(value);
}

export function formatPercent(share: number): string {
  return new Intl.NumberFormat(locale.value, { style: "percent", maximumFractionDigits: 0 }).format(share);
}

function unit(value: number, name: string, digits = 0): string {
  return new Intl.NumberFormat(locale.value, {
    style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: digits,
  }).format(value);
}

/** "0.4s", "12s", "3m 20s", "2h 5m", "4d 3h". */
export function formatDuration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 10) return unit(seconds, "second", 1);
  if (seconds < 60) return unit(Math.round(seconds), "second");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${unit(minutes, "minute")} ${unit(Math.floor(seconds % 60), "second")}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${unit(hours, "hour")} ${unit(minutes % 60, "minute")}`;
  return `${unit(Math.floor(hours / 24), "day")} ${unit(hours % 24, "hour")}`;
}

export function formatBytes(bytes: number): string {
  const names = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let index = 0;
  while (bytes >= 1000 && index < names.length - 1) {
    bytes /= 1000;
    index++;
  }
  return new Intl.NumberFormat(locale.value, {
    style: "unit", unit: names[index] as string, maximumFractionDigits: bytes < 10 ? 1 : 0,
  }).format(bytes);
}
