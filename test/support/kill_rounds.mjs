// Kill −9 (or SIGTERM) under load and compare with the provider's journal. Every call reports a pair of token counts that
// no other call reports, so each usage record names the call it belongs to.

import assert from 'node:assert/strict';
import { price_of, stage } from './stage.mjs';
import { random, seed_of_run } from './wait.mjs';

const usage_of_call = (n) => ({ prompt_tokens: 1 + Math.floor(n / 1000), completion_tokens: 1 + (n % 1000) });
const call_of_usage = (u) => (u.prompt_tokens - 1) * 1000 + u.completion_tokens - 1;

export async function kill_rounds(engine, { rounds, workers = 16, seed = seed_of_run, how = 'kill' }) {
  const dice = random(seed);
  const credit = 1000000n * 1000000000n;
  const s = await stage({ engine, credit: '1000000' });
  const delivered = [];
  let serial = 0;
  try {
    for (let round = 0; round < rounds; round += 1) {
      let running = true;
      const work = async () => {
        while (running) {
          serial += 1;
          const n = serial;
          const stream = n % 2 === 0;
          const { prompt_tokens, completion_tokens } = usage_of_call(n);
          try {
            const answer = await s.server.chat({
              key: s.account.key,
              stream,
              within_ms: 10000,
              content: `fake:ok frames=${1 + (n % 7)} prompt_tokens=${prompt_tokens} completion_tokens=${completion_tokens}`,
            });
            if (answer.complete && answer.status === 200 && (!stream || answer.events().at(-1) === '[DONE]'))
              delivered.push(n);
          } catch {
            /* the server died under this call */
          }
        }
      };
      const loads = Array.from({ length: workers }, work);
      await new Promise((r) => setTimeout(r, dice.between(60, 500)));
      const exit = await s.server[how]();
      if (how === 'stop') assert.deepEqual([exit.code, exit.signal], [0, null], s.server.output.slice(-2000));
      running = false;
      await Promise.all(loads);
      await s.server.launch();
    }
    await compare(s, { delivered, credit, what: `seed ${seed}, ${rounds} rounds on ${engine}` });
    return { calls: serial, delivered: delivered.length };
  } finally {
    await s.close();
  }
}

async function compare(s, { delivered, credit, what }) {
  const available = await s.server.settled(s.account.id);
  await s.server.verify_ledger();
  // An estimated record belongs to a call whose client was cut off: it has no number of its own.
  const records = await s.server.usage_records();
  const exact = records.filter((r) => !r.estimated).map(call_of_usage);
  const times = new Map();
  for (const n of exact) times.set(n, (times.get(n) ?? 0) + 1);
  const doubled = [...times].filter(([, count]) => count > 1).map(([n]) => n);
  assert.deepEqual(doubled, [], `billed twice (${what})`);
  const lost = delivered.filter((n) => !times.has(n));
  assert.deepEqual(lost, [], `delivered whole and not billed (${what})`);
  const journal = new Map(s.fake.records.filter((r) => r.usage).map((r) => [call_of_usage(r.usage), r]));
  const invented = exact.filter((n) => !journal.has(n));
  assert.deepEqual(invented, [], `billed without an answer of the provider (${what})`);
  const owed = records.reduce((sum, r) => sum + r.charge, 0n);
  assert.equal(credit - available, owed, `balance against records (${what})`);
  for (const r of records.filter((x) => !x.estimated)) {
    assert.equal(r.charge, price_of(r.prompt_tokens, r.completion_tokens));
  }
  assert.ok(delivered.length > 0, 'the load must have been real');
}
