// Chat completions by OpenAI's Node client, streamed and not.
import { OpenAI, all, assert, call, client, fails, nano, plain, sum, tools } from './suite.mjs';

const chat = (fields = {}) => client.chat.completions.create({ model: nano, messages: sum, ...fields });
const free = { ...plain, temperature: 2, max_tokens: 30, ignore_eos: true };
const schema = {
  type: 'object',
  properties: { a: { type: 'integer', minimum: 0, maximum: 99 }, kind: { type: 'string', enum: ['x', 'y'] } },
  required: ['a', 'kind'],
  additionalProperties: false,
};
const none = { type: 'object', properties: {}, required: [], additionalProperties: false };
const now = { type: 'function', function: { name: 'now', description: 'The time', strict: true, parameters: none } };
const digit = { type: 'integer', minimum: 0, maximum: 9 };
const add = {
  type: 'function',
  function: {
    name: 'add', description: 'Adds two digits', strict: true,
    parameters: { type: 'object', properties: { a: digit, b: digit }, required: ['a', 'b'], additionalProperties: false },
  },
};

async function streamed(fields) {
  const chunks = await all(await chat({ stream: true, ...fields }));
  const choices = chunks.flatMap((c) => c.choices);
  return {
    chunks,
    content: choices.map((c) => c.delta.content ?? '').join(''),
    reasoning: choices.map((c) => c.delta.reasoning_content ?? '').join(''),
    finish: choices.map((c) => c.finish_reason).filter(Boolean),
  };
}

