// The model's reasoning: open while it thinks, folded once it answers, unless the person chose.

import { useEffect, useId, useState } from "preact/hooks";
import { formatDuration, texts } from "../i18n";
import { Icon } from "./icons";
import { Markdown } from "./markdown";

interface Props {
  text: string;
  /** While it grows: since when, by performance.now(). */
  thinking: boolean;
  /** How long it took, if that is known. */
  tookMs: number | undefined;
}

export function Reasoning({ text, thinking, tookMs }: Props) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const open = chosen ?? thinking;
  const id = useId();
  const t = texts.value;
  return (
    <section class={`reasoning${thinking ? " is-thinking" : ""}`} aria-label={t.reasoning}>
      <button type="button" class="reasoning-toggle" aria-expanded={open} aria-controls={id} onClick={() => setChosen(!open)}>
        <span class="reasoning-mark" aria-hidden="true" />
        {thinking ? <Clock /> : <span>{tookMs === undefined ? t.reasoning : t.thoughtFor(formatDuration(tookMs))}</span>}
        <Icon name={open ? "down" : "right"} size={16} />
      </button>
      <div id={id} class="reasoning-text" hidden={!open}>
        {open && <Markdown source={text} />}
      </div>
    </section>
  );
}

function Clock() {
  const [begun] = useState(() => performance.now());
  const [now, setNow] = useState(begun);
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.round((now - begun) / 1000);
  return <span>{seconds < 1 ? texts.value.thinking : texts.value.thinkingFor(formatDuration(seconds * 1000))}</span>;
}
