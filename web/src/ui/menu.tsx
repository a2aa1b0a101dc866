// The drawer that holds the list of conversations on narrow screens, and the button that opens it.

import { signal } from "@preact/signals";
import { texts } from "../i18n";
import { Icon } from "./icons";

export const drawerOpen = signal(false);

export function MenuButton() {
  return (
    <button type="button" class="icon-button menu-button" id="menu-button" aria-label={texts.value.openMenu}
      aria-expanded={drawerOpen.value} aria-controls="sidebar"
      onClick={() => {
        drawerOpen.value = true;
        requestAnimationFrame(() => document.getElementById("new-chat")?.focus());
      }}>
      <Icon name="menu" />
    </button>
  );
}

export function closeDrawer(): void {
  if (!drawerOpen.value) return;
  drawerOpen.value = false;
  document.getElementById("menu-button")?.focus();
}
