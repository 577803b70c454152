// Several nodes that are killed and cut off from their database while they serve, compared with the provider's
// journal afterwards. Every call reports a pair of token counts that no other call reports, so each usage record
// names the call it belongs to.

import assert from 'node:assert/strict';
import { NebulaCluster } from './nebula_cluster.mjs';
import { price_of } from './stage.mjs';
import { dollars, eventually, nanos, random, seed_of_run } from './wait.mjs';

const usage_of_call = (n) => ({ prompt_tokens: 1 + Math.floor(n / 1000), completion_tokens: 1 + (n % 1000) });
const call_of_usage = (u) => (u.prompt_tokens - 1) * 1000 + u.completion_tokens - 1;

export const tally = (values) =>
  Object.fromEntries([...new Set(values)].sort().map((x) => [x, values.filter((y) => y === x).length]));

/** One thing that happens to one node; everything is as before when it resolves. */
const mishaps = {
  async kill(all, i) {
    await all.nodes[i].kill();
    return () => all.nodes[i].launch();
  },
  async cut(all, i) {
    all.nodes[i].is_ending = true; // a node that lost its lease for good may end by itself
    all.proxies[i].cut();
    return () => reconnect(all, i);
  },
  async stall(all, i) {
    all.nodes[i].is_ending = true;
    all.proxies[i].stall();
    return () => reconnect(all, i);
  },
};

async function reconnect(all, i) {
  const node = all.nodes[i];
  all.proxies[i].restore();
  // Money or not, it decides; a node whose lease is in doubt answers 503, and ends when the lease is lost.
  const decides = async () =>
    node.exit || [200, 402].includes((await node.chat({ key: all.probe.key, model: all.probe.model })).status);
  await eventually('the node admits again or has ended', decides, { within_ms: 20000 });
  if (node.exit) await node.launch();
  else node.is_ending = false;
}

/**
 * `rounds` mishaps under a load of `workers` on `nodes` nodes with a balance that pays for all of it.
 * Checks throughout and at the end: what is spent is never more than what was paid; what a client has received whole
 * is billed once; and what is left can be spent to the last call.
 */
