// The promise at its full size: 512 streams at once.

import { test } from 'node:test';
import { engines } from '../support/nebula.mjs';
import { byte_exact } from '../support/byte_exact.mjs';

for (const engine of engines) {
  test(`512 concurrent streams are byte-exact, ${engine}`, () => byte_exact(engine, 512, { rounds: 4 }));
}
