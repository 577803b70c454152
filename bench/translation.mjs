// What translation costs end to end: CPU of the whole server per event of a stream, kernel and network included, for
// pairs of client API and kind of provider; OpenAI's API passing through is 1.00. Needs build/nebula and test/node_modules:
//   node bench/translation.mjs [--rounds 5] [--events 5000]
// Pairs take turns; a ratio is taken inside a round. The provider (test/support/fake_provider.mjs) writes one event at a
// time, so the figures hold for streams that trickle as models write them, with one core busy elsewhere.

import fs from 'node:fs';
import { model, provider } from '../test/support/nebula.mjs';
import { clients } from '../test/support/matrix_clients.mjs';
import { kinds } from '../test/support/matrix_kinds.mjs';
import { stage } from '../test/support/stage.mjs';

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const rounds = option('rounds', 5);
const events = option('events', 5000);

const s = await stage({
  credit: '10000',
  http: { threads: 1 },
  models: kinds.map(({ name }) => model(`demo/${name}:1`, { provider: name, max_output_tokens: 32000 })),
  providers: (fake) => kinds.map(({ name, base_url }) => provider(name, base_url(fake), { kind: name })),
});

/** Nanoseconds that every thread of the server has run. */
function cpu_ns() {
  const tasks = `/proc/${s.server.pid}/task`;
  const of = (id) => Number(fs.readFileSync(`${tasks}/${id}/schedstat`, 'utf8').split(' ')[0]);
  return fs.readdirSync(tasks).reduce((sum, id) => sum + of(id), 0);
}

async function measure(client, kind) {
  s.fake.queue.push({ kind: 'ok', frames: events });
  const body = { model: `demo/${kind.name}:1`, ...client.request({ question: 'x', cap: 30000 }), ...client.stream };
  const before = cpu_ns();
  const response = await s.server.call({ path: client.path, key: s.account.key, body, within_ms: 120000 });
  const after = cpu_ns();
  if (response.status !== 200 || !response.complete) throw new Error(`${client.name} over ${kind.name}: ${response.text}`);
  return (after - before) / 1000 / events;
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const pairs = clients.flatMap((client) => kinds.map((kind) => ({ client, kind, times: [], ratios: [] })));
try {
  for (let round = 0; round <= rounds; round += 1) {
    const ordered = round % 2 === 0 ? pairs : pairs.toReversed();
    for (const pair of ordered) pair.last = await measure(pair.client, pair.kind);
    if (round === 0) continue; // warm-up
    for (const pair of pairs) {
      pair.times.push(pair.last);
      pair.ratios.push(pair.last / pairs[0].last);
    }
  }
  console.log('| client | provider | CPU µs/event | × pass-through |\n| --- | --- | ---: | ---: |');
  for (const { client, kind, times, ratios } of pairs) {
    const range = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`;
    console.log(`| ${client.name} | ${kind.name} | ${median(times).toFixed(1)} | ${median(ratios).toFixed(2)} [${range}] |`);
  }
} finally {
  await s.close();
}
