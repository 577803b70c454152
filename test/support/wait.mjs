// Waiting for something to become true, and small arithmetic on money as text.

import assert from 'node:assert/strict';

/** Polls until `probe` returns something truthy (which is returned) or the time is over (then it throws). */
export async function eventually(what, probe, { within_ms = 10000, every_ms = 20 } = {}) {
  const until = performance.now() + within_ms;
  let last;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) assert.fail(`not within ${within_ms} ms: ${what} (last: ${last})`);
    await new Promise((resolve) => setTimeout(resolve, every_ms));
  }
}

/** Resolves to the promise's value, or fails with a sentence when it takes longer than the limit. */
export function within(ms, what, promise) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new assert.AssertionError({ message: `not within ${ms} ms: ${what}` })),
      ms,
    );
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** "9.9940" in nano-dollars as a BigInt. */
export function nanos(text) {
  const match = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(text);
  assert.ok(match, `not a decimal amount: ${text}`);
  const value = BigInt(match[2]) * 1000000000n + BigInt((match[3] ?? '').padEnd(9, '0'));
  return match[1] ? -value : value;
}

/** Nano-dollars as exact decimal text. */
export function dollars(value) {
  const v = BigInt(value);
  const sign = v < 0n ? '-' : '';
  const abs = v < 0n ? -v : v;
  const fraction = (abs % 1000000000n).toString().padStart(9, '0').replace(/0+$/, '');
  return `${sign}${abs / 1000000000n}${fraction ? `.${fraction}` : ''}`;
}

/** What one record costs: prices in dollars per million tokens, rounded up once. */
export function cost(usage, { input, output }) {
  const micro = BigInt(usage.prompt_tokens) * nanos(input) + BigInt(usage.completion_tokens) * nanos(output);
  return (micro + 999999n) / 1000000n;
}

/** A small seeded generator, so that a random run can be repeated: mulberry32. */
export function random(seed) {
  let a = seed >>> 0;
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return { next, between: (low, high) => low + Math.floor(next() * (high - low + 1)) };
}

export const seed_of_run = Number(process.env.NEBULA_TEST_SEED ?? Date.now() % 1000000);
