// A response that a client has received whole is billed exactly once, whatever is killed when.

import { test } from 'node:test';
import { engines } from '../support/nebula.mjs';
import { kill_rounds } from '../support/kill_rounds.mjs';

for (const engine of engines) {
  test(`kill −9 under load, five times, ${engine}`, async (t) => {
    const { calls, delivered } = await kill_rounds(engine, { rounds: 5 });
    t.diagnostic(`${calls} calls, ${delivered} delivered whole`);
  });
}

for (const engine of engines) {
  test(`SIGTERM under load, three times, ${engine}`, async (t) => {
    const { calls, delivered } = await kill_rounds(engine, { rounds: 3, workers: 32, how: 'stop' });
    t.diagnostic(`${calls} calls, ${delivered} delivered whole`);
  });
}
