// The usual scene of a journey: a fake provider, a server in front of it, an account with credit.

import assert from 'node:assert/strict';
import { FakeProvider } from './fake_provider.mjs';
import { Nebula, prices } from './nebula.mjs';
import { cost } from './wait.mjs';

/**
 * Options are those of Nebula.start plus `fake` (options of the fake provider) and `credit` (10). `providers` may be a
 * function of the fake provider.
 * Give `close` to the test's `after` hook.
 */
export async function stage({ fake: fake_options, credit = '10', providers, ...options } = {}) {
  const fake = await FakeProvider.start(fake_options);
  let server;
  try {
    const listed = typeof providers === 'function' ? providers(fake) : providers;
    server = await Nebula.start({ upstream: fake, ...options, ...(listed ? { providers: listed } : {}) });
    const account = await server.account('journeys', { credit });
    return {
      fake,
      server,
      account,
      client: server.client(account.key),
      exactly: (scripts, act) => exactly({ fake, server, account }, scripts, act),
      breaks: (act, kind) => breaks({ fake, server, account }, act, kind),
      async close() {
        await server.remove();
        await fake.stop();
      },
    };
  } catch (error) {
    await server?.remove();
    await fake.stop();
    throw error;
  }
}

/** Runs `act` and returns what it cost the account, in nano-dollars, once nothing is held any more. */
export async function charge_of(server, account, act) {
  const before = await server.settled(account.id);
  const result = await act();
  const after = await server.settled(account.id);
  return { charge: before - after, result };
}

export const price_of = (prompt_tokens, completion_tokens, at = prices) =>
  cost({ prompt_tokens, completion_tokens }, at);

/** Runs `act` with these scripts for its requests, in order; the charge must be that of the provider's journal. */
async function exactly({ fake, server, account }, scripts, act) {
  const from = fake.records.length;
  fake.queue.push(...[scripts].flat());
  const { charge, result } = await charge_of(server, account, act);
  assert.equal(fake.queue.length, 0, 'every script was asked for');
  const records = fake.records.slice(from);
  const wanted = records.map((r) => price_of(r.usage.prompt_tokens ?? r.usage.total_tokens, r.usage.completion_tokens ?? 0));
  assert.equal(
    charge,
    wanted.reduce((a, b) => a + b, 0n),
  );
  assert.ok(charge > 0n);
  return { result, records };
}

/** A stream that breaks after three words is charged for what was delivered and not for more. */
async function breaks({ fake, server, account }, act, kind = 'cut_mid_body') {
  fake.queue.push({ kind, frames: 10, after: 3 });
  const { charge } = await charge_of(server, account, act);
  assert.ok(charge > 0n && charge < price_of(100, 20), `${charge}`);
}

/** Everything that an asynchronous iterable tells. */
export const collect = async (stream) => {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
};

/** Reads a stream of the openai client to its end. */
export async function read_stream(stream) {
  const chunks = [];
  let text = '';
  for await (const chunk of stream) {
    chunks.push(chunk);
    text += chunk.choices[0]?.delta?.content ?? '';
  }
  return { chunks, text, usage: chunks.findLast((c) => c.usage)?.usage ?? null };
}

/** An answer that ended truthfully badly: either a typed error, or an error event and then nothing more. */
export function assert_error_body(response, status, { type, code, param } = {}) {
  assert.equal(response.status, status, `${response.status} ${response.text}`);
  assert.match(response.headers['content-type'] ?? '', /^application\/json/);
  const { error } = response.json();
  assert.equal(typeof error.message, 'string');
  assert.ok(error.message.length > 0);
  assert.equal(typeof error.type, 'string');
  for (const member of ['param', 'code']) assert.ok(member in error, `error.${member} is missing`);
  if (type !== undefined) assert.equal(error.type, type);
  if (code !== undefined) assert.equal(error.code, code);
  if (param !== undefined) assert.equal(error.param, param);
  assert.ok(response.headers['x-request-id'], 'x-request-id is missing');
  return error;
}

/** A stream that broke after content: error event last, no [DONE], no terminating chunk, connection closed. */
export function assert_broken_stream(response) {
  assert.equal(response.status, 200, response.text);
  const events = response.events();
  assert.ok(!events.includes('[DONE]'), `a broken stream claims to be done:\n${response.text}`);
  const last = JSON.parse(events.at(-1));
  assert.equal(typeof last.error?.message, 'string', `last event is no error: ${events.at(-1)}`);
  assert.equal(typeof last.error.type, 'string');
  assert.equal(response.complete, false, 'the body must not end as if it were whole');
  assert.ok(response.closed, 'the connection must be closed');
  return last.error;
}

/** A stream that ended well. */
export function assert_whole_stream(response) {
  assert.equal(response.status, 200, response.text);
  assert.match(response.headers['content-type'], /^text\/event-stream/);
  assert.equal(response.events().at(-1), '[DONE]', response.text);
  assert.equal(response.complete, true);
}
