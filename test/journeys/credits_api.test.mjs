// The credit API to the letter of its documentation: a price for each request whatever its size, the balance in each
// answer, and errors that its clients compare as text.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { model } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';
import { nanos } from '../support/wait.mjs';

const model_id = 'groq/gemma-groq-416';
let s;
before(async () => {
  s = await stage({
    models: [model(model_id), model('expensive', { price_input_per_m: '1000', price_output_per_m: '1000' })],
    credit: '1000',
    limits: { credits_ip_rpm: 100000 },
  });
});
after(() => s?.close());

const ask = (key, body, { path = '/api/v1/chat', ...rest } = {}) => s.server.call({ path, key, body, ...rest });
const hello = (content = 'fake:ok frames=3', more = {}) => ({
  model: model_id,
  messages: [{ role: 'user', content }],
  ...more,
});
const account = (credit) => s.server.account(`credits ${Math.random()}`, { credit });

test('a request costs one credit and says what remains, whatever its tokens', async () => {
  const { id, key } = await account('100');
  const answer = await ask(key, hello());
  assert.equal(answer.status, 200, answer.text);
  assert.match(answer.headers['content-type'], /^application\/json/);
  const body = answer.json();
  assert.deepEqual(Object.keys(body), [
    'id',
    'object',
    'created',
    'model',
    'choices',
    'usage',
    'credits_charged',
    'credits_remaining',
    'batch_request',
  ]);
  assert.equal(body.object, 'chat.completion');
  const [{ index, message, finish_reason }] = body.choices;
  assert.deepEqual([index, message.role, message.content, finish_reason], [0, 'assistant', 'alpha beta gamma', 'stop']);
  assert.deepEqual(body.usage, { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 });
  assert.deepEqual([body.credits_charged, body.credits_remaining, body.batch_request], [1, 99, false]);
  // The price of the model has no say: only the request is paid.
  const second = (await ask(key, { ...hello('fake:ok frames=140'), model: 'expensive' })).json();
  assert.deepEqual([second.credits_charged, second.credits_remaining], [1, 98]);
  assert.equal(await s.server.settled(id), nanos('98'));
  await s.server.verify_ledger();
});

test('a batch request costs two credits', async () => {
  const { key } = await account('99.5');
  const batch = (await ask(key, hello(), { path: '/api/v1/chat?batch=1' })).json();
  assert.deepEqual([batch.credits_charged, batch.credits_remaining, batch.batch_request], [2, 97.5, true]);
  const plain = (await ask(key, hello(), { path: '/api/v1/chat?batch=0' })).json();
  assert.deepEqual([plain.credits_charged, plain.credits_remaining, plain.batch_request], [1, 96.5, false]);
});

test('an unknown, missing or malformed key is refused in exactly these words', async () => {
  for (const key of [undefined, 'nonsense', 'sk-neb-0000000000000000000000000000000000000000000000']) {
    const answer = await ask(key, hello());
    assert.equal(answer.status, 401);
    assert.deepEqual(answer.json(), { error: 'Invalid API key' });
  }
});

test('too few credits are refused with what is required and what is there', async () => {
  for (const [credit, path, required, text] of [
    ['0.5', '/api/v1/chat', 1, 'Insufficient credits. Required: 1, Available: 0.5'],
    ['1.999999999', '/api/v1/chat?batch=1', 2, 'Insufficient credits. Required: 2, Available: 1.999999999'],
    [undefined, '/api/v1/chat', 1, 'Insufficient credits. Required: 1, Available: 0'],
  ]) {
    const { key } = await account(credit);
    const answer = await ask(key, hello(), { path });
    assert.equal(answer.status, 402, answer.text);
    const available = Number(credit ?? 0);
    assert.deepEqual(answer.json(), { error: text, credits_required: required, credits_available: available });
  }
});

