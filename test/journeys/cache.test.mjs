// An answer from the cache must be the answer that the provider gave, to the account it was given to, at the price of a
// hit; and many equal requests at once are one call, whoever of them fails or leaves.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { engines, model } from '../support/nebula.mjs';
import {
  assert_broken_stream,
  assert_error_body,
  assert_whole_stream,
  charge_of,
  price_of,
  read_stream,
  stage,
} from '../support/stage.mjs';
import { RawClient, request_bytes } from '../support/raw_http.mjs';
import { eventually, within } from '../support/wait.mjs';

const calm = { breaker_failures: 100000 }; // failures are asked for here
const on = { 'x-openrouter-cache': 'true' };
const models = [
  model('demo/chat:1', { endpoints: ['chat', 'completions'] }),
  model('demo/always:1', { cache: 'always' }),
  model('demo/never:1', { cache: 'never' }),
  model('demo/vectors:1', { endpoints: ['embeddings', 'rerank', 'moderations'] }),
  model('demo/cancel:1', { disconnect: 'cancel' }),
];
let serial = 0;
/** Content that no test has asked for before. */
const fresh = (script = 'ok frames=3') => `fake:${script} nonce=${(serial += 1)}`;
const status_of = (response) => response.headers['x-openrouter-cache-status'];

