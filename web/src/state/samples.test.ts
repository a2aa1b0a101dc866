import { describe, expect, it } from "vitest";
import type { ModelStatus, ServerStatus } from "../api/types";
import { append, type Reading, samplesOf, totalsOf, windowS } from "./samples";

function model(id: string, counters: Partial<ModelStatus> = {}): ModelStatus {
  return {
    id, state: "ready", context_tokens: 1, running: 0, waiting: 0, kv_pages_used: 0, kv_pages_total: 0,
    kv_page_tokens: 64, prompt_tokens_total: 0, generation_tokens_total: 0, prefix_cache_queries_total: 0,
    prefix_cache_hits_total: 0, preemptions_total: 0, workers: [], ...counters,
  };
}
function reading(at: number, ...models: ModelStatus[]): Reading {
  const status: ServerStatus = {
    version: "", uptime_s: 1, state: "ok", models, http: { connections: 0, requests_total: 0 },
    host: { cpu_percent: 50, memory_used_bytes: 1, memory_total_bytes: 4, gpus: [] },
  };
  return { at, status };
}

describe("samplesOf", () => {
  it("turns counters into rates over the time that passed", () => {
    const samples = samplesOf([
      reading(10, model("a", { generation_tokens_total: 100, prompt_tokens_total: 10 })),
      reading(12, model("a", { generation_tokens_total: 160, prompt_tokens_total: 10 })),
    ], "a");
    expect(samples[0]).toMatchObject({ generationRate: null, cpuShare: 0.5, memoryShare: 0.25 });
    expect(samples[1]).toMatchObject({ generationRate: 30, promptRate: 0 });
  });

  it("has a gap where the server began anew", () => {
    const samples = samplesOf([
      reading(1, model("a", { generation_tokens_total: 100 })), reading(2, model("a", { generation_tokens_total: 3 })),
    ], "a");
    expect(samples[1]?.generationRate).toBeNull();
  });

  it("gives hits of what was asked lately, else of everything, else nothing", () => {
    const counters = (queries: number, hits: number) =>
      model("a", { prefix_cache_queries_total: queries, prefix_cache_hits_total: hits });
    const samples = samplesOf([reading(1, counters(100, 50)), reading(2, counters(110, 59))], "a");
    expect(samples.map((s) => s.hitRate)).toEqual([0.5, 0.9]);
    expect(samplesOf([reading(1, model("a"))], "a")[0]?.hitRate).toBeNull();
  });
});

describe("totalsOf", () => {
  const { status } = reading(1, model("a", { running: 1, kv_pages_used: 3 }), model("b", { running: 2 }));
  it("adds up all models, or takes one", () => {
    expect(totalsOf(status, "")).toMatchObject({ running: 3, kvUsed: 3 });
    expect(totalsOf(status, "b")).toMatchObject({ running: 2, kvUsed: 0 });
    expect(totalsOf(status, "gone")).toMatchObject({ running: 0 });
  });
});

describe("append", () => {
  it("forgets what has left the window", () => {
    let readings: Reading[] = [];
    for (let at = 0; at <= 2 * windowS; at++) readings = append(readings, reading(at));
    expect(readings).toHaveLength(windowS + 1);
    expect(append(readings, reading(10_000))).toHaveLength(1);
  });
});
