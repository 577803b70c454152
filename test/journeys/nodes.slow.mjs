// The same for longer: more rounds, every node count, and a limit watched over several minutes.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { engines } from '../support/nebula.mjs';
import { NebulaCluster } from '../support/nebula_cluster.mjs';
import { node_rounds, spend_all } from '../support/node_rounds.mjs';

const skip = engines.includes('postgres') ? false : 'needs PostgreSQL';

test('kill -9, cut and stalled networks, forty times on four nodes', { skip }, async (t) => {
  t.diagnostic(JSON.stringify(await node_rounds({ nodes: 4, rounds: 40, workers: 24 })));
});

test('a single node is killed and cut off twenty times', { skip }, async (t) => {
  t.diagnostic(JSON.stringify(await node_rounds({ nodes: 1, rounds: 20, workers: 12 })));
});

for (const mishap of ['kill', 'cut', 'stall']) {
  test(`a balance for a thousand calls is spent to the last although a node is lost: ${mishap}`, { skip }, async () => {
    await spend_all({ nodes: 4, k: 1000, workers: 64, mishap });
  });
}

// Clients know only when they asked and when they were answered: calls that lie wholly within a minute were admitted
// within it.
test('over three minutes no minute admits more than the limit, and pushing gets 95 % of it', { skip }, async (t) => {
  const all = await NebulaCluster.start({ nodes: 4 });
  try {
    const limit = 300;
    const account = await all.first.account('limits', { credit: '1000' });
    const { key } = await all.first.key(account.id, { rpm: limit });
    const began = performance.now();
    const length = 185000;
    const admitted = [];
    await Promise.all(
      Array.from({ length: 16 }, async (_, i) => {
        for (let n = 0; performance.now() - began < length; n += 1) {
          const asked = performance.now() - began;
          const answer = await all.nodes[(i + n) % 4].chat({ key, content: 'fake:ok frames=1', body: { max_tokens: 5 } });
          if (answer.status === 200) admitted.push([asked, performance.now() - began]);
          else await new Promise((resolve) => setTimeout(resolve, 200));
        }
      }),
    );
    admitted.sort((a, b) => a[0] - b[0]);
    let worst = 0;
    for (const [start] of admitted)
      worst = Math.max(worst, admitted.filter(([asked, done]) => asked >= start && done < start + 60000).length);
    t.diagnostic(`${admitted.length} admitted in ${length} ms, at most ${worst} in a minute`);
    assert.ok(worst <= limit, `${worst} in one minute`);
    assert.ok(admitted.length >= limit * 3 * 0.95, `${admitted.length} in three minutes`);
  } finally {
    await all.close();
  }
});
