// The same at full size: rare orders of events need many clients.

import { test } from 'node:test';
import { engines } from '../support/nebula.mjs';
import { bad_clients, many_clients } from '../support/chaos.mjs';

for (const engine of engines) {
  test(`20,000 bad calls, ${engine}`, () => bad_clients(engine, { workers: 64, calls: 20000 }));
  test(`1,000 clients at once are all served and billed exactly, ${engine}`, () => many_clients(engine, 1000, 5));
}
