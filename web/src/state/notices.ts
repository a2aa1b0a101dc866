// Short notices at the edge of the page, some with a way back; and what screen readers are told.

import { signal } from "@preact/signals";

export interface Notice {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
}

export const notices = signal<Notice[]>([]);
let next = 1;

export function notify(text: string, action?: Notice["action"], lastsMs = action ? 8000 : 3500): void {
  const id = next++;
  notices.value = [...notices.value.slice(-2), { id, text, ...(action && { action }) }];
  setTimeout(() => dismiss(id), lastsMs);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Lines of the polite live region; the newest few stand in the page. */
export const announcements = signal<{ id: number; text: string }[]>([]);

export function announce(text: string): void {
  if (text !== "") announcements.value = [...announcements.value.slice(-5), { id: next++, text }];
}
