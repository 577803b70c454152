// What time tells. The answers of two kinds of request are timed in alternation; their medians must not differ by more
// than what chance explains.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Browser, paths, people_stage } from '../support/session.mjs';

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** Medians of both in milliseconds, and how far the medians of random halves of all differ (the noise). */
async function compare(count, one, two) {
  const times = [[], []];
  for (let i = 0; i < count; i += 1)
    for (const which of i % 2 === 0 ? [0, 1] : [1, 0]) {
      const began = performance.now();
      await [one, two][which](i);
      times[which].push(performance.now() - began);
    }
  const all = times.flat();
  const noise = [];
  for (let round = 0; round < 200; round += 1) {
    const shuffled = all.map((value) => [Math.random(), value]).sort((a, b) => a[0] - b[0]);
    const half = shuffled.map(([, value]) => value);
    noise.push(Math.abs(median(half.slice(0, count)) - median(half.slice(count))));
  }
  return { medians: times.map(median), noise: noise.sort((a, b) => a - b)[199] };
}

function assert_same_time(t, what, { medians, noise }) {
  const difference = Math.abs(medians[0] - medians[1]);
  t.diagnostic(`${what}: ${medians.map((m) => m.toFixed(3))} ms, difference ${difference.toFixed(3)}, noise ${noise.toFixed(3)}`);
  assert.ok(difference <= Math.max(noise * 2, median_floor), `${what}: ${difference} ms apart`);
}
const median_floor = 0.2;

test('wrong passwords of known and of unknown people take the same time', async (t) => {
  const s = await people_stage({ people: { failures_before_lockout: 1000 } });
  try {
    await s.customer('timed@example.com');
    const attempt = (email) => new Browser(s.server.url).post(paths.sign_in, { email, password: 'not the password' });
    const result = await compare(
      150,
      () => attempt('timed@example.com'),
      (i) => attempt(`nobody${i}@example.com`),
    );
    assert_same_time(t, 'signing in', result);
    const ask = (email) => new Browser(s.server.url).post(paths.reset_request, { email });
    const reset = await compare(
      100,
      () => ask('timed@example.com'),
      (i) => ask(`nobody${i}@example.com`),
    );
    assert_same_time(t, 'resetting', reset);
  } finally {
    await s.close();
  }
});

test('a key that is nearly right takes as long as one that is all wrong', async (t) => {
  const s = await people_stage();
  try {
    const { key } = s.account;
    const flip = (at) => key.slice(0, at) + (key[at] === 'A' ? 'B' : 'A') + key.slice(at + 1);
    const ask = (text) => s.server.call({ method: 'GET', path: '/v1/models', key: text });
    const early = flip(8);
    const late = flip(key.length - 8);
    assert_same_time(
      t,
      'key check',
      await compare(
        2000,
        () => ask(early),
        () => ask(late),
      ),
    );
  } finally {
    await s.close();
  }
});
