// Who answers a request, and what it costs then: what the request may say about it (OpenRouter's members), and
// what happens when the first choice is busy, refuses or fails.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { FakeProvider, parse_script as parse } from '../support/fake_provider.mjs';
import { model, provider } from '../support/nebula.mjs';
import { assert_error_body, assert_whole_stream, charge_of, price_of, stage } from '../support/stage.mjs';
import { call } from '../support/raw_http.mjs';
import { eventually } from '../support/wait.mjs';

const timeouts = { connect_timeout_ms: 1000, first_byte_timeout_ms: 400, idle_timeout_ms: 400, breaker_failures: 100000 };
const record_of_last = async (server) =>
  (
    await server.sql('select model, provider, charge from usage_records order by id desc limit 1')
  )[0];

describe('what a request says about routes', () => {
  let [cheap, dear, s] = [];
  before(async () => {
    cheap = await FakeProvider.start();
    dear = await FakeProvider.start();
    s = await stage({
      providers: [
        provider('cheap', cheap.base_url, { ...timeouts, supported_parameters: ['temperature', 'max_tokens'] }),
        provider('dear', dear.base_url, { ...timeouts, slug: 'dear-slug', data_collection: 'deny', zdr: true }),
      ],
      models: [
        model('demo/chat:1', {
          strategy: 'ordered',
          aliases: ['gpt-4o'],
          routes: [
            { provider: 'cheap', model: 'c', price_input_per_m: '0.5', price_output_per_m: '1' },
            { provider: 'dear', model: 'd', price_input_per_m: '5', price_output_per_m: '10', quantization: 'fp8' },
          ],
        }),
        model('demo/other:1', { routes: [{ provider: 'dear', model: 'o' }], strategy: 'ordered' }),
      ],
      sections: { alias: [{ name: 'claude', model: 'demo/other:1' }] },
    });
  });
  after(async () => {
    await s?.close();
    await cheap.stop();
    await dear.stop();
  });
  const ask = (body, more = {}) =>
    charge_of(s.server, s.account, () => s.server.chat({ key: s.account.key, content: 'hello', body, ...more }));

  test('each route is charged at its own price, and the record says who answered', async () => {
    const first = await ask({});
    assert.equal(first.result.status, 200, first.result.text);
    assert.equal(first.charge, price_of(7, 10, { input: '0.5', output: '1' }));
    const second = await ask({ provider: { order: ['dear-slug'] } });
    assert.equal(second.charge, price_of(7, 10, { input: '5', output: '10' }));
    assert.deepEqual(await record_of_last(s.server), ['demo/chat:1', 'dear', `${second.charge}`]);
    await s.server.verify_ledger();
  });

  test('a provider sees nothing of it, and the rest as it was sent', async () => {
    const { result } = await ask({
      models: ['demo/other:1'],
      provider: { order: ['cheap'], allow_fallbacks: true },
      route: 'fallback',
      session_id: 's-1',
      transforms: ['middle-out'],
      user: 'somebody',
      seed: 7,
    });
    assert.equal(result.status, 200, result.text);
    const { model: id, messages, ...rest } = cheap.last.body;
    assert.equal(id, 'c');
    assert.equal(messages.length, 1);
    assert.deepEqual(rest, { user: 'somebody', seed: 7 });
  });

  for (const [wish, who] of [
    [{ only: ['dear-slug'] }, 'dear'],
    [{ ignore: ['cheap'] }, 'dear'],
    [{ data_collection: 'deny' }, 'dear'],
    [{ zdr: true }, 'dear'],
    [{ quantizations: ['fp8'] }, 'dear'],
    [{ max_price: { prompt: '1', completion: 2 } }, 'cheap'],
    [{ sort: 'price' }, 'cheap'],
    [{ order: ['dear-slug', 'cheap'], sort: { by: 'price', partition: 'model' } }, 'dear'],
  ])
    test(`${JSON.stringify(wish)} goes to ${who}`, async () => {
      const [a, b] = [cheap.records.length, dear.records.length];
      const { result } = await ask({ provider: wish });
      assert.equal(result.status, 200, result.text);
      assert.deepEqual([cheap.records.length - a, dear.records.length - b], who === 'cheap' ? [1, 0] : [0, 1]);
    });

  test('parameters that a provider does not honour count only when the request says so', async () => {
    const tools = [{ type: 'function', function: { name: 'f', parameters: {} } }];
    const a = dear.records.length;
    await ask({ tools });
    assert.equal(dear.records.length, a);
    await ask({ tools, provider: { require_parameters: true } });
    assert.equal(dear.records.length, a + 1);
  });

  test('where nobody fits, nobody is asked and nothing is charged', async () => {
    const { charge, result } = await ask({ provider: { only: ['nobody'] } });
    assert_error_body(result, 404, { param: 'provider' });
    assert.equal(charge, 0n);
    assert_error_body((await ask({ provider: { zdr: true, ignore: ['dear'] } })).result, 404);
    assert_error_body((await ask({ provider: { sort: 'beauty' } })).result, 400, { param: 'provider.sort' });
    assert_error_body((await ask({ models: ['demo/none'] })).result, 404, { param: 'models' });
  });

  test('aliases and variants name models; a variant that is not offered is refused', async () => {
    for (const [id, who] of [
      ['gpt-4o', 'c'],
      ['claude', 'o'],
      ['demo/chat:1:floor', 'c'],
      ['demo/chat:1:nitro', 'c'],
    ]) {
      const { result } = await ask({}, { model: id });
      assert.equal(result.status, 200, result.text);
      const last = [cheap.last, dear.last].filter(Boolean).sort((a, b) => a.at - b.at).at(-1);
      if (id !== 'demo/chat:1:nitro') assert.equal(last.model, who, id);
    }
    assert_error_body((await ask({}, { model: 'demo/chat:1:online' })).result, 400, { param: 'model' });
    assert_error_body((await ask({}, { model: 'demo/chat:1:free' })).result, 404, { param: 'provider' });
    assert_error_body((await ask({}, { model: 'demo/chat:1:7b' })).result, 404, { param: 'model' });
  });

  test('without model, the first of models is it; clients of other APIs may say it, too', async () => {
    const { result } = await ask({ models: ['demo/other:1'], model: undefined });
    assert.equal(result.status, 200, result.text);
    assert.equal(dear.last.model, 'o');
    const a = dear.records.length;
    for (const [path, body] of [
      ['/v1/messages', { max_tokens: 5, messages: [{ role: 'user', content: 'hello' }] }],
      ['/v1/responses', { input: 'hello' }],
      ['/api/chat', { stream: false, messages: [{ role: 'user', content: 'hello' }] }],
    ]) {
      const answer = await call(s.server.url, {
        path,
        key: s.account.key,
        body: { model: 'demo/chat:1', provider: { only: ['dear-slug'] }, ...body },
      });
      assert.equal(answer.status, 200, `${path} ${answer.text}`);
      assert.equal(dear.last.body.provider, undefined, path);
    }
    assert.equal(dear.records.length, a + 3);
  });

  test('another model answers where the first one refuses, and is the one that is paid', async () => {
    cheap.queue.push(parse('status status=400 code=context_length_exceeded'));
    const plain = await ask({});
    assert_error_body(plain.result, 400, { code: 'context_length_exceeded' });
    assert.equal(plain.charge, 0n);
    for (const stream of [false, true]) {
      cheap.queue.push(parse('status status=400 code=content_filter'));
      const { charge, result } = await ask({ models: ['demo/other:1'] }, { stream });
      if (stream) assert_whole_stream(result);
      assert.equal(result.status, 200, result.text);
      assert.equal(dear.last.model, 'o', 'the other route of the first model is not asked');
      assert.equal(charge, price_of(7, 10));
      assert.deepEqual(await record_of_last(s.server), ['demo/other:1', 'dear', `${charge}`]);
    }
    assert.ok((await s.server.metric('nebula_fallback_reasons_total', { reason: 'refused' })) >= 2);
  });

  test('a key that may not use the other model is not helped by it', async () => {
    const { key } = await s.server.key(s.account.id, { model: ['demo/chat:1'] });
    cheap.queue.push(parse('status status=400 code=content_filter'));
    const answer = await s.server.chat({ key, content: 'hello', body: { models: ['demo/other:1'] } });
    assert_error_body(answer, 400);
  });
});

