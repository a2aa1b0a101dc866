// What OpenAI's Node client can ask beside chat: completions, models, responses, errors, headers.
import { OpenAI, all, apiKey, assert, base, becomesIdle, call, client, fails, nano, sleep, sum, tools }
  from './suite.mjs';

const beta = new OpenAI({ baseURL: `${base}/beta`, apiKey, maxRetries: 0 });
const stranger = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
const chat = (fields = {}, options) => client.chat.completions.create({ model: nano, messages: sum, ...fields }, options);
const complete = (fields = {}, options) =>
  client.completions.create({ model: nano, prompt: '12+34=', max_tokens: 12, temperature: 0, ...fields }, options);
const respond = (fields = {}) => client.responses.create({ model: nano, input: '12+34=', ...fields });
const long = { max_tokens: 1900, ignore_eos: true };

call('completions: plain and streamed', async () => {
  const whole = (await complete()).choices[0].text;
  const chunks = await all(await complete({ stream: true }));
  assert.ok(whole.length > 0);
  assert.equal(chunks.flatMap((c) => c.choices).map((c) => c.text).join(''), whole);
});

call('completions: echo', async () => {
  assert.equal((await complete({ echo: true })).choices[0].text, `12+34=${(await complete()).choices[0].text}`);
});

call('completions: several prompts', async () => {
  assert.deepEqual((await complete({ prompt: ['1+1=', '2+2='], n: 2 })).choices.map((c) => c.index), [0, 1, 2, 3]);
});

call('completions: logprobs', async () => {
  const { text, logprobs } = (await complete({ logprobs: 2 })).choices[0];
  assert.equal(logprobs.tokens.join(''), text);
});

call('completions: fill in the middle', async () => {
  const answer = await beta.completions.create({ model: nano, prompt: 'def add(b, t):\n    return ', suffix: '\n',
    max_tokens: 20, temperature: 0 });
  assert.equal(answer.choices[0].text, 'b + t');
});

call('models: list', async () => {
  assert.deepEqual((await all(client.models.list())).map((m) => m.id).sort(), [nano, tools]);
});

call('models: retrieve', async () => {
  assert.equal((await client.models.retrieve(nano)).id, nano);
});

call('responses: create', async () => {
  const answer = await respond();
  assert.deepEqual([answer.status, answer.output_text], ['completed', '46']);
  assert.deepEqual(answer.output.map((i) => i.type), ['reasoning', 'message']);
});

call('responses: streamed', async () => {
  const events = await all(await respond({ stream: true }));
  assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
  assert.deepEqual([events[0].type, events.at(-1).type], ['response.created', 'response.completed']);
  assert.equal(events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join(''), '46');
});

call('responses: the stream helper', async () => {
  const stream = client.responses.stream({ model: nano, input: '12+34=' });
  assert.equal((await stream.finalResponse()).output_text, '46');
});

call('responses: json_schema', async () => {
  const schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };
  const answer = await respond({ max_output_tokens: 500, reasoning: { effort: 'none' },
    text: { format: { type: 'json_schema', name: 't', strict: true, schema } } });
  assert.equal(typeof JSON.parse(answer.output_text).ok, 'boolean');
});

call('responses: max_output_tokens', async () => {
  const answer = await respond({ max_output_tokens: 3 });
  assert.deepEqual([answer.status, answer.incomplete_details.reason], ['incomplete', 'max_output_tokens']);
});

call('responses: go on with previous_response_id', async () => {
  const first = await respond();
  const second = await respond({ previous_response_id: first.id, input: '1+1=' });
  assert.equal(second.output_text, '2');
  assert.ok(second.usage.input_tokens > first.usage.input_tokens);
});

call('responses: retrieve and delete', async () => {
  const { id } = await respond();
  assert.equal((await client.responses.retrieve(id)).output_text, '46');
  await client.responses.delete(id);
  await fails(OpenAI.NotFoundError, client.responses.retrieve(id), { status: 404 });
});

call('responses: function calls', async () => {
  const parameters = { type: 'object', properties: {}, required: [], additionalProperties: false };
  const answer = await respond({ model: tools, tool_choice: 'required', parallel_tool_calls: false,
    max_output_tokens: 400, tools: [{ type: 'function', name: 'now', description: 'The time', strict: true, parameters }] });
  const made = answer.output.find((i) => i.type === 'function_call');
  assert.deepEqual([made.name, JSON.parse(made.arguments)], ['now', {}]);
});