describe('answers that are kept', () => {
  let s;
  before(async () => {
    s = await stage({ models, provider: calm, sections: { cache: { entry_bytes_max: 20000 } } });
  });
  after(() => s?.close());

  const ask = (content, { headers = on, key = s.account.key, ...rest } = {}) =>
    s.server.chat({ key, content, headers, ...rest });
  /** How many calls the provider gets meanwhile. */
  const calls_of = async (act) => {
    const from = s.fake.records.length;
    const result = await act();
    return { result, calls: s.fake.records.length - from };
  };

  test('the same request again is answered without the provider, byte for byte, and costs nothing', async () => {
    const content = fresh();
    const first = await charge_of(s.server, s.account, () => ask(content));
    assert.equal(status_of(first.result), 'MISS');
    assert.equal(first.result.headers['x-nebula-cache'], 'miss');
    assert.equal(first.charge, price_of(7, 3));
    const { result: again, calls } = await calls_of(() => charge_of(s.server, s.account, () => ask(content)));
    assert.equal(calls, 0);
    assert.equal(status_of(again.result), 'HIT');
    assert.equal(again.result.headers['x-nebula-cache'], 'hit');
    assert.equal(again.result.headers['x-openrouter-cache-ttl'], '300');
    assert.match(again.result.headers['x-openrouter-cache-age'], /^\d+$/);
    assert.equal(again.result.headers['x-openrouter-cache-source-id'], first.result.headers['x-request-id']);
    assert.equal(again.result.text, first.result.text);
    assert.deepEqual(again.result.json().usage, first.result.json().usage);
    assert.equal(again.charge, 0n);
    const [row] = await s.server.sql(
      `select provider, charge, outcome, input_tokens, output_tokens from usage_records order by id desc limit 1`,
    );
    assert.deepEqual(row, ['cache', '0', 'completed', '7', '3']);
    await s.server.verify_ledger();
  });

  test('a stream is played back event by event, and is another entry than the plain answer', async () => {
    const content = fresh('ok frames=6');
    const stream = (extra = {}) => ask(content, { stream: true, body: extra });
    const first = await stream();
    assert.equal(status_of(first), 'MISS');
    const { result: again, calls } = await calls_of(stream);
    assert.equal(calls, 0);
    assert.equal(status_of(again), 'HIT');
    assert_whole_stream(again);
    assert.deepEqual(again.events(), first.events());
    // The options of the stream do not change the answer, but what is told of it.
    const { result: told, calls: more } = await calls_of(() => stream({ stream_options: { include_usage: true } }));
    assert.equal(more, 0);
    assert.equal(JSON.parse(told.events().at(-2)).usage.completion_tokens, 6);
    assert.equal(status_of(await ask(content)), 'MISS');
  });

  test('nothing is kept unless it is asked for, and a model may forbid it', async () => {
    const content = fresh();
    for (let k = 0; k < 2; k += 1) {
      const plain = await ask(content, { headers: {} });
      assert.equal(status_of(plain), undefined);
      assert.equal(status_of(await ask(content, { model: 'demo/never:1' })), undefined);
    }
    assert.equal(status_of(await ask(content)), 'MISS');
    assert.equal(status_of(await ask(content, { model: 'demo/always:1', headers: {} })), 'MISS');
    assert.equal(status_of(await ask(content, { model: 'demo/always:1', headers: {} })), 'HIT');
    const refused = await ask(content, { model: 'demo/always:1', headers: { 'x-nebula-cache': 'false' } });
    assert.equal(status_of(refused), undefined);
  });

  test('a key can ask for it once and for all', async () => {
    const { key, id } = await s.server.key(s.account.id, { cache: true });
    const content = fresh();
    const asked = async (with_key, headers = {}) => status_of(await ask(content, { key: with_key, headers }));
    assert.deepEqual([await asked(key), await asked(key)], ['MISS', 'HIT']);
    assert.equal(await asked(key, { 'x-openrouter-cache': 'false' }), undefined);
    const status = (await s.server.cli_json('keys', 'list', '--account', s.account.id, '--json')).find((k) => k.id === id);
    assert.equal(status.cache, true);
    await s.server.cli_json('keys', 'update', id, '--cache', 'false');
    assert.equal(await asked(key), undefined, 'the change is effective at once');
    await s.server.cli_json('keys', 'update', id, '--cache', 'true', '--name', 'cached');
    assert.equal(await asked(key), 'HIT');
  });

  test('another account gets nothing of it', async () => {
    const other = await s.server.account('others', { credit: '1' });
    const content = fresh();
    await ask(content);
    const { result, calls } = await calls_of(() => ask(content, { key: other.key }));
    assert.equal(calls, 1);
    assert.equal(status_of(result), 'MISS');
  });

  test('the time can be chosen, within bounds, and an entry can be forgotten', async () => {
    const content = fresh();
    const ttl = (text) => ({ headers: { ...on, 'x-openrouter-cache-ttl': text } });
    for (const wrong of ['0', '86401', 'soon'])
      assert_error_body(await ask(content, ttl(wrong)), 400, { param: 'x-openrouter-cache-ttl' });
    assert_error_body(await ask(content, { headers: { 'x-openrouter-cache': 'maybe' } }), 400);
    assert.equal((await ask(content, ttl('1'))).headers['x-openrouter-cache-ttl'], '1');
    await eventually('the entry is too old', async () => status_of(await ask(content, ttl('60'))) === 'MISS');
    assert.equal((await ask(content)).headers['x-openrouter-cache-ttl'], '60');
    const cleared = await ask(content, { headers: { ...on, 'x-openrouter-cache-clear': 'true' } });
    assert.equal(status_of(cleared), 'MISS');
    assert.equal(status_of(await ask(content)), 'HIT');
    assert.equal(status_of(await ask(content, { headers: { 'x-nebula-cache': 'clear' } })), 'MISS');
  });

  for (const script of ['cut_mid_body', 'error_event', 'status status=500', 'status status=400'])
    test(`an answer that is not whole is not kept: ${script}`, async () => {
      for (const stream of [false, true]) {
        const content = fresh(script);
        const broken = await ask(content, { stream });
        assert.ok(broken.status !== 200 || !broken.complete, broken.text);
        const { calls } = await calls_of(() => ask(content, { stream }));
        assert.ok(calls > 0, 'it is asked anew');
      }
    });

  test('an answer above the bound is given but not kept', async () => {
    const dropped = await s.server.metric('nebula_cache_dropped_total');
    for (const stream of [false, true]) {
      const content = fresh('ok frames=20 huge=2000');
      assert.equal((await ask(content, { stream })).status, 200);
      assert.equal(status_of(await ask(content, { stream })), 'MISS');
    }
    assert.equal((await s.server.metric('nebula_cache_dropped_total')) - dropped, 4);
  });

  test('an answer that the balance cut short is not kept', async () => {
    const poor = await s.server.account('poor', { credit: '0.00002' });
    const content = fresh();
    const short = await ask(content, { key: poor.key });
    assert.equal(short.status, 200, short.text);
    assert.ok(s.fake.last.body.max_tokens < 100, 'the cap was lowered');
    await s.server.settled(poor.id);
    await s.server.cli_json('credits', 'grant', poor.id, '1');
    assert.equal(status_of(await ask(content, { key: poor.key })), 'MISS');
  });

  test('completions, embeddings, rerank and moderations are kept too', async () => {
    const nonce = `${(serial += 1)}`;
    const requests = [
      ['/v1/completions', { model: 'demo/chat:1', prompt: nonce }],
      ['/v1/embeddings', { model: 'demo/vectors:1', input: nonce }],
      ['/v1/rerank', { model: 'demo/vectors:1', query: nonce, documents: ['a', 'b'] }],
      ['/v1/moderations', { model: 'demo/vectors:1', input: nonce }],
    ];
    for (const [path, body] of requests) {
      const post = () => s.server.call({ key: s.account.key, path, headers: on, body });
      const first = await post();
      assert.equal(first.status, 200, first.text);
      const { result, calls } = await calls_of(post);
      assert.equal(calls, 0, path);
      assert.equal(status_of(result), 'HIT', path);
      assert.equal(result.text, first.text);
    }
  });

  test('a client of another API reads the hit in its own words, with an id of its own', async () => {
    const client = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0, defaultHeaders: on });
    const request = { model: 'demo/chat:1', max_tokens: 50, messages: [{ role: 'user', content: fresh() }] };
    const first = await client.messages.create(request);
    const { result: again, calls } = await calls_of(() => client.messages.create(request));
    assert.equal(calls, 0);
    assert.deepEqual(again.content, first.content);
    assert.deepEqual(again.usage, first.usage);
    assert.notEqual(again.id, first.id);
    const stream = await client.messages.stream(request).finalMessage();
    const { result: streamed, calls: more } = await calls_of(() => client.messages.stream(request).finalMessage());
    assert.equal(more, 0);
    assert.deepEqual(streamed.content, stream.content);
    assert.equal(streamed.stop_reason, stream.stop_reason);
  });

  test('the openai client reads a hit as it reads a fresh answer', async () => {
    const client = s.server.client(s.account.key, { defaultHeaders: on });
    const request = { model: 'demo/chat:1', stream: true, messages: [{ role: 'user', content: fresh('ok frames=5') }] };
    const first = await read_stream(await client.chat.completions.create(request));
    const again = await read_stream(await client.chat.completions.create(request));
    assert.deepEqual(again, first);
  });

  test('requests are counted by the limits, the tokens of a hit are not', async () => {
    const { key } = await s.server.key(s.account.id, { rpm: '3', tpm: '1000' });
    const content = fresh();
    const body = { max_tokens: 900 };
    assert.equal(status_of(await ask(content, { key, body })), 'MISS');
    const left = (await ask(content, { key, body })).headers['x-ratelimit-remaining-tokens'];
    const hit = await ask(content, { key, body });
    assert.equal(status_of(hit), 'HIT');
    assert.equal(hit.headers['x-ratelimit-remaining-tokens'], left);
    assert_error_body(await ask(content, { key, body }), 429);
  });
});

