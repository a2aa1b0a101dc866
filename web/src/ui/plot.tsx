// One plot over the last five minutes (uPlot, loaded when the first is shown), with its legend.

import { useEffect, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import { locale, texts } from "../i18n";
import { settings } from "../state/settings";
import { windowS } from "../state/samples";

export interface Line {
  label: string;
  /** A custom property of the page's styles, without dashes. */
  colour: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  times: number[];
  lines: Line[];
  format: (value: number) => string;
  /** The scale ends here; without it, at the largest value. */
  max?: number;
}

const heightPx = 150;

export function Plot({ title, times, lines, format, max }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef<uPlot.AlignedData>([[]]);
  const [cursor, setCursor] = useState<number | null>(null);
  latest.current = [times, ...lines.map((line) => line.values)];
  const theme = settings.value.theme;
  const dark = useDark();

  useEffect(() => {
    let gone = false;
    let observer: ResizeObserver | undefined;
    void import("./uplot").then(({ default: UPlot }) => {
      const box = host.current;
      if (gone || !box) return;
      plot.current = new UPlot(optionsOf(box, lines, format, max, setCursor), latest.current, box);
      observer = new ResizeObserver(() => plot.current?.setSize({ width: box.clientWidth, height: heightPx }));
      observer.observe(box);
    });
    return () => {
      gone = true;
      observer?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [locale.value, theme, dark, lines.length]);
  useEffect(() => plot.current?.setData(latest.current), [times, lines]);

  const index = cursor ?? times.length - 1;
  const shown = lines.map((line) => {
    const value = line.values[index];
    return value === null || value === undefined ? "–" : format(value);
  });
  const summary = lines.map((line, i) => `${line.label} ${shown[i]}`).join(", ");
  return (
    <section class="plot">
      <header class="plot-head">
        <h2>{title}</h2>
        <ul class="legend">
          {lines.map((line, i) => (
            <li key={line.label}><span class={`swatch ${line.colour}`} />{line.label} <b>{shown[i]}</b></li>
          ))}
        </ul>
      </header>
      <div ref={host} class="plot-canvas" role="img" aria-label={`${title}, ${texts.value.lastMinutes}: ${summary}`} />
    </section>
  );
}

function useDark(): boolean {
  const media = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(media.matches);
  useEffect(() => {
    const listen = () => setDark(media.matches);
    media.addEventListener("change", listen);
    return () => media.removeEventListener("change", listen);
  }, []);
  return dark;
}

/** Seconds only while the plot is short enough to need them. */
function clockLabels(plot: uPlot, ticks: number[]): string[] {
  const seconds = (plot.scales["x"]?.max ?? 0) - (plot.scales["x"]?.min ?? 0) < 240;
  const clock = new Intl.DateTimeFormat(locale.value, {
    hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds && { second: "2-digit" }),
  });
  return ticks.map((tick) => clock.format(tick * 1000));
}

const wholeSteps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 1_000_000];
const shareSteps = [0.25, 0.5];

/** Five minutes, and less while less is known. */
function timeRange(times: ArrayLike<number>): [number, number] {
  const now = Date.now() / 1000;
  const known = times.length > 0 ? now - (times[0] as number) : 0;
  return [now - Math.min(windowS, Math.max(60, known)), now];
}

/** The colour that a custom property has now, as the canvas needs it. */
function colourOf(host: Element, property: string, alpha = 1): string {
  const probe = document.createElement("i");
  probe.style.color = `var(--${property})`;
  host.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return alpha === 1 ? colour : colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
}

function optionsOf(
  host: HTMLElement, lines: Line[], format: (value: number) => string, max: number | undefined,
  setCursor: (index: number | null) => void,
): uPlot.Options {
  const font = `11px ${getComputedStyle(host).fontFamily}`;
  const axis = {
    font, stroke: colourOf(host, "muted"), ticks: { show: false },
    grid: { stroke: colourOf(host, "line"), width: 1 },
  };
  return {
    width: host.clientWidth, height: heightPx, padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true, range: (plot) => timeRange(plot.data[0]) },
      y: { range: (_plot, _low, high) => [0, max ?? Math.max(1, (high ?? 0) * 1.15)] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 80, size: 26, values: clockLabels },
      { ...axis, size: 46, space: 34, incrs: max === undefined ? wholeSteps : shareSteps, values: (_plot, ticks) => ticks.map(format) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label, stroke: colourOf(host, line.colour), width: 1.75,
        fill: colourOf(host, line.colour, 0.1), points: { show: false }, spanGaps: false,
      })),
    ],
    hooks: { setCursor: [(plot) => setCursor(plot.cursor.idx ?? null)] },
  };
}
