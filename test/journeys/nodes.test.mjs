// Several identical processes on one PostgreSQL database share balances, limits and keys without ever promising
// more than there is, and without refusing while there is some, whatever is killed or cut off.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { engines } from '../support/nebula.mjs';
import { NebulaCluster } from '../support/nebula_cluster.mjs';
import { exact_model, node_rounds, spend_all, tally } from '../support/node_rounds.mjs';
import { dollars, eventually, within } from '../support/wait.mjs';

const skip = engines.includes('postgres') ? false : 'needs PostgreSQL';
const call_price = 25000n;

// The promise P1 as it stands: the balance pays for k of a thousand, so k are served and the rest are refused.
for (const nodes of [1, 4]) {
  test(`a balance for exactly 137 of 1000 concurrent calls on ${nodes} nodes`, { skip }, async () => {
    const all = await NebulaCluster.start({ nodes, models: [exact_model] });
    try {
      const k = 137;
      const account = await all.first.account('exactly k', { credit: dollars(call_price * BigInt(k)) });
      const answers = Promise.all(
        Array.from({ length: 1000 }, (_, i) =>
          all.nodes[i % nodes].chat({
            key: account.key,
            model: 'exact',
            within_ms: 90000,
            body: { max_tokens: 10 },
            headers: { 'x-nebula-output-cap': 'exact' },
            content: 'fake:ok frames=10 prompt_tokens=9 hold_head=all',
          }),
        ),
      );
      // Everyone who is admitted waits at the provider until the money of all k is there.
      await within(60000, `${k} calls at the provider`, all.fake.reached('all', k));
      all.fake.open('all');
      assert.deepEqual(tally((await answers).map((a) => a.status)), { 200: k, 402: 1000 - k });
      assert.equal(all.fake.records.length, k, 'no refused call reached the provider');
      const records = await all.first.usage_records();
      assert.deepEqual(
        [records.length, records.reduce((sum, r) => sum + r.charge, 0n)],
        [k, call_price * BigInt(k)],
      );
      assert.equal(await all.first.settled(account.id), 0n);
      await all.first.verify_ledger();
      for (const node of all.nodes)
        assert.equal((await node.chat({ key: account.key, model: 'exact' })).status, 402, 'on every node');
    } finally {
      await all.close();
    }
  });
}

// Slices that a dead or silent node holds come back when its lease ends; nothing is spent twice, nothing is lost.
for (const mishap of ['kill', 'cut', 'stall']) {
  test(`a balance is spent to the last call although a node is lost: ${mishap}`, { skip }, async (t) => {
    const { served } = await spend_all({ nodes: 3, k: 150, workers: 24, mishap });
    t.diagnostic(`${served} of 150 delivered whole`);
  });
}

test('nodes are killed and cut off under load: every whole answer is billed once', { skip }, async (t) => {
  const outcome = await node_rounds({ nodes: 3, rounds: 3, workers: 9 });
  t.diagnostic(JSON.stringify(outcome));
});

