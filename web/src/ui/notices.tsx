// What the page says about itself: the state of the connection, short notices, and the live region.

import { texts } from "../i18n";
import { announcements, dismiss, notices } from "../state/notices";
import { connection, keyState, readings, reconnected } from "../state/server";
import { Icon } from "./icons";

export function Banner() {
  const t = texts.value;
  const state = readings.value.at(-1)?.status.state;
  let content = null;
  if (connection.value === "lost") content = <div class="banner bad"><span class="spinner" aria-hidden="true" />{t.unreachable}</div>;
  else if (keyState.value === "declined") {
    content = (
      <div class="banner">
        {t.apiKeyNeeded}
        <button type="button" class="button" onClick={() => (keyState.value = "asked")}>{t.apiKey}</button>
      </div>
    );
  } else if (reconnected.value) content = <div class="banner good"><Icon name="check" size={18} />{t.reconnected}</div>;
  else if (state === "unavailable") content = <div class="banner bad">{t.unavailable}</div>;
  return <div class="banners" role="status">{content}</div>;
}

export function Notices() {
  return (
    <div class="notices" role="status">
      {notices.value.map(({ id, text, action }) => (
        <div class="notice" key={id}>
          <span>{text}</span>
          {action && (
            <button type="button" class="notice-action" onClick={() => {
              dismiss(id);
              action.run();
            }}>{action.label}</button>
          )}
        </div>
      ))}
    </div>
  );
}

export function LiveRegion() {
  return (
    <div class="visually-hidden" role="log" aria-live="polite" aria-relevant="additions">
      {announcements.value.map(({ id, text }) => <p key={id}>{text}</p>)}
    </div>
  );
}
