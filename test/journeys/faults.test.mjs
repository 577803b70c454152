// Everything a provider can do wrong ends in the right error, never in a clean finish, and costs nothing
// unless content was delivered. One table; each row runs on each engine.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { engines, model } from '../support/nebula.mjs';
import {
  assert_broken_stream,
  assert_error_body,
  assert_whole_stream,
  charge_of,
  price_of,
  stage,
} from '../support/stage.mjs';

// Outcome words: a number = a typed error with this status, nothing charged; `broken` = content, then an in-
// band error, delivered part charged; `whole` = a normal end, charged as reported; `estimated` = a normal
// end, charged by our own count. A stream whose body ends as HTTP says and that has given its finish reason
// is whole, even when its provider does not know [DONE]; one that ends with its connection is not.
const json_rows = [
  ['cut_before_head', 502],
  ['cut_before_head how=rst', 502],
  ['cut_mid_head', 502],
  ['cut_after_head', 502],
  ['cut_mid_body', 502],
  ['cut_mid_body how=rst', 502],
  ['cut_mid_body framing=chunked', 502],
  ['cut_after_finish', 502],
  ['stall_head', 504],
  ['stall_first', 504],
  ['stall_mid', 504],
  ['garbage_head', 502],
  ['garbage_version', 502],
  ['garbage_json', 502],
  ['html', 502],
  ['empty_body', 502],
  ['long_content_length', 502],
  ['short_content_length', 502],
  ['two_content_lengths', 502],
  ['bad_chunk', 502],
  ['error_event', 502],
  ['status status=400', 400],
  ['status status=401', 502],
  ['status status=403', 502],
  ['status status=404', 502],
  ['status status=429 retry_after=7', 429],
  ['status status=500', 502],
  ['status status=502', 502],
  ['status status=503', 502],
  ['ok usage=absent', 'estimated'],
  ['ok usage=null', 'estimated'],
  ['ok usage=negative', 'estimated'],
  ['ok usage=absurd', 'estimated'],
  ['ok usage=text', 'estimated'],
  ['ok framing=chunked', 'whole'],
  ['ok framing=close', 'whole'],
  ['ok huge=20000', 'whole'],
  ['ok multibyte=true', 'whole'],
];

const stream_rows = [
  ['cut_before_head', 502],
  ['cut_mid_head', 502],
  ['cut_after_head', 502],
  ['cut_before_content', 502],
  ['cut_mid_body', 'broken'],
  ['cut_mid_body how=rst', 'broken'],
  ['cut_mid_body framing=close', 'broken'],
  ['cut_mid_frame', 'broken'],
  ['cut_mid_frame after=0', 502],
  ['cut_after_finish', 'broken'],
  ['end_without_done', 'estimated'],
  ['end_without_done framing=close', 'broken'],
  ['end_without_finish', 'broken'],
  ['stall_head', 504],
  ['stall_first', 504],
  ['stall_before_content', 504],
  ['stall_mid', 'broken'],
  ['garbage_head', 502],
  ['garbage_frame', 'broken'],
  ['garbage_frame after=0', 502],
  ['html', 502],
  ['bad_chunk', 'broken'],
  ['bad_chunk after=0', 502],
  ['two_content_lengths', 502],
  ['error_event', 'broken'],
  ['error_event done=true', 'broken'],
  ['error_first', 502],
  ['empty_stream', 502],
  ['done_only', 502],
  ['empty_body', 502],
  ['status status=400', 400],
  ['status status=401', 502],
  ['status status=404', 502],
  ['status status=429 retry_after=7', 429],
  ['status status=500', 502],
  ['status status=503', 502],
  ['ok usage=absent', 'estimated'],
  ['ok usage=null', 'estimated'],
  ['ok usage=negative', 'estimated'],
  ['ok usage=absurd', 'estimated'],
  ['ok usage=text', 'estimated'],
  ['role_only', 'whole'],
  ['ok usage=with_finish', 'whole'],
  ['ok usage=every', 'whole'],
  ['ok framing=length', 'whole'],
  ['ok framing=close', 'whole'],
  ['ok packets=bytes frames=3', 'whole'],
  ['ok packets=odd', 'whole'],
  ['ok packets=pairs', 'whole'],
  ['ok crlf=true', 'whole'],
  ['ok comments=true', 'whole'],
  ['ok huge=20000', 'whole'],
  ['ok multibyte=true packets=bytes frames=4', 'whole'],
];

