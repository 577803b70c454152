// Rate limits answer as OpenAI's do, so that clients back off by themselves; a refused call costs nothing.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { model } from '../support/nebula.mjs';
import { assert_error_body, charge_of, price_of, stage } from '../support/stage.mjs';

let s;
before(async () => {
  s = await stage({
    models: [model('demo/chat:1'), model('narrow', { rpm: 2 }), model('thin', { tpm: 200 })],
  });
});
after(() => s?.close());

const say = { model: 'demo/chat:1', messages: [{ role: 'user', content: 'fake:ok' }], max_tokens: 10 };

function assert_limited(answer, kind) {
  assert_error_body(answer, 429, { code: 'rate_limit_exceeded', type: kind });
  assert.match(answer.headers['retry-after'], /^\d+$/);
  assert.ok(Number(answer.headers['retry-after']) >= 1);
}

test('requests per minute of a key: so many and no more, with the numbers in the headers', async () => {
  const { key } = await s.server.key(s.account.id, { rpm: 3 });
  const { charge } = await charge_of(s.server, s.account, async () => {
    for (let i = 0; i < 3; i += 1) {
      const answer = await s.server.chat({ key, body: { max_tokens: 10 } });
      assert.equal(answer.status, 200, answer.text);
      assert.equal(answer.headers['x-ratelimit-limit-requests'], '3');
      assert.equal(answer.headers['x-ratelimit-remaining-requests'], `${2 - i}`);
      assert.match(answer.headers['x-ratelimit-reset-requests'], /^(\d+m)?\d+(\.\d+)?(ms|s)$/);
    }
    const refused = await s.server.chat({ key });
    assert_limited(refused, 'requests');
    assert.equal(refused.headers['x-ratelimit-remaining-requests'], '0');
  });
  assert.equal(charge, 3n * price_of(7, 10), 'the refused call costs nothing');
});

test('the real client sees a RateLimitError', async () => {
  const { key } = await s.server.key(s.account.id, { rpm: 1 });
  const client = s.server.client(key);
  await client.chat.completions.create(say);
  await assert.rejects(
    client.chat.completions.create(say),
    (e) =>
      e instanceof OpenAI.RateLimitError &&
      e.code === 'rate_limit_exceeded' &&
      e.headers.get('retry-after') !== null,
  );
});

test('tokens per minute of a key count prompt and output', async () => {
  const { key } = await s.server.key(s.account.id, { tpm: 100 });
  const first = await s.server.chat({ key, body: { max_tokens: 60 }, content: 'fake:ok frames=60' });
  assert.equal(first.status, 200, first.text);
  assert.equal(first.headers['x-ratelimit-limit-tokens'], '100');
  assert_limited(await s.server.chat({ key, body: { max_tokens: 60 } }), 'tokens');
});

test('a key without limits of its own is not limited by another key', async () => {
  const limited = await s.server.key(s.account.id, { rpm: 1 });
  const free = await s.server.key(s.account.id);
  await s.server.chat({ key: limited.key });
  assert_limited(await s.server.chat({ key: limited.key }), 'requests');
  for (let i = 0; i < 5; i += 1) assert.equal((await s.server.chat({ key: free.key })).status, 200);
});

test('a model has limits too', async () => {
  for (let i = 0; i < 2; i += 1)
    assert.equal((await s.server.chat({ key: s.account.key, model: 'narrow' })).status, 200);
  assert_limited(await s.server.chat({ key: s.account.key, model: 'narrow' }), 'requests');
  assert.equal((await s.server.chat({ key: s.account.key })).status, 200, 'another model is not touched');
});

test('limits of the configuration bind accounts and addresses', async () => {
  for (const limits of [{ account_rpm: 4 }, { ip_rpm: 4 }, { key_rpm: 4 }]) {
    const t = await stage({ limits });
    try {
      const second = await t.server.key(t.account.id);
      const keys = 'key_rpm' in limits ? [t.account.key] : [t.account.key, second.key];
      const statuses = [];
      for (let i = 0; i < 6; i += 1)
        statuses.push((await t.server.chat({ key: keys[i % keys.length] })).status);
      assert.deepEqual(statuses, [200, 200, 200, 200, 429, 429], JSON.stringify(limits));
    } finally {
      await t.close();
    }
  }
});

test('many at once get through exactly up to the limit', async () => {
  const { key } = await s.server.key(s.account.id, { rpm: 20 });
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => s.server.chat({ key, body: { max_tokens: 10 } })),
  );
  const passed = answers.filter((a) => a.status === 200).length;
  // A refill of one request takes three seconds at this rate: allow for a slow machine, not for a leak.
  assert.ok(passed >= 20 && passed <= 22, `${passed} passed`);
  assert.equal(answers.filter((a) => a.status === 429).length, 100 - passed);
});
