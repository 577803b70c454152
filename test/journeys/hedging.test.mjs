// A stream whose provider is slow with its first word is asked of a second one as well. Whoever wins, the client
// gets one whole stream and pays for that one alone, and the other provider is let go at once.

import { test, describe, before, after, beforeEach } from 'node:test';
import assert from 'node:assert/strict';
import { FakeProvider } from '../support/fake_provider.mjs';
import { engines, model, provider } from '../support/nebula.mjs';
import { assert_broken_stream, assert_error_body, assert_whole_stream, charge_of, price_of, stage } from '../support/stage.mjs';
import { RawClient, call, request_bytes } from '../support/raw_http.mjs';
import { eventually, within } from '../support/wait.mjs';

const patient = { connect_timeout_ms: 5000, first_byte_timeout_ms: 60000, idle_timeout_ms: 60000, breaker_failures: 100000 };
const dear = { input: '5', output: '10' };
const routes = [
  { provider: 'first', model: 'one' },
  { provider: 'second', model: 'two', price_input_per_m: dear.input, price_output_per_m: dear.output },
];
const models = [
  model('hedged', { strategy: 'ordered', hedge_ms: 60, hedge_percent_max: 100, routes }),
  model('patient', { strategy: 'ordered', hedge_ms: 600000, routes }),
  model('seldom', { strategy: 'ordered', hedge_ms: 60, hedge_percent_max: 1, routes: routes.map((r) => ({ ...r, model: 's' })) }),
  model('native', {
    strategy: 'ordered',
    hedge_ms: 60,
    hedge_percent_max: 100,
    routes: ['n1', 'n2'].map((name) => ({ provider: name, model: 'n' })),
  }),
  model('mixed', {
    strategy: 'ordered',
    hedge_ms: 60,
    hedge_percent_max: 100,
    routes: [{ provider: 'messages', model: 'm' }, routes[1]],
  }),
];
let gates = 0;
const gate = () => `gate${(gates += 1)}`;