function check(outcome, answer, charge, row, frames) {
  if (typeof outcome === 'number') {
    assert_error_body(answer, outcome);
    assert.equal(answer.complete, true);
    assert.equal(charge, 0n, 'an answer without content is free');
    if (row.includes('retry_after=7')) assert.equal(answer.headers['retry-after'], '7');
    return;
  }
  if (outcome === 'broken') {
    assert_broken_stream(answer);
    assert.ok(charge > 0n && charge < price_of(200, 100), `charged ${charge} for the delivered part`);
    return;
  }
  assert.equal(answer.complete, true);
  assert.equal(answer.status, 200, answer.text);
  if (outcome === 'whole') assert.equal(charge, price_of(7, frames));
  else assert.ok(charge > 0n && charge < price_of(200, 200), `estimated at ${charge}`);
}

for (const engine of engines) {
  for (const stream of [false, true]) {
    describe(`faults of a provider, ${stream ? 'stream' : 'JSON'}, ${engine}`, () => {
      let s;
      before(async () => {
        s = await stage({
          engine,
          // A provider that says when to come back is left alone until then, for the model that was asked.
          models: [model('demo/chat:1'), model('demo/limited:1')],
          provider: {
            connect_timeout_ms: 1000,
            first_byte_timeout_ms: 300,
            idle_timeout_ms: 300,
            total_timeout_ms: 10000,
            breaker_failures: 100000,
          },
        });
      });
      after(() => s?.close());

      for (const [row, outcome] of stream ? stream_rows : json_rows) {
        test(`${row} → ${outcome}`, async () => {
          const { charge, result: answer } = await charge_of(s.server, s.account, () =>
            s.server.chat({
              key: s.account.key,
              model: row.includes('retry_after') ? 'demo/limited:1' : 'demo/chat:1',
              content: `fake:${row}`,
              stream,
            }),
          );
          if (stream && ['whole', 'estimated'].includes(outcome)) {
            assert_whole_stream(answer);
            assert.ok(!/"choices":\[\]/.test(answer.text), 'nobody asked for usage');
          }
          check(
            outcome,
            answer,
            charge,
            row,
            row === 'role_only' ? 0 : Number(/frames=(\d+)/.exec(row)?.[1] ?? 10),
          );
        });
      }

      test('after all of them the ledger balances and the server serves', async () => {
        await s.server.verify_ledger();
        assert.equal((await s.server.chat({ key: s.account.key })).status, 200);
      });

      test('usage that cannot be true is counted', async () => {
        assert.ok(
          (await s.server.metric(/usage.*(refused|rejected|invalid|absurd)/)) >= 3,
          await s.server.metrics_text(),
        );
      });
    });
  }
}

describe('deadlines', () => {
  let s;
  before(async () => {
    s = await stage({
      provider: { first_byte_timeout_ms: 5000, idle_timeout_ms: 5000, total_timeout_ms: 700 },
    });
  });
  after(() => s?.close());

  test('the total deadline ends a call that never stands still', async () => {
    const began = performance.now();
    const answer = await s.server.chat({
      key: s.account.key,
      content: 'fake:ok frames=100 delay_ms=50',
      stream: true,
    });
    assert_broken_stream(answer);
    assert.ok(performance.now() - began < 3000);
  });

  test('a provider that cannot be reached is a 502 without delay', async () => {
    const t = await stage({ provider: { breaker_failures: 100 } });
    try {
      await t.fake.stop();
      assert_error_body(await t.server.chat({ key: t.account.key }), 502);
      assert.equal((await t.server.balance(t.account.id)).held, 0n);
    } finally {
      await t.close();
    }
  });
});