describe('a hit has its price', () => {
  test('hit_price_percent of the list price, exactly', async () => {
    const s = await stage({ models, sections: { cache: { hit_price_percent: 25 } } });
    try {
      const content = fresh('ok frames=11');
      const ask = () => s.server.chat({ key: s.account.key, content, headers: on });
      const first = await charge_of(s.server, s.account, ask);
      assert.equal(first.charge, price_of(7, 11));
      const again = await charge_of(s.server, s.account, ask);
      assert.equal(status_of(again.result), 'HIT');
      assert.equal(again.charge, price_of(7, 11) / 4n);
      await s.server.verify_ledger();
    } finally {
      await s.close();
    }
  });

  test('shared: accounts get each other\'s answers where the operator wants it', async () => {
    const s = await stage({ models, sections: { cache: { shared: true } } });
    try {
      const other = await s.server.account('others', { credit: '1' });
      const content = fresh();
      await s.server.chat({ key: s.account.key, content, headers: on });
      const hit = await s.server.chat({ key: other.key, content, headers: on });
      assert.equal(status_of(hit), 'HIT');
    } finally {
      await s.close();
    }
  });
});

for (const engine of engines) {
  describe(`equal requests at once, ${engine}`, () => {
    let s;
    before(async () => {
      s = await stage({ engine, models, provider: calm, credit: '100' });
    });
    after(() => s?.close());

    const ask = (content, options = {}) => s.server.chat({ key: s.account.key, content, headers: on, ...options });
    const waiting = (count) =>
      eventually(`${count} wait`, async () => (await s.server.metric('nebula_cache_waiting')) === count);
    const open_wire = async (content, body = {}) => {
      const wire = new RawClient(s.server.url);
      await wire.connected;
      const messages = [{ role: 'user', content }];
      await wire.send(
        request_bytes({ key: s.account.key, headers: on, body: { model: 'demo/chat:1', messages, ...body } }),
      );
      return wire;
    };

    for (const stream of [false, true])
      test(`a thousand are one call, and are charged once: ${stream ? 'stream' : 'JSON'}`, async () => {
        const gate = `many${(serial += 1)}`;
        const content = fresh(`ok frames=4 hold=${gate}`);
        const from = s.fake.records.length;
        const { charge, result } = await charge_of(s.server, s.account, async () => {
          const all = Array.from({ length: 1000 }, () => ask(content, { stream, within_ms: 60000 }));
          await waiting(999);
          s.fake.open(gate);
          return Promise.all(all);
        });
        assert.equal(s.fake.records.length - from, 1);
        assert.equal(charge, price_of(7, 4));
        const events = new Set(result.map((r) => r.text));
        assert.equal(events.size, 1, 'all got the same');
        assert.deepEqual(
          ['MISS', 'HIT'].map((word) => result.filter((r) => status_of(r) === word && r.status === 200).length),
          [1, 999],
        );
        await s.server.verify_ledger();
      });

    for (const stream of [false, true])
      test(`the first client leaves, the others still get its answer: ${stream ? 'stream' : 'JSON'}`, async () => {
        for (const model_id of ['demo/chat:1', 'demo/cancel:1']) {
          const gate = `leave${(serial += 1)}`;
          const content = fresh(`ok frames=8 hold=${gate} hold_after=3`);
          const from = s.fake.records.length;
          const { charge } = await charge_of(s.server, s.account, async () => {
            const leader = await open_wire(content, { stream, model: model_id });
            await within(3000, 'the call arrives', s.fake.reached(gate));
            const others = Array.from({ length: 5 }, () => ask(content, { stream, model: model_id }));
            await waiting(5);
            const gone = await s.server.metric('nebula_http_clients_gone_total');
            leader.destroy();
            await eventually('the server has seen it', async () => {
              return (await s.server.metric('nebula_http_clients_gone_total')) === gone + 1;
            });
            assert.equal(s.fake.records[from].cancelled, false, 'the call goes on');
            s.fake.open(gate);
            for (const one of await Promise.all(others)) {
              assert.equal(one.status, 200, one.text);
              assert.equal(status_of(one), 'HIT');
            }
          });
          assert.equal(s.fake.records.length - from, 1);
          assert.equal(charge, price_of(7, 8), 'the whole answer is paid, once');
        }
        await s.server.verify_ledger();
      });

    test('when the first one fails the next one asks, and the others wait for that one', async () => {
      const gate = `fail${(serial += 1)}`;
      s.fake.queue.push({ kind: 'cut_mid_body', after: 3, hold: gate }, { kind: 'ok', frames: 4 });
      const content = fresh();
      const from = s.fake.records.length;
      const { charge, result } = await charge_of(s.server, s.account, async () => {
        const all = [ask(content, { stream: true })];
        await within(3000, 'the call arrives', s.fake.reached(gate));
        all.push(...Array.from({ length: 4 }, () => ask(content, { stream: true })));
        await waiting(4);
        s.fake.open(gate);
        return Promise.all(all);
      });
      assert.equal(s.fake.records.length - from, 2);
      const [failed, ...others] = result;
      assert_broken_stream(failed);
      others.forEach(assert_whole_stream);
      assert.deepEqual(others.map(status_of).sort(), ['HIT', 'HIT', 'HIT', 'MISS']);
      // Three words of the broken one, and one whole answer.
      assert.ok(charge > price_of(7, 4) && charge < price_of(7, 4) + price_of(60, 10), `${charge}`);
      await s.server.verify_ledger();
    });

    test('a client that waits and leaves is forgotten', async () => {
      const gate = `wait${(serial += 1)}`;
      const content = fresh(`ok frames=2 hold=${gate}`);
      const leader = ask(content);
      await within(3000, 'the call arrives', s.fake.reached(gate));
      const wire = await open_wire(content);
      await waiting(1);
      wire.destroy();
      await waiting(0);
      s.fake.open(gate);
      assert.equal((await leader).status, 200);
      await s.server.settled(s.account.id);
    });
  });
}

describe('waiting has bounds', () => {
  test('who finds too many waiting, or waits too long, asks the provider itself', async () => {
    const s = await stage({ models, sections: { cache: { waiters_max: 1, wait_ms: 500 } } });
    try {
      const gate = 'bounds';
      const content = fresh(`ok frames=2 hold=${gate}`);
      const ask = () => s.server.chat({ key: s.account.key, content, headers: on });
      const first = ask();
      await within(3000, 'the call arrives', s.fake.reached(gate));
      const second = ask();
      await eventually('one waits', async () => (await s.server.metric('nebula_cache_waiting')) === 1);
      const third = ask();
      await within(3000, 'the third asks itself', s.fake.reached(gate, 2));
      assert.equal(await s.server.metric('nebula_cache_waiters_full_total'), 1);
      await within(5000, 'the second does not wait for ever', s.fake.reached(gate, 3));
      assert.equal(await s.server.metric('nebula_cache_wait_timeouts_total'), 1);
      s.fake.open(gate);
      for (const response of await Promise.all([first, second, third])) assert.equal(response.status, 200);
    } finally {
      await s.close();
    }
  });
});