test('a balance of three credits pays for exactly three of many concurrent requests', async () => {
  const { id, key } = await account('3.25');
  const answers = await Promise.all(Array.from({ length: 30 }, () => ask(key, hello())));
  assert.equal(answers.filter((a) => a.status === 200).length, 3);
  assert.equal(answers.filter((a) => a.status === 402).length, 27);
  // What others have set aside at that moment does not remain.
  const remaining = answers.filter((a) => a.status === 200).map((a) => a.json().credits_remaining);
  assert.ok(remaining.every((r) => [0.25, 1.25, 2.25].includes(r)) && remaining.includes(0.25), `${remaining}`);
  assert.equal(await s.server.settled(id), nanos('0.25'));
});

test('an unknown model is named in the refusal', async () => {
  const answer = await ask(s.account.key, { ...hello(), model: 'invalid-model' });
  assert.equal(answer.status, 404);
  assert.deepEqual(answer.json(), { error: "Model 'invalid-model' not found" });
});

test('a request without model or messages is refused in exactly these words', async () => {
  for (const body of [
    {},
    { model: model_id },
    { messages: [{ role: 'user', content: 'x' }] },
    { model: model_id, messages: 'hello' },
    { model: '', messages: [{ role: 'user', content: 'x' }] },
  ]) {
    const answer = await ask(s.account.key, body);
    assert.equal(answer.status, 400, JSON.stringify(body) + answer.text);
    assert.deepEqual(answer.json(), { error: 'Missing required fields: model and messages array' });
  }
  const broken = await ask(s.account.key, '{"model":');
  assert.equal(broken.status, 400);
  assert.deepEqual(Object.keys(broken.json()), ['error']);
});

test('without max_tokens the model is asked for at most 150', async () => {
  const limits = [];
  s.fake.rules.push(({ body }) => {
    limits.push(body.max_tokens ?? body.max_completion_tokens);
    return undefined;
  });
  try {
    await ask(s.account.key, hello());
    await ask(s.account.key, hello(undefined, { max_tokens: 20 }));
    await ask(s.account.key, hello(undefined, { max_tokens: 400 }));
    assert.deepEqual(limits, [150, 20, 400]);
  } finally {
    s.fake.rules.pop();
  }
});

test('a request that the provider fails costs nothing and answers 500', async () => {
  const { id, key } = await account('5');
  const answer = await ask(key, hello('fake:status status=400'));
  assert.ok(answer.status >= 400, answer.text);
  const failed = await ask(key, hello('fake:cut_before_head'));
  assert.equal(failed.status, 500, failed.text);
  assert.deepEqual(Object.keys(failed.json()), ['error']);
  assert.equal(await s.server.settled(id), nanos('5'));
});

test('the models are listed without a key', async () => {
  const answer = await s.server.call({ method: 'GET', path: '/api/models' });
  assert.equal(answer.status, 200);
  const list = answer.json();
  assert.deepEqual(
    (list.data ?? list.models ?? list).map((m) => m.id),
    [model_id, 'expensive'],
  );
});

test('the sixty-first request of a minute from one address is refused, of whatever key', async () => {
  const t = await stage({ models: [model(model_id)], credit: '1000' });
  try {
    const other = await t.server.account('another', { credit: '100' });
    const statuses = [];
    for (let i = 0; i < 61; i += 1) {
      const key = i % 2 === 0 ? t.account.key : other.key;
      statuses.push((await t.server.call({ path: '/api/v1/chat', key, body: hello('fake:ok frames=1') })).status);
    }
    assert.deepEqual(statuses, [...Array(60).fill(200), 429]);
    const refused = await t.server.call({ path: '/api/v1/chat', key: other.key, body: hello() });
    assert.equal(refused.status, 429);
    assert.deepEqual(Object.keys(refused.json()), ['error']);
    assert.match(refused.headers['retry-after'], /^\d+$/);
    // The limit is of this API alone.
    assert.equal((await t.server.chat({ key: other.key, model: model_id })).status, 200);
  } finally {
    await t.close();
  }
});
