// The server's counters over the last five minutes, as the plots and tiles show them. Pure functions.

import type { ModelStatus, ServerStatus } from "../api/types";

export const windowS = 300;

export interface Reading {
  /** Seconds since 1970, when the page got it. */
  at: number;
  status: ServerStatus;
}

/** null: not known, e.g. a rate before the second reading or over a restart. */
export interface Sample {
  at: number;
  generationRate: number | null;
  promptRate: number | null;
  running: number;
  waiting: number;
  kvShare: number | null;
  hitRate: number | null;
  cpuShare: number;
  memoryShare: number | null;
}

export interface Totals {
  running: number;
  waiting: number;
  kvUsed: number;
  kvTotal: number;
  promptTokens: number;
  generationTokens: number;
  queries: number;
  hits: number;
}

/** Adds up one model, or all of them for "". */
export function totalsOf(status: ServerStatus, model: string): Totals {
  const chosen = status.models.filter((candidate) => model === "" || candidate.id === model);
  const sum = (field: (entry: ModelStatus) => number) =>
    chosen.reduce((total, entry) => total + (Number.isFinite(field(entry)) ? field(entry) : 0), 0);
  return {
    running: sum((m) => m.running), waiting: sum((m) => m.waiting),
    kvUsed: sum((m) => m.kv_pages_used), kvTotal: sum((m) => m.kv_pages_total),
    promptTokens: sum((m) => m.prompt_tokens_total), generationTokens: sum((m) => m.generation_tokens_total),
    queries: sum((m) => m.prefix_cache_queries_total), hits: sum((m) => m.prefix_cache_hits_total),
  };
}

function share(part: number, whole: number): number | null {
  return whole > 0 ? part / whole : null;
}

/** The rate of a counter; null where it went backwards, which is a restart of the server. */
function rate(before: number, after: number, seconds: number): number | null {
  return after >= before && seconds > 0 ? (after - before) / seconds : null;
}

export function samplesOf(readings: readonly Reading[], model: string): Sample[] {
  const totals = readings.map((reading) => totalsOf(reading.status, model));
  return readings.map(({ at, status }, index) => {
    const now = totals[index] as Totals;
    const before = totals[index - 1];
    const seconds = before ? at - (readings[index - 1] as Reading).at : 0;
    return {
      at,
      generationRate: before ? rate(before.generationTokens, now.generationTokens, seconds) : null,
      promptRate: before ? rate(before.promptTokens, now.promptTokens, seconds) : null,
      running: now.running,
      waiting: now.waiting,
      kvShare: share(now.kvUsed, now.kvTotal),
      hitRate: hitRateOf(totals, index),
      cpuShare: status.host.cpu_percent / 100,
      memoryShare: share(status.host.memory_used_bytes, status.host.memory_total_bytes),
    };
  });
}

/** Over the last 30 readings; over everything while nothing was asked in them. */
function hitRateOf(totals: readonly Totals[], index: number): number | null {
  const now = totals[index] as Totals;
  const then = totals[Math.max(0, index - 30)] as Totals;
  const queries = now.queries - then.queries;
  const hits = now.hits - then.hits;
  return queries > 0 && hits >= 0 ? hits / queries : share(now.hits, now.queries);
}

/** The readings with one more, without those that have left the window. */
export function append(readings: readonly Reading[], reading: Reading): Reading[] {
  const begin = readings.findIndex((old) => old.at >= reading.at - windowS);
  return [...(begin < 0 ? [] : readings.slice(begin)), reading];
}
