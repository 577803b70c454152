// API keys in every spelling that clients know: shown once, limited in what they may do, spend and when, and refused
// everywhere as soon as they are revoked.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { OpenRouter } from '@openrouter/sdk';
import { model } from '../support/nebula.mjs';
import { price_of } from '../support/stage.mjs';
import { acting_for, assert_platform_error, assert_status, Browser, jwt_of, people_stage } from '../support/session.mjs';
import { dollars, eventually, nanos } from '../support/wait.mjs';

const call_price = price_of(7, 10);
let s;
let owner;
let bearer; // the owner's token, as the platform's clients send it
before(async () => {
  s = await people_stage({ models: [model('demo/chat:1'), model('demo/other:1'), model('else')] });
  owner = await s.customer('keys@example.com');
  await s.server.cli_json('credits', 'grant', owner.account, '100');
  bearer = owner.browser.with_bearer(await jwt_of(s.server, owner.email));
});
after(() => s?.close());

const status_of = async (key, more) => (await s.server.chat({ key, ...more })).status;
const sha256 = (text) => createHash('sha256').update(text).digest('hex');

test('the platform: created and shown once, listed masked, regenerated under the same id, deleted', async () => {
  for (const [create, list, change] of [
    ['/api/v1/keys', '/api/v1/keys', '/api/v1/keys'],
    ['/api/v1/api-keys', '/api/v1/api_keys', '/api/v1/api-keys'],
  ]) {
    const made = assert_status(await bearer.post(create, { name: 'mine', description: 'for tests' }), 200, create).json();
    assert.equal(made.status, 'success');
    const { id, key, name } = made.data;
    assert.match(key, /^sk-neb-/);
    assert.equal(name, 'mine');
    assert.equal(await status_of(key), 200);
    const listed = assert_status(await bearer.get(list), 200, list);
    assert.ok(!listed.text.includes(key), 'a list never shows a key');
    const row = listed.json().data.find((k) => `${k.id}` === `${id}`);
    assert.equal(row.name, 'mine');
    assert.equal(row.description, 'for tests');
    assert.equal(row.cache, false, 'no key takes answers from the cache unless it is told to');
    assert.equal((await bearer.data('PUT', `${change}/${id}`, { cache: true })).cache, true);
    assert_status(await bearer.put(`${change}/${id}`, { cache: 'maybe' }), 400, 'cache');
    const renewed = await bearer.data('PUT', `${change}/${id}`, { regenerate: true, name: 'mine too' });
    assert.equal(renewed.cache, true, 'a new text keeps the setting');
    assert.equal(`${renewed.id}`, `${id}`);
    assert.notEqual(renewed.key, key);
    assert.deepEqual([await status_of(key), await status_of(renewed.key)], [401, 200]);
    await bearer.data('DELETE', `${change}/${id}`);
    assert.equal(await status_of(renewed.key), 401);
  }
});

test('a key is regenerated with a grace period in which both texts are good', async () => {
  const made = await bearer.data('POST', '/api/v1/keys', { name: 'graceful' });
  const renewed = await bearer.data('PUT', `/api/v1/keys/${made.id}`, { regenerate: true, grace: 3600 });
  assert.deepEqual([await status_of(made.key), await status_of(renewed.key)], [200, 200]);
  // A second renewal ends the first text: two are good at most.
  const third = await bearer.data('PUT', `/api/v1/keys/${made.id}`, { regenerate: true });
  assert.deepEqual(
    [await status_of(made.key), await status_of(renewed.key), await status_of(third.key)],
    [401, 401, 200],
  );
});

test('the credit API: a key for the session cookie', async () => {
  const made = await owner.browser.post('/api/keys', { name: 'My API Key' });
  assert.ok([200, 201].includes(made.status), `${made.status} ${made.text}`);
  const { key } = made.json().data ?? made.json();
  assert.equal(await status_of(key), 200);
  const anonymous = await new Browser(s.server.url).post('/api/keys', { name: 'x' });
  assert.equal(anonymous.status, 401);
  const listed = assert_status(await owner.browser.get('/api/keys'), 200);
  assert.ok(!listed.text.includes(key));
});