call('responses: background, polled', async () => {
  let answer = await respond({ background: true });
  const deadline = Date.now() + 20_000;
  while (['queued', 'in_progress'].includes(answer.status)) {
    assert.ok(Date.now() < deadline, answer.status);
    await sleep(20);
    answer = await client.responses.retrieve(answer.id);
  }
  assert.deepEqual([answer.status, answer.output_text], ['completed', '46']);
});

call('responses: background, resumed by starting_after', async () => {
  const seen = [];
  const stream = await respond({ background: true, stream: true, max_output_tokens: 300, ignore_eos: true });
  for await (const event of stream) {
    seen.push(event);
    if (seen.length === 6) break;
  }
  const { id } = seen[0].response;
  const rest = await all(await client.responses.retrieve(id, { stream: true,
    starting_after: seen.at(-1).sequence_number }));
  const numbers = [...seen, ...rest].map((e) => e.sequence_number);
  assert.deepEqual(numbers, numbers.map((_, i) => i));
  assert.equal(rest.at(-1).type, 'response.incomplete');
});

call('responses: background, cancelled', async () => {
  const { id } = await respond({ background: true, max_output_tokens: 1900, ignore_eos: true });
  assert.equal((await client.responses.cancel(id)).status, 'cancelled');
  await becomesIdle();
});

call('error: wrong key', async () => {
  const error = await fails(OpenAI.AuthenticationError, stranger.models.list(), { status: 401 });
  assert.doesNotMatch(error.message, /sk-wrong/);
});

call('error: wrong key for a stream', async () => {
  await fails(OpenAI.AuthenticationError,
    stranger.chat.completions.create({ model: nano, messages: sum, stream: true }), { status: 401 });
});

call('error: unknown model', async () => {
  await fails(OpenAI.NotFoundError, chat({ model: 'gpt-9' }), { status: 404, code: 'model_not_found' });
});

call('error: out of range', async () => {
  await fails(OpenAI.BadRequestError, chat({ temperature: 3 }), { status: 400, param: 'temperature' });
});

call('error: longer than the context', async () => {
  await fails(OpenAI.BadRequestError, complete({ prompt: '12+34='.repeat(1000) }), { code: 'context_length_exceeded' });
});

call('error: embeddings', async () => {
  await fails(OpenAI.BadRequestError, client.embeddings.create({ model: nano, input: 'x' }), { param: 'model' });
});

call('error: no such route', async () => {
  await fails(OpenAI.NotFoundError, client.images.generate({ model: nano, prompt: 'x' }), { status: 404 });
});

call('error: time-out, then the answer stops', async () => {
  await fails(OpenAI.APIConnectionTimeoutError, complete(long, { timeout: 150 }));
  await becomesIdle();
});

call('error: aborted by a signal', async () => {
  const signal = AbortSignal.timeout(100);
  await fails(OpenAI.APIUserAbortError, complete(long, { signal }));
  await becomesIdle();
});

call('a stream that is left is computed no further', async () => {
  const stream = await complete({ ...long, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
  await becomesIdle();
});

call('headers: withResponse', async () => {
  const { data, response, request_id: id } = await chat().withResponse();
  assert.equal(data.choices[0].message.content, '46');
  assert.equal(response.headers.get('x-request-id'), id);
  assert.ok(id);
});

call('headers: asResponse of a stream', async () => {
  const response = await chat({ stream: true }).asResponse();
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  assert.match(await response.text(), /data: \[DONE\]\n\n$/);
});

call('16 at a time, each its own answer', async () => {
  const numbers = Array.from({ length: 16 }, (_, i) => 10 + i);
  const answers = await Promise.all(numbers.map((i) => chat({ messages: [{ role: 'user', content: `${i}+${i}=` }] })));
  assert.deepEqual(answers.map((a) => a.choices[0].message.content), numbers.map((i) => `${2 * i}`));
});

call('tokenize and detokenize', async () => {
  const made = await client.post('/tokenize', { body: { model: nano, prompt: '你好 12', add_special_tokens: false } });
  const back = await client.post('/detokenize', { body: { model: nano, tokens: made.tokens } });
  assert.equal(back.prompt, '你好 12');
});
