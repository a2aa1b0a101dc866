// A stand-in for `fathom serve`: speaks the API's shape with canned answers. For developing the page and
// for its tests; node only, no packages.
//
//   node dev-server.mjs [--port 8099] [--api-key KEY] [--tokens-per-second 60]     serves the built page
//
// The last question chooses the answer: /xss /long /slow /stall /cut /think /tools /code /error /busy
// /queue /length, anything else a short one. Numbers and state of GET /status follow what is asked.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { answerTo } from "./dev-answers.mjs";

/** The same as kContentSecurityPolicy in src/server/web/web_assets.h, whose test compares the two. */
export const contentSecurityPolicy =
  "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; " +
  "require-trusted-types-for 'script'; trusted-types dompurify";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Server {
  constructor(options) {
    this.options = options;
    this.started = Date.now();
    this.running = 0;
    this.requests = 0;
    this.promptTokens = 0;
    this.generationTokens = 0;
    this.queries = 0;
    this.hits = 0;
    this.restarts = 0;
    this.restartingUntil = 0;
  }

  status() {
    const uptime = (Date.now() - this.started) / 1000;
    const restarting = Date.now() < this.restartingUntil;
    const wave = Math.sin(uptime / 9) + Math.sin(uptime / 3.7) / 2;
    return {
      version: "0.1.0", uptime_s: uptime, state: restarting ? "degraded" : "ok",
      models: [{
        id: "nano", state: "ready", context_tokens: 4096, running: this.running, waiting: 0,
        kv_pages_used: 6 + 5 * this.running, kv_pages_total: 64, kv_page_tokens: 64,
        prompt_tokens_total: this.promptTokens, generation_tokens_total: this.generationTokens,
        prefix_cache_queries_total: this.queries, prefix_cache_hits_total: this.hits, preemptions_total: 0,
        workers: [
          { index: 0, role: "active", state: restarting ? "restarting" : "ready", pid: 4711 + this.restarts,
            restarts: this.restarts, uptime_s: restarting ? 0 : uptime },
          { index: 1, role: "standby", state: "ready", pid: 4700, restarts: 0, uptime_s: uptime },
        ],
      }],
      host: {
        cpu_percent: Math.max(2, 30 + 12 * wave + 20 * Math.min(3, this.running)),
        memory_used_bytes: 3.1e9 + 5e7 * wave, memory_total_bytes: 25.2e9, gpus: [],
      },
      http: { connections: 1 + this.running, requests_total: this.requests },
    };
  }

  async chat(request, response, body) {
    const question = body.messages.findLast((m) => m.role === "user")?.content ?? "";
    const last = body.messages.at(-1);
    const answer = answerTo(question, last?.prefix ? last.content : null, body);
    if (answer.refuse) return fail(response, answer.refuse.status, answer.refuse.message, answer.refuse.headers);
    let gone = false;
    response.on("close", () => (gone = true));
    const id = `chatcmpl-${Date.now().toString(36)}`;
    const promptTokens = Math.ceil(JSON.stringify(body.messages).length / 4);
    this.queries += promptTokens;
    const cached = body.messages.length > 2 ? Math.floor((promptTokens * 0.8) / 64) * 64 : 0;
    this.hits += cached;
    this.promptTokens += promptTokens;
    this.running++;
    try {
      response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" });
      const chunk = (choices, more = {}) => response.write(`data: ${JSON.stringify({
        id, object: "chat.completion.chunk", created: Math.floor(Date.now() / 1000), model: body.model,
        system_fingerprint: "fp_0123456789", choices, ...more })}\n\n`);
      const delta = (fields, finish_reason = null) => chunk([{ index: 0, delta: fields, logprobs: null, finish_reason }]);
      delta({ role: "assistant", content: "" });
      let tokens = 0;
      let reasoningTokens = 0;
      for (const step of answer.steps) {
        if (gone) return;
        if (step.wait) {
          // What the real server does while nothing comes: a comment now and then.
          for (let left = step.wait; left > 0 && !gone; left -= 500) {
            await sleep(Math.min(500, left));
            if (!gone && left > 500) response.write(": keep-alive\n\n");
          }
          continue;
        }
        if (step.restart) {
          this.restarts++;
          this.restartingUntil = Date.now() + step.restart;
          continue;
        }
        if (step.cut) return response.destroy();
        if (step.error) {
          response.write(`event: error\ndata: ${JSON.stringify({ error: { message: step.error, type: "server_error", param: null, code: "server_error" } })}\n\n`);
          return response.end();
        }
        if (step.delta) {
          delta(step.delta);
          continue;
        }
        for (const token of step.text.match(/\s*\S+|\s+$/g) ?? []) {
          if (gone) return;
          delta(step.reasoning ? { reasoning_content: token } : { content: token });
          tokens++;
          this.generationTokens++;
          if (step.reasoning) reasoningTokens++;
          await sleep(1000 / (step.rate ?? this.options.tokensPerSecond));
        }
      }
      delta({}, answer.finish ?? "stop");
      chunk([], { usage: {
        prompt_tokens: promptTokens, completion_tokens: tokens, total_tokens: promptTokens + tokens,
        prompt_cache_hit_tokens: cached, prompt_cache_miss_tokens: promptTokens - cached,
        completion_tokens_details: { reasoning_tokens: reasoningTokens } } });
      response.end("data: [DONE]\n\n");
    } finally {
      this.running--;
    }
  }
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

function fail(response, status, message, headers = {}) {
  send(response, status, { error: { message, type: "invalid_request_error", param: null, code: "invalid_request_error" } }, headers);
}

async function bodyOf(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return JSON.parse(Buffer.concat(pieces).toString("utf8"));
}

/** Answers the API's paths; passes all others to `next`. */
export function apiHandler(options = {}) {
  const server = new Server({ tokensPerSecond: 60, apiKey: null, ...options });
  return async (request, response, next) => {
    const path = new URL(request.url, "http://x").pathname;
    if (!/^\/(v1\/|beta\/|status$|health$)/.test(path)) return next();
    server.requests++;
    if (path === "/health") return send(response, 200, { status: "ok" });
    if (server.options.apiKey && request.headers.authorization !== `Bearer ${server.options.apiKey}`) {
      return fail(response, 401, "Authentication Fails, Your api key: ****none is invalid");
    }
    if (path === "/status") return send(response, 200, server.status());
    if (path === "/v1/models") {
      return send(response, 200, { object: "list", data: [
        { id: "nano", object: "model", created: 1, owned_by: "fathom" },
        { id: "deepseek-v3-tiny", object: "model", created: 1, owned_by: "fathom" }] });
    }
    if (request.method === "POST" && /^\/(v1|beta)\/chat\/completions$/.test(path)) {
      try {
        return await server.chat(request, response, await bodyOf(request));
      } catch (error) {
        if (!response.headersSent) return fail(response, 400, `${error}`);
        return response.destroy();
      }
    }
    return fail(response, 404, `there is no ${path}`);
  };
}

const contentTypes = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
};

