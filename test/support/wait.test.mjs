// Money in the tests is integer nano-dollars too; these helpers are what every charge is compared with.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { cost, dollars, nanos } from './wait.mjs';
import { toml } from './nebula.mjs';

test('amounts are read and written exactly', () => {
  for (const text of ['0', '9.994', '-0.000000001', '123456789.123456789'])
    assert.equal(dollars(nanos(text)), text);
  assert.equal(nanos('9.9940'), 9994000000n);
  assert.throws(() => nanos('1e3'));
});

test('a record is rounded up once', () => {
  assert.equal(cost({ prompt_tokens: 1, completion_tokens: 0 }, { input: '0.0001', output: '0' }), 1n);
  assert.equal(cost({ prompt_tokens: 3, completion_tokens: 5 }, { input: '1', output: '2' }), 13000n);
});

test('a configuration is written in the documented form', () => {
  assert.equal(
    toml({ http: { listen: '127.0.0.1:0' }, model: [{ id: 'a', routes: [{ provider: 'p', weight: 1 }] }] }),
    '[http]\nlisten = "127.0.0.1:0"\n\n[[model]]\nid = "a"\nroutes = [{ provider = "p", weight = 1 }]\n',
  );
});
