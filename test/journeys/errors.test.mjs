// Every mistake has one status, one type and, where a field is to blame, its name: programs branch on these.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { model } from '../support/nebula.mjs';
import { assert_error_body, stage } from '../support/stage.mjs';

const good = { model: 'demo/chat:1', messages: [{ role: 'user', content: 'fake:ok' }] };
const limit = 65536;
let s;
before(async () => {
  s = await stage({
    models: [model('demo/chat:1'), model('small', { context_length: 100, max_output_tokens: 50 })],
    http: { body_bytes_max: limit },
  });
});
after(() => s?.close());

const bad_bodies = [
  ['an empty body', '', null],
  ['no JSON', 'hello', null],
  ['an array', '[]', null],
  ['a number', '7', null],
  ['cut JSON', '{"model":"demo/chat:1","messages":[', null],
  ['something behind the object', `${JSON.stringify(good)} x`, null],
  ['a second object', `${JSON.stringify(good)}{}`, null],
  [
    'invalid UTF-8',
    Buffer.concat([
      Buffer.from('{"model":"demo/chat:1","messages":[{"role":"user","content":"'),
      Buffer.of(0xff, 0xfe),
      Buffer.from('"}]}'),
    ]),
    null,
  ],
  [
    'nesting without end',
    `{"model":"demo/chat:1","messages":${'['.repeat(20000)}${']'.repeat(20000)}}`,
    null,
  ],
  ['no model', JSON.stringify({ messages: good.messages }), 'model'],
  ['a model that is a number', JSON.stringify({ ...good, model: 5 }), 'model'],
  ['an empty model', JSON.stringify({ ...good, model: '' }), 'model'],
  ['no messages', JSON.stringify({ model: good.model }), 'messages'],
  ['messages that are text', JSON.stringify({ ...good, messages: 'hello' }), 'messages'],
  ['no message in messages', JSON.stringify({ ...good, messages: [] }), 'messages'],
  ['stream that is text', JSON.stringify({ ...good, stream: 'yes' }), 'stream'],
  ['max_tokens that is text', JSON.stringify({ ...good, max_tokens: '5' }), 'max_tokens'],
  ['a negative max_tokens', JSON.stringify({ ...good, max_tokens: -1 }), 'max_tokens'],
  ['a fraction as max_tokens', JSON.stringify({ ...good, max_tokens: 1.5 }), 'max_tokens'],
  ['max_tokens of zero', JSON.stringify({ ...good, max_tokens: 0 }), 'max_tokens'],
  [
    'max_completion_tokens that is text',
    JSON.stringify({ ...good, max_completion_tokens: '5' }),
    'max_completion_tokens',
  ],
  ['n of zero', JSON.stringify({ ...good, n: 0 }), 'n'],
  ['n of a thousand', JSON.stringify({ ...good, n: 1000 }), 'n'],
  [
    'stream_options that is a number',
    JSON.stringify({ ...good, stream: true, stream_options: 5 }),
    'stream_options',
  ],
  [
    'model twice',
    '{"model":"demo/chat:1","model":"small","messages":[{"role":"user","content":"x"}]}',
    'model',
  ],
  [
    'model twice, once escaped',
    '{"model":"demo/chat:1","mod\\u0065l":"small","messages":[{"role":"user","content":"x"}]}',
    'model',
  ],
  [
    'stream twice',
    '{"model":"demo/chat:1","stream":false,"messages":[{"role":"user","content":"x"}],"stream":true}',
    'stream',
  ],
  [
    'max_tokens twice',
    '{"max_tokens":1,"model":"demo/chat:1","messages":[{"role":"user","content":"x"}],"max_tokens":100000}',
    'max_tokens',
  ],
];

for (const [what, body, param] of bad_bodies) {
  test(`400: ${what}`, async () => {
    const calls = s.fake.records.length;
    const answer = await s.server.call({ key: s.account.key, body });
    assert_error_body(answer, 400, { type: 'invalid_request_error', param });
    assert.equal(s.fake.records.length, calls, 'nothing may reach the provider');
  });
}

test('the client raises its typed error for each status', async () => {
  const { client } = s;
  await assert.rejects(client.chat.completions.create({ ...good, messages: [] }), OpenAI.BadRequestError);
  await assert.rejects(s.server.client('sk-wrong').chat.completions.create(good), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ ...good, model: 'nothing' }), OpenAI.NotFoundError);
  await assert.rejects(
    client.chat.completions.create({
      ...good,
      messages: [{ role: 'user', content: 'fake:status status=429' }],
    }),
    OpenAI.RateLimitError,
  );
  await assert.rejects(
    client.chat.completions.create({
      ...good,
      messages: [{ role: 'user', content: 'fake:status status=500' }],
    }),
    OpenAI.InternalServerError,
  );
});

