// How the shown conversation is sampled. An empty field leaves the choice to the server.

import { useEffect, useId, useRef } from "preact/hooks";
import { defaultParams, type Params, type Thinking } from "../api/types";
import { texts } from "../i18n";
import { changeCurrent, current, currentId } from "../state/chats";
import { notify } from "../state/notices";
import { change } from "../state/settings";
import { saveJson, saveMarkdown } from "./files";
import { Icon } from "./icons";

interface Range {
  min: number;
  max: number;
  step: number;
  whole?: boolean;
}

function NumberField({ label, hint, value, range, set }: {
  label: string; hint?: string; value: number | null; range: Range; set: (value: number | null) => void;
}) {
  const id = useId();
  const t = texts.value;
  const { min, max, step, whole } = range;
  const read = (text: string) => {
    const number = Number(text);
    if (text.trim() === "" || !Number.isFinite(number)) return set(null);
    set(Math.min(max, Math.max(min, whole ? Math.round(number) : number)));
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="number" inputMode={whole ? "numeric" : "decimal"} min={min} max={max} step={step}
        value={value ?? ""} placeholder={t.serverDefault} aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(event) => read(event.currentTarget.value)} />
      {hint && <p id={`${id}-hint`} class="hint">{hint}</p>}
    </div>
  );
}

export function Choice<T extends string>({ label, value, options, set }: {
  label: string; value: T; options: [T, string][]; set: (value: T) => void;
}) {
  const name = useId();
  return (
    <fieldset class="field choice">
      <legend>{label}</legend>
      <div class="segments">
        {options.map(([option, text]) => (
          <label key={option}>
            <input type="radio" name={name} value={option} checked={option === value} onChange={() => set(option)} />
            <span>{text}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function ParamsPanel({ close }: { close: () => void }) {
  const t = texts.value;
  const params = current.value.params;
  const set = (part: Partial<Params>) => changeCurrent({ params: { ...params, ...part } });
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const id = currentId.value;
  return (
    <aside class="panel" aria-label={t.parameters} onKeyDown={(event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
    }}>
      <header class="panel-head">
        <h2 ref={heading} tabIndex={-1}>{t.parameters}</h2>
        <button type="button" class="icon-button" aria-label={t.close} onClick={close}><Icon name="close" /></button>
      </header>
      <div class="panel-body">
        <div class="field">
          <label for="system">{t.systemPrompt}</label>
          <textarea id="system" rows={4} value={params.system} aria-describedby="system-hint"
            onChange={(event) => set({ system: event.currentTarget.value })} />
          <p id="system-hint" class="hint">{t.systemHint}</p>
        </div>
        <Choice<Thinking> label={t.thinkingMode} value={params.thinking} set={(thinking) => set({ thinking })}
          options={[["default", t.modelDefault], ["on", t.on], ["off", t.off]]} />
        <NumberField label={t.temperature} hint={t.temperatureHint} value={params.temperature}
          range={{ min: 0, max: 2, step: 0.1 }} set={(temperature) => set({ temperature })} />
        <NumberField label={t.topP} hint={t.topPHint} value={params.top_p}
          range={{ min: 0, max: 1, step: 0.05 }} set={(top_p) => set({ top_p })} />
        <NumberField label={t.maxTokens} value={params.max_tokens}
          range={{ min: 1, max: 1_000_000, step: 1, whole: true }} set={(max_tokens) => set({ max_tokens })} />
        <NumberField label={t.seed} hint={t.seedHint} value={params.seed}
          range={{ min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, whole: true }} set={(seed) => set({ seed })} />
        <div class="button-row">
          <button type="button" class="button" onClick={() => {
            change({ params });
            notify(t.madeDefault);
          }}>{t.makeDefault}</button>
          <button type="button" class="button" onClick={() => set(defaultParams)}>{t.reset}</button>
        </div>
        {id !== null && (
          <div class="field">
            <span class="field-label">{t.exportChat}</span>
            <div class="button-row">
              <button type="button" class="button" onClick={() => void saveMarkdown(id)}><Icon name="download" size={16} />{t.exportMarkdown}</button>
              <button type="button" class="button" onClick={() => void saveJson([id])}><Icon name="download" size={16} />{t.exportJson}</button>
            </div>
          </div>
        )}
      </div>
    </aside>
  );
}