call('chat: thinks and answers', async () => {
  const answer = await chat();
  assert.equal(answer.choices[0].message.content, '46');
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.match(answer.choices[0].message.reasoning_content, /46/);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

call('chat: streamed, the same answer', async () => {
  const { message } = (await chat()).choices[0];
  const seen = await streamed();
  assert.deepEqual([seen.content, seen.reasoning], [message.content, message.reasoning_content]);
  assert.deepEqual(seen.finish, ['stop']);
  assert.equal(new Set(seen.chunks.map((c) => c.id)).size, 1);
});

call('chat: thinking disabled', async () => {
  assert.equal((await chat(plain)).usage.completion_tokens_details.reasoning_tokens, 0);
});

call('chat: reasoning_effort none', async () => {
  assert.equal((await chat({ reasoning_effort: 'none' })).usage.completion_tokens_details.reasoning_tokens, 0);
});

call('chat: deepseek-reasoner is an alias', async () => {
  assert.equal((await chat({ model: 'deepseek-reasoner' })).choices[0].message.content, '46');
});

call('chat: several turns', async () => {
  const messages = [{ role: 'system', content: 'Be short.' }, { role: 'user', content: '1+1=' },
    { role: 'assistant', content: '2' }, ...sum];
  assert.equal((await chat({ messages })).choices[0].message.content, '46');
});

call('chat: Chinese, streamed', async () => {
  const { content } = await streamed({ messages: [{ role: 'user', content: '你好' }], max_tokens: 200 });
  assert.match(content, /[\u4e00-\u9fff]/);
  assert.doesNotMatch(content, /\ufffd/);
});

call('chat: max_tokens', async () => {
  const answer = await chat({ max_tokens: 3 });
  assert.deepEqual([answer.choices[0].finish_reason, answer.usage.completion_tokens], ['length', 3]);
});

call('chat: max_completion_tokens, streamed', async () => {
  assert.deepEqual((await streamed({ max_completion_tokens: 2 })).finish, ['length']);
});

call('chat: stream_options include_usage', async () => {
  const { chunks } = await streamed({ stream_options: { include_usage: true } });
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, (await chat()).usage.completion_tokens);
});

call('chat: seed', async () => {
  const texts = [];
  for (const seed of [7, 7, 8]) texts.push((await chat({ ...free, seed })).choices[0].message.content);
  assert.equal(texts[0], texts[1]);
  assert.notEqual(texts[0], texts[2]);
});

call('chat: seed, streamed', async () => {
  const whole = await chat({ ...free, seed: 7 });
  assert.equal((await streamed({ ...free, seed: 7 })).content, whole.choices[0].message.content);
});

call('chat: n answers', async () => {
  const answer = await chat({ ...free, n: 3, seed: 1 });
  assert.deepEqual(answer.choices.map((c) => c.index), [0, 1, 2]);
  assert.equal(new Set(answer.choices.map((c) => c.message.content)).size, 3);
});

call('chat: stop', async () => {
  const fields = { ...plain, messages: [{ role: 'user', content: 'spell tiger' }], max_tokens: 60 };
  const whole = (await chat(fields)).choices[0].message.content;
  const stopped = (await chat({ ...fields, stop: [whole[2]] })).choices[0];
  assert.equal(stopped.message.content, whole.slice(0, whole.indexOf(whole[2])));
  assert.equal(stopped.finish_reason, 'stop');
});

call('chat: logprobs', async () => {
  const answer = await chat({ ...plain, logprobs: true, top_logprobs: 3, temperature: 0 });
  for (const token of answer.choices[0].logprobs.content) {
    assert.equal(token.top_logprobs.length, 3);
    assert.equal(token.top_logprobs[0].token, token.token);
    assert.equal(Buffer.from(token.bytes).toString(), token.token);
  }
});

call('chat: logprobs, streamed', async () => {
  const fields = { ...plain, logprobs: true, temperature: 0 };
  const whole = (await chat(fields)).choices[0].logprobs.content;
  const { chunks } = await streamed(fields);
  const seen = chunks.flatMap((c) => c.choices).flatMap((c) => c.logprobs?.content ?? []);
  assert.deepEqual(seen.map((t) => [t.token, t.logprob]), whole.map((t) => [t.token, t.logprob]));
});

call('chat: json_object', async () => {
  const answer = await chat({ ...plain, messages: [{ role: 'user', content: '12+34= as json' }], max_tokens: 200,
    response_format: { type: 'json_object' } });
  assert.equal(typeof JSON.parse(answer.choices[0].message.content), 'object');
});

call('chat: json_schema', async () => {
  const answer = await chat({ ...plain, temperature: 2, seed: 5, max_tokens: 500,
    response_format: { type: 'json_schema', json_schema: { name: 't', strict: true, schema } } });
  const value = JSON.parse(answer.choices[0].message.content);
  assert.deepEqual(Object.keys(value).sort(), ['a', 'kind']);
  assert.ok(value.a >= 0 && value.a <= 99 && ['x', 'y'].includes(value.kind), JSON.stringify(value));
});

call('chat: json_schema, streamed', async () => {
  const { content, finish } = await streamed({ ...plain, max_tokens: 500,
    response_format: { type: 'json_schema', json_schema: { name: 't', strict: true, schema } } });
  assert.deepEqual(finish, ['stop']);
  assert.deepEqual(Object.keys(JSON.parse(content)).sort(), ['a', 'kind']);
});

call('chat: the stream helper', async () => {
  let heard = '';
  const stream = client.chat.completions.stream({ model: nano, messages: sum });
  stream.on('content', (delta) => { heard += delta; });
  assert.equal(await stream.finalContent(), '46');
  assert.equal(heard, '46');
});

call('tools: none described to a model without them', async () => {
  await fails(OpenAI.BadRequestError, chat({ tools: [add] }), { status: 400 });
});

call('tools: required', async () => {
  const choice = (await chat({ model: tools, tools: [add, now], tool_choice: 'required', max_tokens: 400 })).choices[0];
  assert.equal(choice.finish_reason, 'tool_calls');
  for (const { function: f } of choice.message.tool_calls)
    assert.deepEqual(Object.keys(JSON.parse(f.arguments)).sort(), f.name === 'add' ? ['a', 'b'] : []);
});

call('tools: a named one, no parallel calls', async () => {
  const answer = await chat({ model: tools, tools: [add, now], parallel_tool_calls: false, max_tokens: 400,
    tool_choice: { type: 'function', function: { name: 'now' } } });
  assert.deepEqual(answer.choices[0].message.tool_calls.map((c) => c.function.name), ['now']);
});

call('tools: streamed, put together by the helper', async () => {
  const stream = client.chat.completions.stream({ model: tools, messages: sum, tools: [add], tool_choice: 'required',
    parallel_tool_calls: false, max_tokens: 400 });
  const { message, finish_reason: finish } = (await stream.finalChatCompletion()).choices[0];
  assert.equal(finish, 'tool_calls');
  assert.deepEqual(Object.keys(JSON.parse(message.tool_calls[0].function.arguments)).sort(), ['a', 'b']);
});

call('tools: run by the helper until the model answers', async () => {
  let asked = 0;
  const tool = { type: 'function', function: { name: 'now', description: 'The time', parameters: none, strict: true,
    parse: JSON.parse, function: () => { asked += 1; return '12:00'; } } };
  const runner = client.chat.completions.runTools({ ...plain, model: tools, messages: sum, tools: [tool],
    max_tokens: 400, parallel_tool_calls: false, tool_choice: { type: 'function', function: { name: 'now' } } });
  await runner.done();
  assert.equal(asked, 1);
  assert.ok(runner.messages.some((m) => m.role === 'tool' && m.content === '12:00'));
});

call('tools: tool_choice none', async () => {
  const answer = await chat({ ...plain, model: tools, tools: [add], tool_choice: 'none', max_tokens: 50 });
  assert.equal(answer.choices[0].message.tool_calls, undefined);
});