describe('401', () => {
  test('no key, a wrong one, one with a damaged checksum, and the wrong scheme', async () => {
    const damaged = s.account.key.slice(0, -1) + (s.account.key.endsWith('a') ? 'b' : 'a');
    for (const headers of [
      {},
      { authorization: 'Bearer ' },
      { authorization: 'Bearer sk-neb-nothing' },
      { authorization: `Bearer ${damaged}` },
      { authorization: `Basic ${s.account.key}` },
      { authorization: s.account.key },
      { 'x-api-key': 'nothing' },
    ]) {
      const answer = await s.server.call({ headers, body: good });
      assert_error_body(answer, 401, { code: 'invalid_api_key' });
    }
  });

  test('a revoked key stops working on a running server', async () => {
    const { id, key } = await s.server.key(s.account.id, { name: 'to be revoked' });
    assert.equal((await s.server.chat({ key })).status, 200);
    await s.server.cli_json('keys', 'revoke', id);
    assert_error_body(await s.server.chat({ key }), 401);
  });

  test('the models need a key too', async () => {
    assert_error_body(await s.server.call({ method: 'GET', path: '/v1/models' }), 401);
  });

  test('a wrong key is refused before the body is read', async () => {
    const answer = await s.server.call({
      key: 'sk-neb-wrong',
      headers: { 'content-length': '60000', 'content-type': 'application/json' },
    });
    assert_error_body(answer, 401);
  });
});

test('402: an account without credit is told so and nothing is called', async () => {
  const poor = await s.server.account('without credit');
  const calls = s.fake.records.length;
  assert_error_body(await s.server.chat({ key: poor.key }), 402);
  await assert.rejects(
    s.server.client(poor.key).chat.completions.create(good),
    (e) => e instanceof OpenAI.APIError && e.status === 402,
  );
  assert.equal(s.fake.records.length, calls);
});

test('404: an unknown model and an unknown path', async () => {
  assert_error_body(await s.server.chat({ key: s.account.key, model: 'no/such:model' }), 404, {
    type: 'invalid_request_error',
    code: 'model_not_found',
    param: 'model',
  });
  assert_error_body(await s.server.call({ key: s.account.key, path: '/v1/nothing', body: {} }), 404);
  assert_error_body(await s.server.call({ key: s.account.key, method: 'GET', path: '/v1/../metrics' }), 404);
});

test('405: a known path with another method names those that it has', async () => {
  const answer = await s.server.call({ key: s.account.key, method: 'GET', path: '/v1/chat/completions' });
  assert_error_body(answer, 405);
  assert.match(answer.headers.allow, /POST/);
  assert_error_body(await s.server.call({ key: s.account.key, method: 'DELETE', path: '/v1/models' }), 405);
});

describe('413', () => {
  test('a body declared too long is refused before it is sent', async () => {
    const answer = await s.server.call({
      key: s.account.key,
      headers: { 'content-length': `${limit + 1}`, 'content-type': 'application/json' },
    });
    assert_error_body(answer, 413);
  });
  test('a chunked body is refused when it has become too long', async () => {
    const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`;
    const answer = await s.server
      .call({
        key: s.account.key,
        headers: { 'transfer-encoding': 'chunked', 'content-type': 'application/json' },
        body: undefined,
        within_ms: 5000,
      })
      .catch((e) => e);
    assert.ok(answer instanceof Error, 'nothing was sent yet, so nothing may be answered');
    const { RawClient } = await import('../support/raw_http.mjs');
    const wire = new RawClient(s.server.url);
    await wire.connected;
    await wire.send(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${s.account.key}\r\n` +
        `transfer-encoding: chunked\r\n\r\n${chunk.repeat(5)}`,
    );
    assert_error_body(await wire.response({ method: 'POST' }), 413);
    assert.ok(await wire.closes());
  });
  test('a body of exactly the limit is taken', async () => {
    const text = JSON.stringify({ ...good, messages: [{ role: 'user', content: 'fake:ok' }], pad: '' });
    const body = text.replace('"pad":""', `"pad":"${'x'.repeat(limit - text.length)}"`);
    assert.equal(Buffer.byteLength(body), limit);
    assert.equal((await s.server.call({ key: s.account.key, body })).status, 200);
  });
});

test('a prompt that does not fit the context: the provider knows its tokens, and its words are passed on', async () => {
  const answer = await s.server.chat({
    key: s.account.key,
    model: 'small',
    content: 'fake:status status=400 code=context_length_exceeded message=too_long',
  });
  assert_error_body(answer, 400, { code: 'context_length_exceeded' });
  assert.equal(answer.json().error.message, 'too_long');
  assert.equal((await s.server.balance(s.account.id)).held, 0n, 'nothing is held for it');
});

test('errors never repeat the key', async () => {
  const answer = await s.server.call({ key: `${s.account.key}x`, body: good });
  assert.ok(!answer.text.includes(s.account.key.slice(10)));
  assert.ok(!s.server.output.includes(s.account.key));
});