describe('providers that are busy', () => {
  let [fake, s, other] = [];
  before(async () => {
    s = await stage({
      provider: { ...timeouts, first_byte_timeout_ms: 20000, concurrency_max: 1, queue_max: 3, queue_timeout_ms: 15000 },
      models: [model('demo/chat:1')],
    });
    fake = s.fake;
    other = await s.server.account('other', { credit: '10' });
  });
  after(() => s?.close());
  const waiting = (count) =>
    eventually(`${count} wait`, async () => (await s.server.metric('nebula_upstream_queue', { provider: 'fake' })) === count);

  test('requests wait for a slot, accounts take turns, and beyond the bound the greedy one is refused', async () => {
    const done = [];
    const ask = (name, key) =>
      s.server.chat({ key, content: `fake:ok hold=${name}` }).then((answer) => {
        done.push(`${name} ${answer.status}`);
        return answer;
      });
    const calls = [ask('first', s.account.key)];
    await fake.reached('first');
    for (const [count, name] of ['a1', 'a2', 'a3'].entries()) {
      calls.push(ask(name, s.account.key));
      await waiting(count + 1);
    }
    const refused = await s.server.chat({ key: s.account.key });
    assert_error_body(refused, 503);
    calls.push(ask('b1', other.key)); // takes the place of a3
    await eventually('the newest of the greedy one is refused', () => done.includes('a3 503'));
    assert.equal(await s.server.metric('nebula_upstream_queue', { provider: 'fake' }), 3);
    fake.open('first');
    for (const name of ['a1', 'b1', 'a2']) {
      await fake.reached(name);
      assert.equal(fake.records.at(-1).body.messages[0].content, `fake:ok hold=${name}`);
      fake.open(name);
    }
    await Promise.all(calls);
    assert.deepEqual(done.sort(), ['a1 200', 'a2 200', 'a3 503', 'b1 200', 'first 200']);
    assert.equal(await s.server.metric('nebula_upstream_queue_refused_total', { reason: 'full' }), 2);
    assert.equal(await s.server.metric('nebula_upstream_in_flight', { provider: 'fake' }), 0);
  });

  test('a client that leaves while it waits gives up its place and pays nothing', async () => {
    const holding = s.server.chat({ key: s.account.key, content: 'fake:ok hold=busy' });
    await fake.reached('busy');
    const calls = fake.records.length;
    const before_balance = (await s.server.balance(other.id)).available;
    const leaving = s.server.chat({ key: other.key, within_ms: 500 }).catch(() => null);
    await waiting(1);
    await leaving;
    await waiting(0);
    assert.ok((await s.server.metric('nebula_upstream_queue_refused_total', { reason: 'client_left' })) >= 1);
    fake.open('busy');
    assert.equal((await holding).status, 200);
    assert.equal(fake.records.length, calls, 'nobody asked for the one that left');
    assert.equal(await s.server.settled(other.id), before_balance);
  });
});

