// The list of calls and how they are run, for the modules beside this one. What they need comes in the environment.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

export { assert, OpenAI };
export const base = process.env.FATHOM_BASE; // http://127.0.0.1:PORT
export const apiKey = process.env.FATHOM_KEY;
export const nano = 'nano';
export const tools = 'nano-tools'; // nano with a template that has tools
export const plain = { thinking: { type: 'disabled' } };
export const sum = [{ role: 'user', content: '12+34=' }];
export const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0, timeout: 60_000 });

const calls = [];
export function call(name, run) {
  calls.push({ name, run });
}

// The error that the promise must end in, of this very class and with these fields.
export async function fails(kind, promise, fields = {}) {
  let error;
  try {
    await promise;
  } catch (e) {
    error = e;
  }
  assert.ok(error, `nothing was thrown, expected ${kind.name}`);
  assert.equal(error.constructor.name, kind.name, `${error}`);
  for (const [name, expected] of Object.entries(fields)) assert.equal(error[name], expected, name);
  return error;
}

export async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Nothing may be computed any more.
export async function becomesIdle() {
  const deadline = Date.now() + 5000;
  for (;;) {
    const answer = await fetch(`${base}/status`, { headers: { Authorization: `Bearer ${apiKey}` } });
    const { models } = await answer.json();
    if (models.every((m) => m.running + m.waiting === 0)) return;
    assert.ok(Date.now() < deadline, 'the answer is computed on although nobody waits for it');
    await sleep(20);
  }
}

// Runs the calls, prints the failures, returns how many there were.
export async function run(label) {
  const start = Date.now();
  let failures = 0;
  for (const { name, run: body } of calls) {
    try {
      await body();
    } catch (error) {
      failures += 1;
      console.log(`${label}: ${name} failed: ${error?.name}: ${String(error?.message).slice(0, 500)}`);
    }
  }
  console.log(`${label}: ${calls.length} calls, ${failures} failures, ${((Date.now() - start) / 1000).toFixed(1)} s`);
  return failures;
}