test('OpenRouter: its client manages keys and asks for its own and for the credits', async () => {
  const manager = await s.server.key(owner.account, {
    permission: ['keys:read', 'keys:write', 'billing:read', 'inference:read', 'inference:write'],
  });
  const client = new OpenRouter({ apiKey: manager.key, serverURL: `${s.server.url}/api/v1`, retryConfig: { strategy: 'none' } });
  const made = await client.apiKeys.create({ requestBody: { name: 'routed', limit: 5, limitReset: 'monthly' } });
  assert.match(made.key, /^sk-neb-/);
  assert.equal(made.data.hash, sha256(made.key));
  assert.deepEqual([made.data.name, made.data.limit, made.data.limitReset, made.data.disabled], ['routed', 5, 'monthly', false]);
  assert.equal(await status_of(made.key), 200);
  const spent = await eventually('the use is counted', async () => {
    const { data } = await client.apiKeys.get({ hash: made.data.hash });
    return data.usage > 0 && data;
  });
  assert.equal(nanos(spent.usage.toFixed(9)), call_price);
  assert.equal(nanos(spent.limitRemaining.toFixed(9)), nanos('5') - call_price);
  const own = await new OpenRouter({ apiKey: made.key, serverURL: `${s.server.url}/api/v1` }).apiKeys.getCurrentKeyMetadata();
  assert.deepEqual([own.data.limit, own.data.limitReset], [5, 'monthly']);
  const { data: list } = await client.apiKeys.list();
  assert.ok(list.some((k) => k.hash === made.data.hash));
  await client.apiKeys.update({ hash: made.data.hash, requestBody: { disabled: true } });
  assert.equal(await status_of(made.key), 401);
  await client.apiKeys.update({ hash: made.data.hash, requestBody: { disabled: false, name: 'again' } });
  assert.equal(await status_of(made.key), 200);
  await client.apiKeys.delete({ hash: made.data.hash });
  assert.equal(await status_of(made.key), 401);
  const credits = await client.credits.getCredits();
  const balance = nanos(credits.data.totalCredits.toFixed(9)) - nanos(credits.data.totalUsage.toFixed(9));
  assert.equal(balance, await s.server.settled(owner.account));
});

test('a key may use only the models it is for', async () => {
  const made = await bearer.data('POST', '/api/v1/keys', { name: 'few', models: ['demo/*'] });
  for (const [id, status] of [
    ['demo/chat:1', 200],
    ['demo/other:1', 200],
    ['else', 403],
  ])
    assert.equal(await status_of(made.key, { model: id }), status, id);
});

test('a key without inference:write may look but not call', async () => {
  const made = await bearer.data('POST', '/api/v1/keys', { name: 'reader', permissions: ['billing:read'] });
  assert.equal(await status_of(made.key), 403);
  const reader = new Browser(s.server.url).with_bearer(made.key);
  assert_status(await reader.get('/api/v1/users/credits'), 200);
  assert_platform_error(await reader.post('/api/v1/keys', { name: 'more' }), 403, 'forbidden');
});

test('nobody makes a key that may do more than they', async () => {
  const small = await s.server.key(owner.account, { permission: ['keys:write', 'inference:write'] });
  const asked = await new Browser(s.server.url)
    .with_bearer(small.key)
    .post('/api/v1/keys', { name: 'climber', permissions: ['billing:write', 'inference:write'] });
  if (asked.status < 300) {
    const climber = new Browser(s.server.url).with_bearer(asked.json().data.key);
    assert.equal((await climber.get('/api/v1/users/credits')).status, 403, 'permissions are cut to the maker’s own');
  } else assert.ok([400, 403].includes(asked.status), asked.text);
});

