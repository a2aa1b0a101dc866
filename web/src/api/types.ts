// What the server's JSON looks like, as far as the page reads it, and what a question is asked with.
// Every field of an answer is optional here: the page shows what is there and never fails on what is not.

export interface Usage {
  prompt_tokens?: number;
  completion_tokens?: number;
  prompt_cache_hit_tokens?: number;
  completion_tokens_details?: { reasoning_tokens?: number };
}

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

export interface ModelInfo {
  id: string;
}

export type Thinking = "default" | "on" | "off";

/** How answers are sampled. null leaves the choice to the server. */
export interface Params {
  system: string;
  thinking: Thinking;
  temperature: number | null;
  top_p: number | null;
  max_tokens: number | null;
  seed: number | null;
}

export const defaultParams: Params = {
  system: "",
  thinking: "default",
  temperature: null,
  top_p: null,
  max_tokens: null,
  seed: null,
};

/** One thing a stream said. */
export type ChatEvent =
  | { type: "reasoning"; text: string }
  | { type: "content"; text: string }
  | { type: "tool"; index: number; id?: string; name?: string; arguments?: string }
  | { type: "usage"; usage: Usage }
  | { type: "finish"; reason: string }
  | { type: "alive" };

export interface WorkerStatus {
  index: number;
  role: string;
  state: string;
  pid: number;
  restarts: number;
  uptime_s: number;
}

export interface ModelStatus {
  id: string;
  state: string;
  context_tokens: number;
  running: number;
  waiting: number;
  kv_pages_used: number;
  kv_pages_total: number;
  kv_page_tokens: number;
  prompt_tokens_total: number;
  generation_tokens_total: number;
  prefix_cache_queries_total: number;
  prefix_cache_hits_total: number;
  preemptions_total: number;
  workers: WorkerStatus[];
}

export interface GpuStatus {
  name?: string;
  utilization_percent?: number;
  memory_used_bytes?: number;
  memory_total_bytes?: number;
  temperature_c?: number;
}

export interface ServerStatus {
  version: string;
  uptime_s: number;
  state: string;
  models: ModelStatus[];
  host: { cpu_percent: number; memory_used_bytes: number; memory_total_bytes: number; gpus: GpuStatus[] };
  http: { connections: number; requests_total: number };
}
