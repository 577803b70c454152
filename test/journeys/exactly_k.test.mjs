// Prepaid money is exact under concurrency: a balance for k calls pays for k of a thousand concurrent ones,
// no more and no fewer, and ends at exactly nothing.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { engines, model } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';
import { dollars, within } from '../support/wait.mjs';

const calls = 1000;
// Only output has a price and the answer uses the whole cap: what is held is then exactly what is charged.
const exact = model('exact', { price_input_per_m: '0', price_output_per_m: '2.50' });
const call_price = 10n * 2500n;

/** How often each status came, so that a failure says what came instead. */
const tally = (statuses) =>
  Object.fromEntries([...new Set(statuses)].sort().map((x) => [x, statuses.filter((y) => y === x).length]));

async function fire(s, key, { stream, gate }) {
  return s.server.chat({
    key,
    model: 'exact',
    stream,
    within_ms: 60000,
    body: { max_tokens: 10 },
    content: `fake:ok frames=10 prompt_tokens=9 hold_head=${gate}`,
  });
}

for (const engine of engines) {
  for (const stream of [false, true]) {
    test(`a balance for exactly 137 of ${calls} concurrent ${stream ? 'streams' : 'calls'}, ${engine}`, async () => {
      const s = await stage({ engine, models: [exact] });
      try {
        const k = 137;
        const account = await s.server.account('exactly k', { credit: dollars(call_price * BigInt(k)) });
        const answers = Promise.all(
          Array.from({ length: calls }, () => fire(s, account.key, { stream, gate: 'all' })),
        );
        // Everyone who is admitted waits at the provider until all others have been refused.
        await within(60000, `${k} calls at the provider`, s.fake.reached('all', k));
        s.fake.open('all');
        const statuses = (await answers).map((a) => a.status);
        assert.deepEqual(tally(statuses), { 200: k, 402: calls - k });
        assert.equal(s.fake.records.length, k, 'no refused call reached the provider');
        assert.equal(await s.server.settled(account.id), 0n);
        await s.server.verify_ledger();
        assert.equal((await s.server.chat({ key: account.key, model: 'exact' })).status, 402);
      } finally {
        await s.close();
      }
    });
  }

  test(`holds that are larger than the charge come back and pay for later calls, ${engine}`, async () => {
    const s = await stage({ engine, models: [exact] });
    try {
      // Each call may use 100 tokens and uses 10: nobody may be refused while the balance could pay.
      const k = 20;
      const account = await s.server.account('sequential', { credit: dollars(call_price * BigInt(k)) });
      for (let i = 0; i < k; i += 1) {
        const answer = await s.server.chat({
          key: account.key,
          model: 'exact',
          body: { max_tokens: 100 },
          content: 'fake:ok frames=10',
        });
        assert.equal(answer.status, 200, `call ${i + 1}: ${answer.text}`);
      }
      assert.equal((await s.server.chat({ key: account.key, model: 'exact' })).status, 402);
      assert.equal(await s.server.settled(account.id), 0n);
      await s.server.verify_ledger();
    } finally {
      await s.close();
    }
  });

  test(`credit granted to a running server can be spent at once, ${engine}`, async () => {
    const s = await stage({ engine, models: [exact] });
    try {
      const account = await s.server.account('topped up');
      assert.equal((await s.server.chat({ key: account.key, model: 'exact' })).status, 402);
      await s.server.cli_json('credits', 'grant', account.id, dollars(call_price));
      const answer = await s.server.chat({
        key: account.key,
        model: 'exact',
        body: { max_tokens: 10 },
        content: 'fake:ok frames=10',
      });
      assert.equal(answer.status, 200, answer.text);
      assert.equal(await s.server.settled(account.id), 0n);
    } finally {
      await s.close();
    }
  });
}

for (const engine of engines) {
  test(`holds ten times the charge: a balance for 60 still pays for exactly 60 of 300 concurrent calls, ${engine}`, async () => {
    const s = await stage({ engine, models: [exact] });
    try {
      // Each call might use 100 tokens and uses 10. Nobody is refused while the balance could still pay for
      // one.
      const k = 60;
      const account = await s.server.account('wide holds', { credit: dollars(call_price * BigInt(k)) });
      const statuses = (
        await Promise.all(
          Array.from({ length: 300 }, () =>
            s.server.chat({
              key: account.key,
              model: 'exact',
              within_ms: 60000,
              body: { max_tokens: 100 },
              content: 'fake:ok frames=10',
            }),
          ),
        )
      ).map((a) => a.status);
      assert.deepEqual(tally(statuses), { 200: k, 402: 300 - k });
      assert.equal(await s.server.settled(account.id), 0n);
      await s.server.verify_ledger();
    } finally {
      await s.close();
    }
  });
}
