// The dialog of settings, and the one that asks for an API key.

import { signal } from "@preact/signals";
import { useId, useRef, useState } from "preact/hooks";
import { texts } from "../i18n";
import { conversations, lasting, removeAll } from "../state/chats";
import { notify } from "../state/notices";
import { keyState, useKey } from "../state/server";
import { apiKey, apiKeyRemembered, change, setApiKey, type Settings, settings } from "../state/settings";
import { Dialog } from "./dialog";
import { importFile, saveJson } from "./files";
import { Choice } from "./params";

const settingsOpen = signal(false);

export function openSettings(): void {
  settingsOpen.value = true;
}

export function Dialogs() {
  if (keyState.value === "asked" || keyState.value === "refused") return <KeyDialog />;
  return settingsOpen.value ? <SettingsDialog /> : null;
}

function KeyDialog() {
  const t = texts.value;
  const close = () => {
    if (keyState.value !== "fine") keyState.value = "declined";
  };
  return (
    <Dialog title={t.apiKeyNeeded} onClose={close} small>
      {keyState.value === "refused" && <p class="warning" role="alert">{t.apiKeyWrong}</p>}
      <KeyForm first />
    </Dialog>
  );
}

/** first: what the dialog is there for, so the focus begins in it. */
function KeyForm({ first = false }: { first?: boolean }) {
  const t = texts.value;
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [remember, setRemember] = useState(apiKeyRemembered.value);
  return (
    <form class="key-form" onSubmit={(event) => {
      event.preventDefault();
      const key = input.current?.value.trim() ?? "";
      if (key !== "") useKey(key, remember);
    }}>
      <div class="field">
        <label for={id}>{t.apiKey}</label>
        <input id={id} ref={input} type="password" autocomplete="off" spellcheck={false} required autofocus={first}
          defaultValue={apiKey.value ?? ""} aria-describedby={`${id}-hint`} />
        <p id={`${id}-hint`} class="hint">{t.apiKeyHint}</p>
      </div>
      <label class="check">
        <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.currentTarget.checked)} />
        <span>{t.remember}<span class="hint">{t.rememberHint}</span></span>
      </label>
      <div class="button-row">
        <button type="submit" class="button primary">{t.use}</button>
        {apiKey.value !== null && keyState.value === "fine" && (
          <button type="button" class="button" onClick={() => {
            setApiKey(null, false);
            if (input.current) input.current.value = "";
          }}>{t.forget}</button>
        )}
      </div>
    </form>
  );
}

function SettingsDialog() {
  const t = texts.value;
  return (
    <Dialog title={t.settings} onClose={() => (settingsOpen.value = false)}>
      <Choice<Settings["language"]> label={t.language} value={settings.value.language}
        options={[["auto", t.automatic], ["en", "English"], ["zh", "中文"]]} set={(language) => change({ language })} />
      <Choice<Settings["theme"]> label={t.theme} value={settings.value.theme}
        options={[["auto", t.automatic], ["light", t.light], ["dark", t.dark]]} set={(theme) => change({ theme })} />
      <KeyForm />
      <DataSection />
      <Shortcuts />
      <a class="hint" href="./licenses.txt" target="_blank" rel="noopener">{t.licences}</a>
    </Dialog>
  );
}

function DataSection() {
  const t = texts.value;
  const file = useRef<HTMLInputElement>(null);
  return (
    <section class="field">
      <h3>{t.data}</h3>
      <p class="hint">{lasting.value ? t.dataHint : t.notLasting}</p>
      <div class="button-row">
        <button type="button" class="button" disabled={conversations.value.length === 0}
          onClick={() => void saveJson(conversations.value.map(({ id }) => id))}>{t.exportAll}</button>
        <button type="button" class="button" onClick={() => file.current?.click()}>{t.importFile}</button>
        <input ref={file} type="file" accept="application/json,.json" hidden aria-label={t.importFile}
          onChange={(event) => {
            const [chosen] = event.currentTarget.files ?? [];
            if (chosen) void importFile(chosen);
            event.currentTarget.value = "";
          }} />
        <button type="button" class="button danger" disabled={conversations.value.length === 0} onClick={() => {
          if (!confirm(t.deleteAllConfirm)) return;
          void removeAll().then(() => notify(t.allDeleted));
        }}>{t.deleteAll}</button>
      </div>
    </section>
  );
}

function Shortcuts() {
  const t = texts.value;
  const mod = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl";
  const rows: [string, string[]][] = [
    [t.shortcutNew, [mod, "Shift", "O"]], [t.shortcutSearch, [mod, "K"]],
    [t.shortcutFocus, ["/"]], [t.shortcutStop, ["Esc"]],
  ];
  return (
    <section class="field">
      <h3>{t.shortcuts}</h3>
      <dl class="shortcuts">
        {rows.map(([name, keys]) => (
          <div key={name}><dt>{name}</dt><dd>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dd></div>
        ))}
      </dl>
    </section>
  );
}
