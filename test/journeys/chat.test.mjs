// The main job with the client that everybody uses: an answer, a stream, the models, and an exact charge for
// each.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { engines, model, provider } from '../support/nebula.mjs';
import { charge_of, price_of, read_stream, stage } from '../support/stage.mjs';
import { nanos } from '../support/wait.mjs';

const models = [
  model('demo/chat:1'),
  model('qwen3:latest', { upstream: 'Qwen/Qwen3-32B' }),
  model('author/slug:free', {
    price_input_per_m: '0',
    price_output_per_m: '0',
  }),
];
const say = (content, extra = {}) => ({
  model: 'demo/chat:1',
  messages: [{ role: 'user', content }],
  ...extra,
});

for (const engine of engines) {
  describe(`the openai client, ${engine}`, () => {
    let s;
    before(async () => {
      s = await stage({
        engine,
        models,
        env: { FAKE_KEY: 'sk-upstream-secret' },
        provider: { api_key_env: 'FAKE_KEY' },
      });
    });
    after(() => s?.close());

    test('an answer arrives whole and is charged to the nano-dollar', async () => {
      const { charge, result } = await charge_of(s.server, s.account, () =>
        s.client.chat.completions.create(say('fake:ok frames=3 prompt_tokens=11')),
      );
      assert.equal(result.choices[0].message.content, 'alpha beta gamma');
      assert.deepEqual(result.usage, { prompt_tokens: 11, completion_tokens: 3, total_tokens: 14 });
      assert.equal(charge, price_of(11, 3));
      await s.server.verify_ledger();
    });

    test('a stream arrives in order without the usage it did not ask for, and is charged', async () => {
      const { charge, result } = await charge_of(s.server, s.account, async () =>
        read_stream(await s.client.chat.completions.create(say('fake:ok frames=5', { stream: true }))),
      );
      assert.equal(result.text, 'alpha beta gamma delta epsilon ');
      assert.equal(result.usage, null);
      assert.equal(new Set(result.chunks.map((c) => c.id)).size, 1);
      assert.equal(result.chunks[0].choices[0].delta.role, 'assistant');
      assert.equal(result.chunks.at(-1).choices[0].finish_reason, 'stop');
      assert.equal(s.fake.last.include_usage, true, 'usage is asked for upstream');
      assert.equal(charge, price_of(7, 5));
      await s.server.verify_ledger();
    });

    test('a stream that asks for usage gets it last, and it is what is charged', async () => {
      const { charge, result } = await charge_of(s.server, s.account, async () =>
        read_stream(
          await s.client.chat.completions.create(
            say('fake:ok frames=4', { stream: true, stream_options: { include_usage: true } }),
          ),
        ),
      );
      assert.deepEqual(result.chunks.at(-1).choices, []);
      assert.deepEqual(result.chunks.at(-1).usage, {
        prompt_tokens: 7,
        completion_tokens: 4,
        total_tokens: 11,
      });
      assert.equal(charge, price_of(7, 4));
    });

    test('a provider that reports no usage is charged by an estimate, never for nothing', async () => {
      for (const stream of [false, true]) {
        const { charge } = await charge_of(s.server, s.account, async () => {
          const answer = await s.client.chat.completions.create(
            say('fake:ok frames=20 usage=absent', { stream }),
          );
          if (stream) await read_stream(answer);
        });
        assert.ok(charge > 0n && charge < price_of(200, 200), `stream ${stream}: ${charge}`);
      }
      await s.server.verify_ledger();
    });

    test('a free model costs nothing and needs no credit', async () => {
      const poor = await s.server.account('poor');
      const answer = await s.server
        .client(poor.key)
        .chat.completions.create({ ...say('fake:ok'), model: 'author/slug:free' });
      assert.ok(answer.choices[0].message.content);
      assert.equal(await s.server.settled(poor.id), 0n);
    });
  });
}

