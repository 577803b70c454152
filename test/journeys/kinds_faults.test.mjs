// What faults.test.mjs asks of providers that speak OpenAI's API, asked of the kinds that are translated: whatever goes
// wrong in their words ends in the right error in OpenAI's, never in a clean finish, and costs what was delivered.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { model } from '../support/nebula.mjs';
import {
  assert_broken_stream,
  assert_error_body,
  assert_whole_stream,
  charge_of,
  price_of,
  stage,
} from '../support/stage.mjs';

// Outcomes as in faults.test.mjs.
const json_rows = {
  'cut_before_head': 502,
  'cut_mid_head': 502,
  'cut_mid_body': 502,
  'cut_after_finish': 502,
  'stall_mid': 504,
  'garbage_json': 502,
  'html': 502,
  'empty_body': 502,
  'short_content_length': 502,
  'error_event': 502,
  'status status=400': 400,
  'status status=401': 502,
  'status status=404': 502,
  'status status=429 retry_after=7': 429,
  'status status=503': 502,
  'ok usage=absent': 'estimated',
  'ok usage=null': 'estimated',
  'ok usage=negative': 'estimated',
  'ok usage=absurd': 'estimated',
  'ok usage=text': 'estimated',
  'ok framing=chunked': 'whole',
  'ok huge=20000': 'whole',
  'ok multibyte=true': 'whole',
};
const stream_rows = {
  'cut_before_head': 502,
  'cut_after_head': 502,
  'cut_before_content': 502,
  'cut_mid_body': 'broken',
  'cut_mid_body how=rst': 'broken',
  'cut_mid_body framing=close': 'broken',
  'cut_mid_frame': 'broken',
  'cut_mid_frame after=0': 502,
  'end_without_finish': 'broken',
  'stall_head': 504,
  'stall_before_content': 504,
  'stall_mid': 'broken',
  'garbage_frame': 'broken',
  'garbage_frame after=0': 502,
  'html': 502,
  'bad_chunk': 'broken',
  'error_event': 'broken',
  'error_event done=true': 'broken',
  'error_first': 502,
  'empty_stream': 502,
  'status status=400': 400,
  'status status=429 retry_after=7': 429,
  'status status=500': 502,
  'ok usage=absent': 'estimated',
  'ok usage=null': 'estimated',
  'ok usage=negative': 'estimated',
  'ok usage=absurd': 'estimated',
  'ok usage=text': 'estimated',
  'role_only': 'whole',
  'ok framing=length': 'whole',
  'ok packets=bytes frames=3': 'whole',
  'ok packets=odd': 'whole',
  'ok packets=pairs': 'whole',
  'ok crlf=true': 'whole',
  'ok comments=true': 'whole',
  'ok huge=20000': 'whole',
  'ok multibyte=true packets=bytes frames=4': 'whole',
};
const kinds = {
  // The last line has the reason, the counts and the end: with it the stream is whole, however it is cut.
  ollama: {
    stream: { 'cut_after_finish': 'whole', 'end_without_done': 'whole', 'ok framing=close': 'whole', 'done_only': 'estimated' },
  },
  // There is no last event: only HTTP tells a whole stream from a cut one.
  gemini: {
    stream: {
      'cut_after_finish': 'broken',
      'end_without_done': 'whole',
      'end_without_done framing=close': 'broken',
      'ok framing=close': 'broken',
      'ok usage=every': 'whole',
      'done_only': 502,
    },
  },
};

function check(outcome, answer, charge, row, frames) {
  if (typeof outcome === 'number') {
    assert_error_body(answer, outcome);
    assert.equal(charge, 0n, 'an answer without content is free');
    if (row.includes('retry_after=7')) assert.equal(answer.headers['retry-after'], '7');
    if (outcome === 400) assert.equal(answer.json().error.message, 'upstream says 400');
  } else if (outcome === 'broken') {
    assert_broken_stream(answer);
    assert.ok(charge > 0n && charge < price_of(200, 100), `charged ${charge} for the delivered part`);
  } else {
    assert.equal(answer.complete, true);
    assert.equal(answer.status, 200, answer.text);
    if (outcome === 'whole') assert.equal(charge, price_of(7, frames));
    else assert.ok(charge > 0n && charge < price_of(200, 200), `estimated at ${charge}`);
  }
}

for (const [kind, own] of Object.entries(kinds))
  for (const stream of [false, true])
    describe(`faults of a provider of kind ${kind}, ${stream ? 'stream' : 'JSON'}`, () => {
      let s;
      before(async () => {
        // A provider that says when to come back is left alone until then, for the model that was asked.
        const models = [model('demo/chat:1', { upstream: 'm' }), model('demo/limited:1', { upstream: 'l' })];
        const patience = { connect_timeout_ms: 1000, first_byte_timeout_ms: 300, idle_timeout_ms: 300 };
        s = await stage({ models, provider: { kind, ...patience, breaker_failures: 100000 } });
      });
      after(() => s?.close());

      const rows = { ...(stream ? stream_rows : json_rows), ...(stream ? own.stream : {}) };
      for (const [row, outcome] of Object.entries(rows))
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
          check(outcome, answer, charge, row, row === 'role_only' ? 0 : Number(/frames=(\d+)/.exec(row)?.[1] ?? 10));
        });

      test('after all of them the ledger balances and the server serves', async () => {
        await s.server.verify_ledger();
        assert.equal((await s.server.chat({ key: s.account.key })).status, 200);
      });
    });