// A node that cannot renew its lease must stop admitting before the others may take over what it held.
test('a node without its database refuses before its lease ends and serves again afterwards', { skip }, async () => {
  const lease_ms = 3000;
  const all = await NebulaCluster.start({
    nodes: 2,
    proxied: true,
    node: { lease_ms, renew_interval_ms: 500 },
  });
  try {
    const account = await all.first.account('partition', { credit: '10' });
    const [one, two] = all.nodes;
    for (const node of all.nodes) assert.equal((await node.chat({ key: account.key })).status, 200);
    two.is_ending = true; // it may end by itself
    all.proxies[1].stall();
    const began = performance.now();
    let last_served = began;
    while (performance.now() - began < lease_ms * 1.5) {
      const asked = performance.now();
      const answer = await two
        .chat({ key: account.key, within_ms: lease_ms * 2 })
        .catch(() => ({ status: 0, complete: false }));
      if (answer.status === 200 && answer.complete) last_served = asked;
      else await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.ok(last_served - began < lease_ms, `admitted ${last_served - began} ms after the cut`);
    for (let i = 0; i < 5; i += 1) assert.equal((await one.chat({ key: account.key })).status, 200, 'the other serves');
    all.proxies[1].restore();
    await eventually(
      'the node serves again, itself or its successor',
      async () => {
        if (two.exit) await two.launch();
        return (await two.chat({ key: account.key })).status === 200;
      },
      { within_ms: 20000 },
    );
    await all.first.verify_ledger();
  } finally {
    await all.close();
  }
});

// A limit holds for all nodes together, and pushing clients get what they are entitled to.
test('a limit of 240 requests a minute over four nodes admits 228 to 240', { skip }, async () => {
  const all = await NebulaCluster.start({ nodes: 4 });
  try {
    const limit = 240;
    const account = await all.first.account('limits', { credit: '100' });
    const { key } = await all.first.key(account.id, { rpm: limit });
    const began = performance.now();
    let admitted = 0;
    const statuses = new Set();
    await Promise.all(
      Array.from({ length: 24 }, async (_, i) => {
        for (let n = 0; admitted < limit && performance.now() - began < 20000; n += 1) {
          const { status } = await all.nodes[(i + n) % 4].chat({ key, content: 'fake:ok frames=1', body: { max_tokens: 5 } });
          statuses.add(status);
          if (status === 200) admitted += 1;
          else await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }),
    );
    // Some more at once, still within the first minute.
    const more = await Promise.all(Array.from({ length: 200 }, (_, i) => all.nodes[i % 4].chat({ key })));
    admitted += more.filter((a) => a.status === 200).length;
    assert.ok(performance.now() - began < 55000, 'the measurement must stay within one window');
    assert.ok(admitted <= limit, `${admitted} admitted`);
    assert.ok(admitted >= limit * 0.95, `${admitted} admitted`);
    assert.ok([...statuses].every((status) => [200, 429].includes(status)), `${[...statuses]}`);
  } finally {
    await all.close();
  }
});

// A lost key must be useless everywhere at once.
test('a key revoked on one node is refused on all within a second', { skip }, async () => {
  const all = await NebulaCluster.start({ nodes: 4 });
  try {
    const account = await all.first.account('revoked', { credit: '10' });
    for (let round = 0; round < 4; round += 1) {
      const made = await all.nodes[round].key(account.id);
      for (const node of all.nodes) assert.equal((await node.chat({ key: made.key })).status, 200);
      await all.nodes[(round + 1) % 4].cli_json('keys', 'revoke', made.id);
      const refused = await Promise.all(
        all.nodes.map((node) =>
          eventually('the key is refused', async () => (await node.chat({ key: made.key })).status === 401, {
            within_ms: 1000,
          }),
        ),
      );
      assert.deepEqual(refused, [true, true, true, true]);
    }
  } finally {
    await all.close();
  }
});

// A balancer sends a refused connection elsewhere; nothing else may be visible of a restart.
test('all nodes are restarted one after the other and no request fails', { skip }, async () => {
  const all = await NebulaCluster.start({ nodes: 3 });
  try {
    const account = await all.first.account('rolling', { credit: '100' });
    let running = true;
    let served = 0;
    let moved = 0;
    const ask = async (n) => {
      const order = all.running.map((_, i, list) => list[(i + n) % list.length]);
      for (const node of order) {
        let answer;
        try {
          answer = await node.chat({ key: account.key, stream: n % 2 === 0, content: 'fake:ok frames=3' });
        } catch {
          answer = { status: 0 };
        }
        if (answer.status === 200) {
          assert.equal(answer.complete, true, answer.text);
          served += 1;
          return;
        }
        assert.ok([0, 503].includes(answer.status), `${answer.status} ${answer.text}`);
        moved += 1;
      }
      assert.fail('no node took the request');
    };
    const load = Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        for (let n = i; running; n += 1) await ask(n);
      }),
    );
    load.catch(() => {});
    for (const node of all.nodes) {
      const before = served;
      const exit = await node.stop();
      assert.deepEqual([exit.code, exit.signal], [0, null], node.output.slice(-2000));
      await node.launch();
      await eventually('the load goes on', () => served > before + 20);
    }
    running = false;
    await load;
    const records = await all.first.usage_records();
    assert.equal(records.length, served, `one record for each answer (${moved} went elsewhere)`);
    await all.first.verify_ledger();
  } finally {
    await all.close();
  }
});

// An operator starts everything with one command: the first to come makes the tables, the others wait.
test('four nodes start at once on an empty database', { skip }, async () => {
  const all = await NebulaCluster.start({ nodes: 4, at_once: true });
  try {
    const account = await all.first.account('fresh', { credit: '1' });
    for (const node of all.nodes) assert.equal((await node.chat({ key: account.key })).status, 200);
    const ids = (await all.sql('select id from usage_records')).map(([id]) => id);
    assert.equal(new Set(ids).size, 4);
    await all.first.verify_ledger();
  } finally {
    await all.close();
  }
});