describe('two replicas', () => {
  let [a, b, s] = [];
  before(async () => {
    a = await FakeProvider.start();
    b = await FakeProvider.start();
    const routes = [
      { provider: 'a', model: 'm' },
      { provider: 'b', model: 'm' },
    ];
    s = await stage({
      providers: [provider('a', a.base_url, timeouts), provider('b', b.base_url, timeouts)],
      models: [
        model('demo/chat:1', { routes }),
        model('demo/prefix:1', { affinity: 'prefix', routes: routes.map((r) => ({ ...r, model: 'p' })) }),
        model('demo/listed:1', { strategy: 'ordered', routes: routes.map((r) => ({ ...r, model: 'l' })) }),
      ],
    });
  });
  after(async () => {
    await s?.close();
    await a.stop();
    await b.stop();
  });
  /** How many of the calls made by `act` went to each. */
  const spread = async (act) => {
    const [before_a, before_b] = [a.records.length, b.records.length];
    await act();
    return [a.records.length - before_a, b.records.length - before_b];
  };
  const times = async (count, act) => {
    for (let i = 0; i < count; i += 1) assert.equal((await act(i)).status, 200);
  };

  test('a session stays on one of them, by member, header or what it begins with; others spread', async () => {
    const ask = (more) => s.server.chat({ key: s.account.key, content: 'hello', ...more });
    for (const more of [{ body: { session_id: 'one' } }, { headers: { 'x-session-id': 'two' } }, { body: { prompt_cache_key: 'k' } }])
      assert.ok((await spread(() => times(12, () => ask(more)))).includes(12), JSON.stringify(more));
    const prefix = { model: 'demo/prefix:1' };
    assert.ok((await spread(() => times(12, () => ask(prefix)))).includes(12));
    const sessions = await spread(() => times(40, (i) => ask({ body: { session_id: `s${i}` } })));
    assert.ok(Math.min(...sessions) >= 5, `${sessions}`);
    const none = await spread(() => times(40, () => ask({})));
    assert.ok(Math.min(...none) >= 5, `${none}`);
  });

  test('who says when to come back is left alone until then, and the others are asked', async () => {
    a.queue.push(parse('status status=429 retry_after=60'));
    const ask = () => s.server.chat({ key: s.account.key, content: 'hello', model: 'demo/listed:1' });
    assert.deepEqual(await spread(() => times(5, ask)), [1, 5]);
    b.queue.push(parse('status status=429 retry_after=30'));
    const answer = await ask();
    assert_error_body(answer, 429);
    assert.equal(answer.headers['retry-after'], '30');
    const left = await spread(async () => {
      const again = await ask();
      assert_error_body(again, 429);
      assert.ok(Number(again.headers['retry-after']) > 20, again.headers['retry-after']);
    });
    assert.deepEqual(left, [0, 0]);
  });
});

