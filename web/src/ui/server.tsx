// The live view of the server: tiles of what is now, plots of the last minutes, workers.

import { signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { GpuStatus, ModelStatus, ServerStatus } from "../api/types";
import { formatBytes, formatDuration, formatNumber, formatPercent, texts } from "../i18n";
import { type Sample, samplesOf, totalsOf } from "../state/samples";
import { readings, statusKnown } from "../state/server";
import { MenuButton } from "./menu";
import { type Line, Plot } from "./plot";
import { serverState } from "./sidebar";

/** "": all of them together. */
const chosenModel = signal("");

export function ServerView() {
  const t = texts.value;
  const latest = readings.value.at(-1)?.status;
  return (
    <div class="view">
      <header class="bar">
        <MenuButton />
        <h1 class="bar-title">{t.serverTitle}</h1>
        {latest && latest.models.length > 1 && <ModelFilter models={latest.models} />}
      </header>
      <div class="server">
        {latest ? <Dashboard status={latest} /> : <p class="server-none">{statusKnown.value ? t.connecting : t.noStatus}</p>}
      </div>
    </div>
  );
}

function ModelFilter({ models }: { models: ModelStatus[] }) {
  const t = texts.value;
  return (
    <div class="model-choice at-end">
      <label class="visually-hidden" for="model-filter">{t.model}</label>
      <select id="model-filter" value={chosenModel.value} onChange={(event) => (chosenModel.value = event.currentTarget.value)}>
        <option value="">{t.allModels}</option>
        {models.map(({ id }) => <option key={id} value={id}>{id}</option>)}
      </select>
    </div>
  );
}

function Dashboard({ status }: { status: ServerStatus }) {
  const model = status.models.some(({ id }) => id === chosenModel.value) ? chosenModel.value : "";
  const samples = useMemo(() => samplesOf(readings.value, model), [readings.value, model]);
  return (
    <>
      <Headline status={status} />
      <Tiles status={status} model={model} samples={samples} />
      <Plots samples={samples} />
      {status.models.filter(({ id }) => model === "" || id === model).map((entry) => <Workers key={entry.id} model={entry} />)}
      {status.host.gpus.length > 0 && <Gpus gpus={status.host.gpus} />}
    </>
  );
}

function Headline({ status }: { status: ServerStatus }) {
  const t = texts.value;
  const state = serverState();
  const name = { ok: t.ok, degraded: t.stateDegraded, unavailable: t.stateUnavailable, unknown: t.connecting }[state];
  return (
    <p class="headline">
      <span class={`badge ${state}`}>{name}</span>
      <span>{t.serverVersion(status.version)}</span>
      <span>{t.uptime(formatDuration(status.uptime_s * 1000))}</span>
      {state === "degraded" && <span class="headline-note">{t.degraded}</span>}
    </p>
  );
}

function Tile({ label, value, unit, detail, share }: {
  label: string; value: string; unit?: string; detail?: string; share?: number | null;
}) {
  return (
    <div class="tile">
      <dt>{label}</dt>
      <dd>
        <span class="tile-value">{value}{unit && <small>{unit}</small>}</span>
        {detail && <span class="tile-detail">{detail}</span>}
        {share !== undefined && (
          <span class="tile-bar" aria-hidden="true"><span style={{ width: `${Math.min(1, share ?? 0) * 100}%` }} /></span>
        )}
      </dd>
    </div>
  );
}

function Tiles({ status, model, samples }: { status: ServerStatus; model: string; samples: Sample[] }) {
  const t = texts.value;
  const totals = totalsOf(status, model);
  const now = samples.at(-1);
  const rate = (value: number | null | undefined) => (value === null || value === undefined ? "–" : formatNumber(value, value < 10 ? 1 : 0));
  const percent = (value: number | null | undefined) => (value === null || value === undefined ? "–" : formatPercent(value));
  const { host } = status;
  return (
    <dl class="tiles">
      <Tile label={t.generation} value={rate(now?.generationRate)} unit={t.perSecond} detail={t.tokens(formatNumber(totals.generationTokens))} />
      <Tile label={t.prompt} value={rate(now?.promptRate)} unit={t.perSecond} detail={t.tokens(formatNumber(totals.promptTokens))} />
      <Tile label={t.requests} value={formatNumber(totals.running)} unit={t.running} detail={`${formatNumber(totals.waiting)} ${t.waiting}`} />
      <Tile label={t.prefixCache} value={percent(now?.hitRate)} unit={t.hitRate} detail={t.cachedTokens(formatNumber(totals.hits))} />
      <Tile label={t.kvCache} value={percent(now?.kvShare)} detail={t.pages(formatNumber(totals.kvUsed), formatNumber(totals.kvTotal))} share={now?.kvShare ?? null} />
      <Tile label={t.cpu} value={percent(host.cpu_percent / 100)} detail={t.wholeMachine} share={host.cpu_percent / 100} />
      <Tile label={t.memory} value={percent(now?.memoryShare)} detail={`${formatBytes(host.memory_used_bytes)} / ${formatBytes(host.memory_total_bytes)}`} share={now?.memoryShare ?? null} />
      <Tile label={t.connections} value={formatNumber(status.http.connections)} unit={t.open} detail={t.requestsTotal(formatNumber(status.http.requests_total))} />
    </dl>
  );
}

function Plots({ samples }: { samples: Sample[] }) {
  const t = texts.value;
  const times = useMemo(() => samples.map(({ at }) => at), [samples]);
  const line = (label: string, colour: string, value: (sample: Sample) => number | null): Line =>
    ({ label, colour, values: samples.map(value) });
  const count = (value: number) => formatNumber(value, 0);
  return (
    <div class="plots">
      <Plot title={t.plotThroughput} times={times} format={count} lines={[
        line(t.generation, "plot-1", (s) => s.generationRate), line(t.prompt, "plot-2", (s) => s.promptRate)]} />
      <Plot title={t.plotRequests} times={times} format={count} lines={[
        line(t.running, "plot-1", (s) => s.running), line(t.waiting, "plot-3", (s) => s.waiting)]} />
      <Plot title={t.plotCache} times={times} format={formatPercent} max={1} lines={[
        line(t.kvCache, "plot-1", (s) => s.kvShare), line(t.hitRate, "plot-2", (s) => s.hitRate)]} />
      <Plot title={t.plotHost} times={times} format={formatPercent} max={1} lines={[
        line(t.cpu, "plot-1", (s) => s.cpuShare), line(t.memory, "plot-3", (s) => s.memoryShare)]} />
    </div>
  );
}

function stateName(name: string): string {
  return texts.value.states[name] ?? name;
}

function Workers({ model }: { model: ModelStatus }) {
  const t = texts.value;
  return (
    <section class="card">
      <header class="card-head">
        <h2>{model.id}</h2>
        <span class={`badge ${model.state === "ready" ? "ok" : "degraded"}`}>{stateName(model.state)}</span>
      </header>
      <div class="table-frame" tabIndex={0} role="region" aria-label={`${t.workers}, ${model.id}`}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t.worker}</th><th scope="col">{t.role}</th><th scope="col">{t.state}</th>
              <th scope="col" class="number">{t.pid}</th><th scope="col" class="number">{t.restarts}</th>
              <th scope="col" class="number">{t.runningFor}</th>
            </tr>
          </thead>
          <tbody>
            {model.workers.map((worker) => (
              <tr key={worker.index}>
                <td>{worker.index}</td><td>{stateName(worker.role)}</td>
                <td><span class={`state-dot ${worker.state === "ready" ? "ok" : worker.state === "failed" ? "unavailable" : "degraded"}`} /> {stateName(worker.state)}</td>
                <td class="number">{worker.pid}</td><td class="number">{formatNumber(worker.restarts)}</td>
                <td class="number">{formatDuration(worker.uptime_s * 1000)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Gpus({ gpus }: { gpus: GpuStatus[] }) {
  const t = texts.value;
  return (
    <section class="card">
      <header class="card-head"><h2>{t.gpu}</h2></header>
      <ul class="gpus">
        {gpus.map((gpu, index) => (
          <li key={index}>
            <span>{gpu.name ?? `${t.gpu} ${index}`}</span>
            <span>{gpu.utilization_percent === undefined ? "–" : formatPercent(gpu.utilization_percent / 100)}</span>
            <span>{gpu.memory_used_bytes === undefined ? "" : `${formatBytes(gpu.memory_used_bytes)} / ${formatBytes(gpu.memory_total_bytes ?? 0)}`}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