describe('the wire of the request path', () => {
  let s;
  before(async () => {
    s = await stage({
      models,
      env: { FAKE_KEY: 'sk-upstream-secret' },
      provider: { api_key_env: 'FAKE_KEY' },
    });
  });
  after(() => s?.close());

  test('models are listed and retrieved, with slash and colon in their ids', async () => {
    const listed = [];
    for await (const m of s.client.models.list()) listed.push(m);
    assert.deepEqual(listed.map((m) => m.id).sort(), models.map((m) => m.id).sort());
    for (const m of listed) {
      assert.equal(m.object, 'model');
      assert.equal(typeof m.created, 'number');
      assert.equal(typeof m.owned_by, 'string');
      assert.equal((await s.client.models.retrieve(m.id)).id, m.id);
      for (const path of [`/v1/models/${m.id}`, `/v1/models/${encodeURIComponent(m.id)}`]) {
        const raw = await s.server.call({ method: 'GET', path, key: s.account.key });
        assert.deepEqual([raw.status, raw.json().id], [200, m.id], path);
      }
    }
    await assert.rejects(s.client.models.retrieve('no/such:model'), OpenAI.NotFoundError);
  });

  test('the provider sees its own key and model, and never the key of the client', async () => {
    await s.client.chat.completions.create({ ...say('fake:ok'), model: 'qwen3:latest' });
    const seen = s.fake.last;
    assert.equal(seen.model, 'Qwen/Qwen3-32B');
    assert.equal(seen.headers.authorization, 'Bearer sk-upstream-secret');
    assert.equal(seen.path, '/v1/chat/completions');
    assert.ok(!seen.head.join('\n').includes(s.account.key));
    await s.server.call({
      path: '/v1/chat/completions',
      headers: { 'x-api-key': s.account.key },
      body: say('fake:ok'),
    });
    assert.ok(!s.fake.last.head.join('\n').includes(s.account.key));
  });

  test('members that the gateway does not know pass through as the bytes they were', async () => {
    const body =
      '{"model":"demo/chat:1", "messages":[{"role":"user","content":"fake:ok \\u00e9 é 🙂"}],' +
      '"temperature":0.30000000000000004,"x_vendor":{"deep":[1e400,-0,1.10]},"max_tokens":null,  "seed":12345678901234567890}';
    const answer = await s.server.call({ key: s.account.key, body });
    assert.equal(answer.status, 200, answer.text);
    const sent = s.fake.last.body_bytes.toString();
    for (const part of [
      '"temperature":0.30000000000000004',
      '"x_vendor":{"deep":[1e400,-0,1.10]}',
      '"content":"fake:ok \\u00e9 é 🙂"',
      '"seed":12345678901234567890',
    ]) {
      assert.ok(sent.includes(part), `${part} is missing in ${sent}`);
    }
  });

  test('an output cap that the balance cannot pay is lowered, not refused', async () => {
    const output_only = { price_input_per_m: '0', price_output_per_m: '1000' };
    s.server.reload((c) => c.model.push(model('dear', output_only)));
    const account = await s.server.account('nearly poor', { credit: '0.005' }); // five output tokens
    const client = s.server.client(account.key);
    const until = performance.now() + 5000;
    for (;;) {
      try {
        await client.models.retrieve('dear');
        break;
      } catch (e) {
        if (performance.now() > until) throw e;
      }
    }
    await client.chat.completions.create({
      model: 'dear',
      max_tokens: 100,
      messages: [{ role: 'user', content: 'fake:ok frames=5 prompt_tokens=1' }],
    });
    const { max_tokens, max_completion_tokens } = s.fake.last.body;
    assert.equal(max_completion_tokens ?? max_tokens, 5);
    assert.equal(await s.server.settled(account.id), 0n);
    await assert.rejects(
      client.chat.completions.create({ model: 'dear', messages: [{ role: 'user', content: 'fake:ok' }] }),
      (e) => e.status === 402,
    );
  });

  test('usage that comes late is waited for: the stream does not end before it, and it is what is charged', async () => {
    const { charge } = await charge_of(s.server, s.account, async () => {
      const stream = await s.client.chat.completions.create(
        say('fake:ok frames=2 usage=late late=late1', { stream: true }),
      );
      let chunks = 0;
      for await (const chunk of stream) {
        chunks += 1;
        if (chunk.choices[0]?.finish_reason) s.fake.open('late1');
      }
      assert.equal(chunks, 4, 'role, two words, finish');
    });
    assert.equal(charge, price_of(7, 2));
  });

  test('both spellings of the key header work', async () => {
    const answer = await s.server.call({ headers: { 'x-api-key': s.account.key }, body: say('fake:ok') });
    assert.equal(answer.status, 200);
  });

  test('every answer carries a request id, good or bad', async () => {
    const ids = new Set();
    for (const request of [
      { key: s.account.key, body: say('fake:ok') },
      { body: say('fake:ok') },
      { key: s.account.key, body: '{' },
      { key: s.account.key, method: 'GET', path: '/nothing' },
      { key: s.account.key, body: say('fake:ok', { stream: true }) },
    ]) {
      const answer = await s.server.call(request);
      assert.match(answer.headers['x-request-id'] ?? '', /^\S{8,}$/, JSON.stringify(answer.headers));
      ids.add(answer.headers['x-request-id']);
    }
    assert.equal(ids.size, 5);
    const { response } = await s.client.chat.completions.create(say('fake:ok')).withResponse();
    assert.ok(response.headers.get('x-request-id'));
  });

  test('browsers are answered: preflight, and the origin on real answers', async () => {
    const preflight = await s.server.call({
      method: 'OPTIONS',
      headers: {
        origin: 'https://app.example.com',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
    });
    assert.ok([200, 204].includes(preflight.status));
    assert.ok(['*', 'https://app.example.com'].includes(preflight.headers['access-control-allow-origin']));
    assert.match(preflight.headers['access-control-allow-methods'], /POST/);
    assert.match(preflight.headers['access-control-allow-headers'], /authorization|\*/i);
    const answer = await s.server.call({
      key: s.account.key,
      body: say('fake:ok'),
      headers: { origin: 'https://app.example.com' },
    });
    assert.ok(answer.headers['access-control-allow-origin']);
    const refused = await s.server.call({
      body: say('fake:ok'),
      headers: { origin: 'https://app.example.com' },
    });
    assert.ok(refused.headers['access-control-allow-origin'], 'a browser must be able to read errors too');
  });

  test('HEAD answers like GET without a body, OPTIONS names the methods', async () => {
    const head = await s.server.call({ method: 'HEAD', path: '/v1/models', key: s.account.key });
    assert.equal(head.status, 200);
    assert.equal(head.body.length, 0);
    const options = await s.server.call({ method: 'OPTIONS', path: '/v1/models' });
    assert.ok([200, 204].includes(options.status));
    assert.match(options.headers.allow ?? options.headers['access-control-allow-methods'], /GET/);
  });

  test('health and metrics are on the admin listener, and metrics nowhere else', async () => {
    const { call } = await import('../support/raw_http.mjs');
    for (const path of ['/healthz', '/readyz', '/metrics']) {
      assert.equal((await call(s.server.admin_url, { method: 'GET', path })).status, 200, path);
    }
    assert.equal((await s.server.call({ method: 'GET', path: '/metrics' })).status, 404);
    assert.equal((await s.server.call({ method: 'GET', path: '/healthz' })).status, 200);
  });

  test('connections to the provider are kept and used again', async () => {
    const before_count = s.fake.connections;
    for (let i = 0; i < 20; i += 1) await s.client.chat.completions.create(say('fake:ok'));
    assert.ok(
      s.fake.connections - before_count <= 2,
      `${s.fake.connections - before_count} new connections for 20 calls`,
    );
  });

  test('amounts are exact decimal text', async () => {
    const { available, held } = await s.server.cli_json('credits', 'balance', s.account.id, '--json');
    assert.equal(typeof available, 'string');
    assert.equal(typeof held, 'string');
    assert.equal(held, '0');
    assert.ok(nanos(available) > 0n);
  });
});

test('a provider behind several base paths is called below its own path', async () => {
  const s = await stage({ models });
  s.server.config.provider.push(provider('deep', s.fake.base_url.replace('/v1', '/team/a/v1/')));
  s.server.reload((c) => c.model.push(model('deep', { provider: 'deep' })));
  try {
    const until = performance.now() + 5000;
    for (;;) {
      try {
        await s.client.models.retrieve('deep');
        break;
      } catch (e) {
        if (performance.now() > until) throw e;
      }
    }
    await s.client.chat.completions.create({ ...say('fake:ok'), model: 'deep' });
    assert.equal(s.fake.last.path, '/team/a/v1/chat/completions');
  } finally {
    await s.close();
  }
});