// Every endpoint tells a fault by the same rules: before the first content another route answers, and the one
// charge is for that answer.
describe('fail-over, endpoint by endpoint', () => {
  let [first, second, s] = [];
  before(async () => {
    first = await FakeProvider.start();
    second = await FakeProvider.start();
    s = await stage({
      providers: [provider('first', first.base_url, timeouts), provider('second', second.base_url, timeouts)],
      models: [
        model('demo/all:1', {
          strategy: 'ordered',
          endpoints: ['chat', 'completions', 'embeddings'],
          routes: [
            { provider: 'first', model: 'one' },
            { provider: 'second', model: 'two' },
          ],
        }),
      ],
    });
  });
  after(async () => {
    await s?.close();
    await first.stop();
    await second.stop();
  });
  const chat = [{ role: 'user', content: 'hello' }];
  const endpoints = {
    'chat JSON': ['/v1/chat/completions', { messages: chat }, price_of(7, 10)],
    'chat stream': ['/v1/chat/completions', { messages: chat, stream: true }, price_of(7, 10)],
    'chat on the router path': ['/api/v1/chat/completions', { messages: chat }, price_of(7, 10)],
    completions: ['/v1/completions', { prompt: 'hello' }, price_of(7, 10)],
    embeddings: ['/v1/embeddings', { input: 'hello' }, price_of(7, 0)],
    responses: ['/v1/responses', { input: 'hello' }, price_of(7, 10)],
    'responses stream': ['/v1/responses', { input: 'hello', stream: true }, price_of(7, 10)],
    messages: ['/v1/messages', { max_tokens: 50, messages: chat }, price_of(7, 10)],
    'messages stream': ['/v1/messages', { max_tokens: 50, messages: chat, stream: true }, price_of(7, 10)],
  };
  const faults = ['cut_before_head how=rst', 'stall_head', 'status status=500', 'status status=401', 'html', 'empty_body'];
  for (const [name, [path, body, price]] of Object.entries(endpoints))
    test(`${name}: every fault before the first content is answered by the second`, async () => {
      const fallbacks = await s.server.metric('nebula_fallbacks_total');
      for (const fault of faults) {
        first.rules.push(() => parse(fault));
        const { charge, result } = await charge_of(s.server, s.account, () =>
          s.server.call({ path, key: s.account.key, body: { model: 'demo/all:1', ...body } }),
        );
        first.rules.length = 0;
        assert.equal(result.status, 200, `${fault} ${result.text}`);
        assert.equal(result.complete, true, fault);
        assert.equal(charge, price, fault);
      }
      assert.equal(await s.server.metric('nebula_fallbacks_total'), fallbacks + faults.length);
    });

  test('when both fail the error says so in each dialect, and nothing is charged', async () => {
    for (const [status, expected] of [
      [500, 502],
      [429, 429],
    ])
      for (const [name, [path, body]] of Object.entries(endpoints)) {
        for (const one of [first, second]) one.rules.push(() => parse(`status status=${status}`));
        const { charge, result } = await charge_of(s.server, s.account, () =>
          s.server.call({ path, key: s.account.key, body: { model: 'demo/all:1', ...body } }),
        );
        for (const one of [first, second]) one.rules.length = 0;
        assert.equal(result.status, expected, `${name} ${result.text}`);
        assert.equal(charge, 0n, name);
        if (name === 'chat on the router path') {
          const { error } = result.json();
          assert.equal(error.code, expected);
          assert.equal(error.metadata.error_type, expected === 429 ? 'rate_limit_exceeded' : 'provider_unavailable');
          assert.equal(error.metadata.provider_name, 'second');
        }
      }
  });
});