/** The built page, with the headers that the real server sends. */
function staticHandler(request, response) {
  const assets = fileURLToPath(new URL("../src/server/web/assets/", import.meta.url));
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  const file = join(assets, path.endsWith("/") ? `${path}index.html` : path);
  if (!file.startsWith(assets) || !existsSync(file) || !statSync(file).isFile()) return fail(response, 404, "no such page");
  const body = readFileSync(file);
  const etag = `"${createHash("sha256").update(body).digest("hex").slice(0, 16)}"`;
  const headers = {
    etag, "content-security-policy": `${contentSecurityPolicy}; frame-ancestors 'none'`,
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cache-control": path.startsWith("/static/") ? "public, max-age=31536000, immutable" : "no-cache",
    "content-type": contentTypes[extname(file)] ?? "application/octet-stream",
  };
  response.writeHead(request.headers["if-none-match"] === etag ? 304 : 200, headers);
  response.end(request.headers["if-none-match"] === etag ? undefined : body);
}

function main() {
  const option = (name, fallback) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? fallback : process.argv[at + 1];
  };
  const port = Number(option("port", 8099));
  const api = apiHandler({
    apiKey: option("api-key", null), tokensPerSecond: Number(option("tokens-per-second", 60)),
  });
  createServer((request, response) => api(request, response, () => staticHandler(request, response)))
    .listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/`));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
