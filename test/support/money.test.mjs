// Amounts are compared to the last digit, so reading them must not lose one.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { check_receipt, exact_member, exact_members, from_units } from './money.mjs';

test('numbers are read by their digits, with exponents too', () => {
  assert.equal(exact_member('{"a":1228.556,"b":2}', 'a'), 1228556000000n);
  assert.equal(exact_member('{"a":"0.000000001"}', 'a'), 1n);
  assert.equal(exact_member('{"a":1.35E-4}', 'a'), 135000n);
  assert.equal(exact_member('{"a":1E-9}', 'a'), 1n);
  assert.equal(exact_member('{"a":-2.5e-1}', 'a'), -250000000n);
  assert.equal(exact_member('{"a":1.2E2}', 'a'), 120000000000n);
  assert.deepEqual(exact_members('[{"t":1.5},{"t":2}]', 't'), [1500000000n, 2000000000n]);
  assert.equal(from_units('0.00001'), 1n);
  assert.equal(from_units('15000'), 1500000000n);
});

test('a receipt is checked by its exact bytes', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const hex = Buffer.from(publicKey.export({ format: 'jwk' }).x, 'base64url').toString('hex');
  const receipt = '{"request":"req_1","charge_nanos":27000}';
  const signature = sign(null, Buffer.from(receipt), privateKey).toString('hex');
  const text = `{"receipt":${receipt},"public_key":"${hex}","signature":"${signature}"}`;
  assert.equal(check_receipt(text, hex).charge_nanos, 27000);
  assert.throws(() => check_receipt(text.replace('27000', '26000')));
  assert.throws(() => check_receipt(text, '00'.repeat(32)));
});