test('a budget in all is spent exactly and then answers 402 naming it', async () => {
  const k = 7;
  const made = await s.server.key(owner.account, { budget: dollars(call_price * BigInt(k)) });
  const say = { body: { max_tokens: 10 }, headers: { 'x-nebula-output-cap': 'exact' } };
  // The prompt's upper bound is held, so the last of the budget serves only what certainly fits.
  let served = 0;
  let refused;
  for (let i = 0; i < k + 3 && !refused; i += 1) {
    const answer = await s.server.chat({ key: made.key, body: { max_tokens: 10 } });
    if (answer.status === 200) served += 1;
    else refused = answer;
  }
  assert.equal(refused?.status, 402, 'the budget ends');
  assert.match(refused.text, /budget/i);
  assert.ok(served >= k, `${served} served`);
  assert.equal((await s.server.chat({ key: made.key, ...say })).status, 402);
  assert.equal(await status_of((await s.server.key(owner.account)).key), 200, 'the account has money');
});

test('many calls at once never spend more than a daily budget', async () => {
  const k = 20n;
  const made = await bearer.data('POST', '/api/v1/keys', { name: 'daily', limit: Number(dollars(call_price * k)), limit_reset: 'daily' });
  await Promise.all(Array.from({ length: 100 }, () => s.server.chat({ key: made.key, body: { max_tokens: 10 } })));
  const own = new Browser(s.server.url).with_bearer(made.key);
  const { data } = (await own.get('/api/v1/key')).json();
  assert.ok(nanos(data.usage_daily.toFixed(9)) <= call_price * k, `${data.usage_daily} spent`);
  assert.ok(nanos(data.usage_daily.toFixed(9)) > 0n);
});

test('a key that is past its time is refused', async () => {
  const soon = new Date(Date.now() + 1500).toISOString();
  const made = await bearer.data('POST', '/api/v1/keys', { name: 'brief', expires_at: soon });
  assert.equal(await status_of(made.key), 200);
  await eventually('it is refused', async () => (await status_of(made.key)) === 401, { within_ms: 5000 });
  const past = await bearer.post('/api/v1/keys', { name: 'late', expires_at: '2020-01-01T00:00:00Z' });
  assert.equal(past.status, 400, past.text);
});

test('keys of others look like none', async () => {
  const made = await bearer.data('POST', '/api/v1/keys', { name: 'hidden' });
  const stranger = (await s.customer('stranger@example.com')).browser;
  for (const [method, path, body] of [
    ['GET', `/api/v1/keys/${sha256(made.key)}`],
    ['PUT', `/api/v1/keys/${made.id}`, { regenerate: true }],
    ['PATCH', `/api/v1/keys/${sha256(made.key)}`, { disabled: true }],
    ['DELETE', `/api/v1/keys/${made.id}`],
    ['DELETE', `/api/v1/api-keys/${made.id}`],
  ]) {
    const answer = await stranger.request(method, path, { json: body });
    assert.equal(answer.status, 404, `${method} ${path}: ${answer.status} ${answer.text}`);
  }
  assert.equal(await status_of(made.key), 200);
});

test('a team’s key is made for the team and spends its money', async () => {
  const team = await owner.browser.data('POST', '/api/v1/teams', { name: 'Key team', description: '' });
  await s.server.cli_json('credits', 'grant', team.id, '1');
  for (const made of [
    await bearer.data('POST', '/api/v1/keys', { name: 'by member', team_id: team.id }),
    await acting_for(bearer, team.id).data('POST', '/api/v1/keys', { name: 'by header' }),
  ]) {
    const before = await s.server.settled(team.id);
    assert.equal(await status_of(made.key), 200);
    assert.equal(before - (await s.server.settled(team.id)), call_price);
  }
});

test('a mistake in a key is refused with the name of the member', async () => {
  for (const [body, member] of [
    [{}, 'name'],
    [{ name: '' }, 'name'],
    [{ name: 'x'.repeat(101) }, 'name'],
    [{ name: 'x', permissions: ['fly'] }, 'permissions'],
    [{ name: 'x', limit: -1 }, 'limit'],
    [{ name: 'x', limit_reset: 'hourly', limit: 1 }, 'limit_reset'],
    [{ name: 'x', expires_at: 'tomorrow' }, 'expires_at'],
  ]) {
    const error = assert_platform_error(await bearer.post('/api/v1/keys', body), 400, 'invalid_request');
    assert.equal(error.details.param, member, JSON.stringify(body));
  }
});
