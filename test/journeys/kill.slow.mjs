// The same for longer: rare orders of events need many rounds.

import { test } from 'node:test';
import { engines } from '../support/nebula.mjs';
import { kill_rounds } from '../support/kill_rounds.mjs';

for (const engine of engines) {
  test(`kill −9 under load, sixty times, ${engine}`, async (t) => {
    const { calls, delivered } = await kill_rounds(engine, { rounds: 60, workers: 64 });
    t.diagnostic(`${calls} calls, ${delivered} delivered whole`);
  });
}