export async function node_rounds({ nodes = 4, rounds, workers = 12, seed = seed_of_run, lease_ms = 3000, kinds }) {
  const dice = random(seed);
  const what = `seed ${seed}, ${rounds} rounds, ${nodes} nodes`;
  const all = await NebulaCluster.start({
    nodes,
    proxied: true,
    node: { lease_ms, renew_interval_ms: Math.floor(lease_ms / 6) },
    provider: { breaker_failures: 1000000 },
  });
  const delivered = [];
  const seen = new Map();
  let serial = 0;
  let running = true;
  try {
    const credit = nanos('1000');
    const account = await all.first.account('nodes', { credit: dollars(credit) });
    all.probe = { ...(await all.first.account('probe')), model: 'demo/chat:1' };
    const call = async () => {
      serial += 1;
      const n = serial;
      const alive = all.running;
      const node = alive[dice.between(0, alive.length - 1)];
      if (!node) return new Promise((resolve) => setTimeout(resolve, 20));
      const { prompt_tokens, completion_tokens } = usage_of_call(n);
      const stream = n % 2 === 0;
      let outcome = 'lost';
      try {
        const answer = await node.chat({
          key: account.key,
          stream,
          within_ms: 20000,
          content: `fake:ok frames=${1 + (n % 5)} prompt_tokens=${prompt_tokens} completion_tokens=${completion_tokens}`,
          body: { max_tokens: 1000 }, // what is held may be more than what is charged
        });
        const whole = answer.complete && (!stream || answer.status !== 200 || answer.events().at(-1) === '[DONE]');
        outcome = answer.status === 0 ? 'lost' : whole ? answer.status : 'broken';
        if (whole && answer.status === 200) delivered.push(n);
        // Only money that a dead or cut-off node still holds may be missing, and here there is plenty.
        assert.notEqual(answer.status, 402, `refused with a full balance (${what})`);
      } catch (error) {
        if (error.code === 'ERR_ASSERTION') throw error;
      }
      seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
      if (outcome !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const load = Array.from({ length: workers }, async () => {
      while (running) await call();
    });
    // A service manager: a node that says that it lost its lease ends with 1 and is started again; nothing else may end.
    let busy = -1;
    let restarts = 0;
    const supervise = async () => {
      for (; running; await new Promise((resolve) => setTimeout(resolve, 50)))
        for (const [i, node] of all.nodes.entries()) {
          if (i === busy || !running) continue;
          node.is_ending = true;
          if (!node.exit) continue;
          assert.ok(node.exit.code === 1 && /lost its lease/.test(node.output), `${what}: ${node.output.slice(-2000)}`);
          restarts += 1;
          await node.launch();
        }
    };
    const failed = Promise.all([...load, supervise()]);
    failed.catch(() => {});
    const names = kinds ?? Object.keys(mishaps);
    for (let round = 0; round < rounds; round += 1) {
      const i = dice.between(0, nodes - 1);
      const before = delivered.length;
      busy = i;
      if (all.nodes[i].exit) await all.nodes[i].launch();
      const mend = await mishaps[names[dice.between(0, names.length - 1)]](all, i);
      // Longer and shorter than a lease.
      await new Promise((resolve) => setTimeout(resolve, dice.between(100, lease_ms * 2)));
      await mend();
      busy = -1;
      const gone_on = () => delivered.length > before + workers;
      await Promise.race([
        failed,
        eventually(`calls are served after round ${round} (${what})`, gone_on, { within_ms: 20000 }),
      ]);
    }
    running = false;
    await failed;
    await eventually('no slice is leased by a dead node', () => settled(all, account), { within_ms: 30000 });
    await compare(all, account, { delivered, credit, what });
    return { calls: serial, delivered: delivered.length, seen: Object.fromEntries(seen), restarts };
  } catch (error) {
    error.message += ` (${what}; ${JSON.stringify(Object.fromEntries(seen))})`;
    throw error;
  } finally {
    running = false;
    await all.close();
  }
}

/** Nodes keep slices of what they may spend; stopping them brings everything back. */
async function settled(all, account) {
  for (const node of all.running) await node.stop();
  await all.first.launch();
  return (await all.first.balance(account.id)).held === 0n;
}

async function compare(all, account, { delivered, credit, what }) {
  const { available } = await all.first.balance(account.id);
  await all.first.verify_ledger();
  const records = await all.first.usage_records();
  const exact = records.filter((r) => !r.estimated).map(call_of_usage);
  const times = new Map();
  for (const n of exact) times.set(n, (times.get(n) ?? 0) + 1);
  assert.deepEqual(
    [...times].filter(([, count]) => count > 1),
    [],
    `billed twice (${what})`,
  );
  assert.deepEqual(
    delivered.filter((n) => !times.has(n)),
    [],
    `delivered whole and not billed (${what})`,
  );
  const journal = new Set(all.fake.records.filter((r) => r.usage).map((r) => call_of_usage(r.usage)));
  assert.deepEqual(
    exact.filter((n) => !journal.has(n)),
    [],
    `billed without an answer of the provider (${what})`,
  );
  const owed = records.reduce((sum, r) => sum + r.charge, 0n);
  assert.equal(credit - available, owed, `balance against records (${what})`);
  for (const r of records.filter((x) => !x.estimated))
    assert.equal(r.charge, price_of(r.prompt_tokens, r.completion_tokens), what);
  assert.ok(delivered.length > 0, 'the load must have been real');
}

/**
 * A balance for exactly k calls, spent on several nodes of which some are killed and cut off meanwhile. In the end
 * exactly k calls are charged, or fewer only by those that died with their node before they were delivered.
 */
export async function spend_all({ nodes = 4, k = 200, workers = 40, mishap, seed = seed_of_run, lease_ms = 3000 }) {
  const dice = random(seed);
  const call_price = 25000n;
  const all = await NebulaCluster.start({
    nodes,
    proxied: true,
    billing: { admission_wait_ms: 5000 },
    models: [exact_model],
    node: { lease_ms, renew_interval_ms: Math.floor(lease_ms / 6) },
  });
  try {
    const account = await all.first.account('spend all', { credit: dollars(call_price * BigInt(k)) });
    all.probe = { ...(await all.first.account('probe')), model: 'exact' };
    let served = 0;
    let running = true;
    const ask = (node) =>
      node
        .chat({
          key: account.key,
          model: 'exact',
          within_ms: 20000,
          body: { max_tokens: 10 },
          headers: { 'x-nebula-output-cap': 'exact' },
          content: 'fake:ok frames=10 prompt_tokens=9',
        })
        .catch(() => ({ status: 0, complete: false }));
    const load = Array.from({ length: workers }, async () => {
      while (running) {
        const alive = all.running;
        const answer = alive.length > 0 ? await ask(alive[dice.between(0, alive.length - 1)]) : {};
        if (answer.status === 200 && answer.complete) served += 1;
        else await new Promise((resolve) => setTimeout(resolve, 50));
      }
    });
    if (mishap) {
      await eventually('a third is spent', () => served >= k / 3, { within_ms: 20000 });
      const mend = await mishaps[mishap](all, nodes - 1);
      await new Promise((resolve) => setTimeout(resolve, lease_ms * 2));
      await mend();
    }
    // Nobody is refused while money is left: going on asking spends everything but what died undelivered.
    const spent = async () => BigInt((await all.sql('select coalesce(sum(charge), 0) from usage_records'))[0][0]);
    const paid = call_price * BigInt(k);
    // (A call whose client was cut off may cost less than a whole one; then less than a call remains.)
    const is_spent = async () => paid - (await spent()) < call_price;
    await eventually('everything is spent', is_spent, { within_ms: lease_ms * 4 + 20000 });
    running = false;
    await Promise.all(load);
    assert.ok((await spent()) <= paid, 'never more than was paid');
    if (!mishap) assert.equal(await spent(), paid);
    const records = await all.first.usage_records();
    assert.ok(records.every((r) => r.charge <= call_price));
    assert.ok(served <= k, `${served} served of ${k} paid`);
    for (const node of all.running) assert.equal((await ask(node)).status, 402);
    await all.first.verify_ledger();
    return { served };
  } finally {
    await all.close();
  }
}

export const exact_model = {
  id: 'exact',
  context_length: 32768,
  max_output_tokens: 8192,
  price_input_per_m: '0',
  price_output_per_m: '2.50',
  endpoints: ['chat'],
  routes: [{ provider: 'fake', model: 'exact', weight: 1 }],
};