for (const engine of engines) {
  describe(`two routes at once, ${engine}`, () => {
    let [first, second, s] = [];
    before(async () => {
      first = await FakeProvider.start();
      second = await FakeProvider.start();
      s = await stage({
        engine,
        providers: [
          provider('first', first.base_url, patient),
          provider('second', second.base_url, patient),
          provider('n1', first.base_url, { ...patient, responses: true }),
          provider('n2', second.base_url, { ...patient, responses: true }),
          provider('messages', first.base_url.replace(/\/v1$/, ''), { ...patient, kind: 'anthropic' }),
        ],
        models,
      });
    });
    after(async () => {
      await s?.close();
      await first.stop();
      await second.stop();
    });
    beforeEach(() => {
      first.queue.length = second.queue.length = 0;
    });
    const send = (more = {}) =>
      s.server.chat({ key: s.account.key, model: 'hedged', content: 'hello', stream: true, ...more });
    /** A stream on a connection of its own, asked for and not read. */
    const raw_stream = async () => {
      const client = new RawClient(s.server.url);
      await client.connected;
      await client.send(
        request_bytes({
          path: '/v1/chat/completions',
          key: s.account.key,
          body: { model: 'hedged', stream: true, messages: [{ role: 'user', content: 'hello' }] },
        }),
      );
      return client;
    };
    const ask = () => charge_of(s.server, s.account, () => send());
    const counted = (result) => s.server.metric('nebula_hedges_total', { result });
    const asked = async (act) => {
      const [a, b] = [first.records.length, second.records.length];
      await act();
      return [first.records.length - a, second.records.length - b];
    };
    const attempts_of = (result) =>
      eventually('the attempts are written', async () => {
        const answer = await s.server.call({
          method: 'GET',
          path: `/api/v1/generation?id=${result.headers['x-request-id']}`,
          key: s.account.key,
        });
        return answer.status === 200 && answer.json().data.provider_responses;
      });

    for (const [how, script] of [
      ['has no head', { kind: 'ok', hold_head: 'never' }],
      ['has only told its role', { kind: 'ok', hold: 'never' }],
    ])
      test(`the second answers when the first ${how}`, async () => {
        const won = await counted('second');
        first.queue.push(script);
        second.queue.push({ kind: 'ok', frames: 6 });
        const { charge, result } = await ask();
        assert_whole_stream(result);
        assert.equal(result.events().filter((e) => e.includes('"role"')).length, 1, 'nothing of the other one');
        assert.equal(charge, price_of(7, 6, dear));
        await within(1000, 'the first is let go', first.last.closed);
        assert.equal(first.last.whole ?? false, false);
        assert.equal((await counted('second')) - won, 1);
        const told = await attempts_of(result);
        assert.deepEqual(told.map((a) => a.provider_name), ['first', 'second']);
        const [record] = await s.server.sql('select provider, output_tokens from usage_records order by id desc limit 1');
        assert.deepEqual(record, ['second', '6']);
        await s.server.verify_ledger();
      });

    test('the first answers when it is the first with content, and the second is let go', async () => {
      const name = gate();
      first.queue.push({ kind: 'ok', frames: 5, hold: name });
      second.queue.push({ kind: 'ok', hold: 'never' });
      const asking = ask();
      await second.reached('never', second.gate('never').arrived + 1);
      first.open(name);
      const { charge, result } = await asking;
      assert_whole_stream(result);
      assert.equal(charge, price_of(7, 5));
      await within(1000, 'the second is let go', second.last.closed);
      const [record] = await s.server.sql('select provider from usage_records order by id desc limit 1');
      assert.deepEqual(record, ['first']);
    });

    test('who answers in time is asked alone, and so is every request that is no stream', async () => {
      assert.deepEqual(await asked(() => send({ model: 'patient' })), [1, 0]);
      const [whole, stream] = [gate(), gate()];
      const calls = await asked(async () => {
        first.queue.push({ kind: 'ok', hold_head: whole }, { kind: 'ok', hold: stream });
        const asking = send({ stream: false });
        await first.reached(whole);
        // Begun later, a stream has a second one by now.
        const later = send();
        await first.reached(stream);
        assert_whole_stream(await later);
        first.open(whole);
        assert.equal((await asking).status, 200);
      });
      assert.deepEqual(calls, [2, 1]);
    });

    for (const fault of ['status status=500', 'status status=429', 'cut_after_head', 'html', 'error_first', 'done_only'])
      test(`a second that fails with ${fault} leaves it to the first`, async () => {
        const name = gate();
        const [kind, ...options] = fault.split(' ');
        first.queue.push({ kind: 'ok', frames: 4, hold: name });
        second.queue.push({ kind, ...Object.fromEntries(options.map((o) => [o.split('=')[0], Number(o.split('=')[1])])) });
        const calls = second.records.length;
        const asking = ask();
        await eventually('the second was asked', () => second.records.length > calls && second.last);
        await second.last.finished;
        first.open(name);
        const { charge, result } = await asking;
        assert_whole_stream(result);
        assert.equal(charge, price_of(7, 4));
      });

    test('when both fail, the client gets one error and pays nothing', async () => {
      const name = gate();
      first.queue.push({ kind: 'status', status: 500, hold_head: name });
      second.queue.push({ kind: 'status', status: 503 });
      const failed = await counted('none');
      const [before_first, before_second] = [first.records.length, second.records.length];
      const asking = ask();
      await eventually('the second was asked', () => second.records.length > before_second);
      await second.last.finished;
      first.open(name);
      const { charge, result } = await asking;
      assert_error_body(result, 502);
      assert.deepEqual([first.records.length - before_first, second.records.length - before_second], [1, 1]);
      assert.equal(charge, 0n);
      assert.equal((await counted('none')) - failed, 1);
    });

    test('what a provider refuses is told at once', async () => {
      first.queue.push({ kind: 'ok', hold: 'never' });
      second.queue.push({ kind: 'status', status: 400, code: 'context_length_exceeded' });
      const { charge, result } = await ask();
      assert_error_body(result, 400, { code: 'context_length_exceeded' });
      assert.equal(charge, 0n);
      await within(1000, 'the first is let go', first.last.closed);
    });

    test('a client that leaves while two are asked ends both and pays nothing', async () => {
      first.queue.push({ kind: 'ok', hold: 'never' });
      second.queue.push({ kind: 'ok', hold: 'never' });
      const arrived = second.gate('never').arrived + 1;
      const { charge } = await charge_of(s.server, s.account, async () => {
        const client = await raw_stream();
        await second.reached('never', arrived);
        client.socket.destroy();
        await within(1000, 'both are let go', Promise.all([first.last.closed, second.last.closed]));
      });
      assert.equal(charge, 0n);
      await eventually('nothing is in flight', async () => (await s.server.metric('nebula_upstream_in_flight')) === 0);
    });

    test('a client that leaves while the winner streams ends it and pays for what it got', async () => {
      const name = gate();
      first.queue.push({ kind: 'ok', hold: 'never' });
      second.queue.push({ kind: 'ok', frames: 40, hold: name, hold_after: 5 });
      const { charge } = await charge_of(s.server, s.account, async () => {
        const client = await raw_stream();
        await second.reached(name);
        await client.until((bytes) => bytes.toString().split('"content"').length > 5);
        // The one that lost takes no room meanwhile.
        assert.equal(await s.server.metric('nebula_upstream_in_flight', { provider: 'first' }), 0);
        assert.equal(await s.server.metric('nebula_upstream_in_flight', { provider: 'second' }), 1);
        client.socket.destroy();
        await within(1000, 'the winner is let go', second.last.closed);
      });
      assert.ok(charge > 0n && charge <= price_of(60, 15, dear), `${charge}`);
    });

    test('a winner that breaks later breaks the stream; nobody else is asked', async () => {
      first.queue.push({ kind: 'ok', hold: 'never' });
      second.queue.push({ kind: 'cut_mid_body', frames: 10, after: 3 });
      let answer;
      const calls = await asked(async () => {
        answer = await ask();
      });
      assert.deepEqual(calls, [1, 1]);
      assert_broken_stream(answer.result);
      assert.ok(answer.charge > 0n && answer.charge < price_of(100, 20, dear), `${answer.charge}`);
    });

    test('providers that repeat a long request before their first word may race, too', async () => {
      first.queue.push({ kind: 'ok', hold: 'never' });
      second.queue.push({ kind: 'ok', frames: 4 });
      const instructions = 'x'.repeat(900_000);
      const { charge, result } = await charge_of(s.server, s.account, () =>
        s.server.call({
          path: '/v1/responses',
          key: s.account.key,
          body: { model: 'native', stream: true, store: false, input: 'hello', instructions },
        }),
      );
      assert.equal(result.status, 200, result.text);
      assert.match(result.text, /event: response.completed/);
      assert.ok(result.text.split(instructions).length > 2, 'it was repeated');
      assert.equal(charge, price_of(7, 4));
    });

    test('not more than the share of streams is asked twice', async () => {
      const name = gate();
      first.rules.push(({ body }) => body.model === 's' && { kind: 'ok', frames: 2, hold: name });
      second.rules.push(({ body }) => body.model === 's' && { kind: 'ok', hold: 'never' });
      const asking = Array.from({ length: 14 }, () => send({ model: 'seldom' }));
      const seconds = () => second.records.filter((r) => r.body.model === 's').length;
      await eventually('those within the share are asked', () => seconds() === 10);
      await eventually('those beyond it wait', async () => (await counted('over_share')) === 4);
      first.open(name);
      for (const answer of await Promise.all(asking)) assert_whole_stream(answer);
      assert.equal(seconds(), 10);
      first.rules.length = second.rules.length = 0;
    });

    for (const [path, body, is_whole] of [
      ['/v1/chat/completions', {}, (text) => text.includes('[DONE]')],
      ['/v1/messages', { max_tokens: 50 }, (text) => text.includes('message_stop')],
    ])
      test(`providers of two APIs are asked for one client of ${path}`, async () => {
        for (const winner of [first, second]) {
          const name = gate();
          first.queue.push({ kind: 'ok', frames: 4, hold: winner === first ? name : 'never' });
          second.queue.push({ kind: 'ok', frames: 4, hold: winner === first ? 'never' : name });
          const calls = second.gate(winner === first ? 'never' : name).arrived + 1;
          const asking = charge_of(s.server, s.account, () =>
            call(s.server.url, {
              path,
              key: s.account.key,
              body: { model: 'mixed', stream: true, messages: [{ role: 'user', content: 'hello' }], ...body },
            }),
          );
          await second.reached(winner === first ? 'never' : name, calls);
          winner.open(name);
          const { charge, result } = await asking;
          assert.equal(result.status, 200, result.text);
          assert.ok(is_whole(result.text), result.text);
          assert.equal(charge, winner === first ? price_of(7, 4) : price_of(7, 4, dear));
        }
        await s.server.verify_ledger();
      });
  });
}
