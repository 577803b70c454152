// The table of attacks on signing in and on sessions: each line is one that works somewhere.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { Browser, assert_status, default_password, jwt_of, new_team, paths, people_stage, sign_in_as } from '../support/session.mjs';

let s;
before(async () => {
  s = await people_stage({ people: { failures_before_lockout: 1000 } });
});
after(() => s?.close());

let serial = 0;
const somebody = (name) => s.customer(`${name}${(serial += 1)}@example.com`);
const is_in = async (browser) => (await browser.get(paths.me)).status === 200;
/** What tells two answers apart: everything but what is of this request alone. */
const essence = (answer) => ({
  status: answer.status,
  text: answer.text.replaceAll(/req_\w+/g, 'req'),
  headers: Object.keys(answer.headers)
    .filter((name) => !['date', 'content-length', 'set-cookie'].includes(name))
    .sort(),
});

test('session fixation: a cookie from before signing in is not the session', async () => {
  const { email } = await somebody('fixed');
  for (const planted of ['planted', 'ses_0000000000000000000000000000000000000000', 'a'.repeat(43)]) {
    const browser = new Browser(s.server.url);
    browser.cookies.set('nebula_session', planted);
    await sign_in_as(browser, email);
    assert.notEqual(browser.cookies.get('nebula_session'), planted);
    const attacker = new Browser(s.server.url);
    attacker.cookies.set('nebula_session', planted);
    assert.equal(await is_in(attacker), false);
  }
  const browser = new Browser(s.server.url);
  await sign_in_as(browser, email);
  const first = browser.cookies.get('nebula_session');
  await sign_in_as(browser, email);
  assert.notEqual(browser.cookies.get('nebula_session'), first, 'signing in again makes a new session');
});

test('the cookie cannot be read by scripts, is not sent across sites, and is long enough not to be guessed', async () => {
  const { email } = await somebody('flags');
  const answer = await sign_in_as(new Browser(s.server.url), email);
  const [cookie] = answer.cookies;
  assert.equal(cookie.name, 'nebula_session');
  assert.equal(cookie.flags.httponly, true);
  assert.match(`${cookie.flags.samesite}`, /^(lax|strict)$/i);
  assert.equal(cookie.flags.path, '/');
  assert.equal(cookie.flags.domain, undefined);
  assert.ok(cookie.value.length >= 32);
  assert.equal(answer.headers['cache-control'], 'no-store');
  assert.ok(!answer.text.includes(cookie.value), 'scripts do not get it in the body either');
});

test('the cookie is sent over TLS alone when the console is', async () => {
  const t = await people_stage({ people: { public_url: 'https://ai.example.com' } });
  try {
    const email = 'secure@example.com';
    const { browser } = await t.customer(email);
    const again = await sign_in_as(new Browser(t.server.url), email);
    assert.equal(again.cookies[0].flags.secure, true);
    assert.equal(await is_in(browser), true);
    assert.match(t.smtp.to(email)[0].text, /https:\/\/ai\.example\.com\//);
  } finally {
    await t.close();
  }
});

test('another site cannot make a browser change anything: the table of origins and content types', async () => {
  const { browser } = await somebody('csrf');
  const host = new URL(s.server.url).host;
  const as_json = 'application/json';
  for (const [headers, allowed] of [
    [{ 'sec-fetch-site': 'same-origin', 'content-type': as_json }, true],
    [{ 'sec-fetch-site': 'none', 'content-type': as_json }, true],
    [{ 'sec-fetch-site': 'cross-site', 'content-type': as_json }, false],
    [{ 'sec-fetch-site': 'same-site', 'content-type': as_json }, false],
    [{ 'sec-fetch-site': 'cross-site', origin: `http://${host}`, 'content-type': as_json }, false],
    [{ 'sec-fetch-site': null, origin: `http://${host}`, 'content-type': as_json }, true],
    [{ 'sec-fetch-site': null, origin: 'http://evil.example', 'content-type': as_json }, false],
    [{ 'sec-fetch-site': null, origin: `http://${host}.evil.example`, 'content-type': as_json }, false],
    [{ 'sec-fetch-site': null, origin: `http://evil.example/${host}`, 'content-type': as_json }, false],
    [{ 'sec-fetch-site': null, origin: 'null', 'content-type': as_json }, false],
    [{ 'sec-fetch-site': null, 'content-type': as_json }, true],
    [{ 'sec-fetch-site': null, 'content-type': 'text/plain' }, false],
    [{ 'sec-fetch-site': null, 'content-type': 'application/x-www-form-urlencoded' }, false],
    [{ 'sec-fetch-site': null, 'content-type': 'multipart/form-data; boundary=x' }, false],
    [{ 'sec-fetch-site': null, 'content-type': 'TEXT/PLAIN; application/json' }, false],
    [{ 'sec-fetch-site': null, 'content-type': null }, false],
  ]) {
    const body = JSON.stringify({ name: `by ${JSON.stringify(headers)}`.slice(0, 90) });
    const before = (await browser.data('GET', '/api/v1/teams')).length;
    const answer = await browser.request('POST', '/api/v1/teams', { body, headers });
    const after_it = (await browser.data('GET', '/api/v1/teams')).length;
    assert.equal(after_it - before, allowed ? 1 : 0, `${JSON.stringify(headers)}: ${answer.status} ${answer.text}`);
    if (!allowed) assert.equal(answer.status, 403, JSON.stringify(headers));
  }
  // Reading is not changing, and a bearer token is not sent by itself.
  assert_status(await browser.get(paths.me, { headers: { 'sec-fetch-site': 'cross-site' } }), 200);
});

test('what is asked with a bearer token may come from anywhere', async () => {
  const { email } = await somebody('bearer');
  const bearer = new Browser(s.server.url).with_bearer(await jwt_of(s.server, email));
  const headers = { 'sec-fetch-site': 'cross-site', origin: 'https://app.example' };
  assert_status(await bearer.post('/api/v1/teams', { name: 'from afar' }, { headers }), 200);
});

test('no other site is told that it may read answers', async () => {
  const { browser } = await somebody('cors');
  const answer = await browser.get(paths.me, { headers: { origin: 'https://evil.example' } });
  const allowed = answer.headers['access-control-allow-origin'];
  assert.ok(allowed === undefined || (allowed === '*' && !answer.headers['access-control-allow-credentials']), `${allowed}`);
});

test('signing in does not tell who is there', async () => {
  const { email } = await somebody('known');
  const attempt = (who, password) => new Browser(s.server.url).post(paths.sign_in, { email: who, password });
  const wrong = essence(await attempt(email, 'not the password'));
  const nobody = essence(await attempt('nobody@example.com', 'not the password'));
  assert.equal(wrong.status, 401);
  assert.deepEqual(wrong, nobody);
  const login = (username) =>
    new Browser(s.server.url).request('POST', paths.login, { form: { username, password: 'not the password' } });
  assert.deepEqual(essence(await login(email)), essence(await login('nobody@example.com')));
});

test('an unverified, unknown or wrong person is refused in the same words', async () => {
  const email = 'unverified@example.com';
  const sign_up = await new Browser(s.server.url).post(paths.sign_up, { email, password: default_password, name: 'u' });
  assert.ok(sign_up.status < 300, sign_up.text);
  const attempt = (who, password) => new Browser(s.server.url).post(paths.sign_in, { email: who, password });
  assert.deepEqual(
    essence(await attempt(email, 'not the password')),
    essence(await attempt('nobody@example.com', 'not the password')),
    'only who knows the password learns that the address is not verified',
  );
});

test('asking for a new password does not tell who is there', async () => {
  const { email } = await somebody('resetting');
  const ask = (who) => new Browser(s.server.url).post(paths.reset_request, { email: who });
  const known = await ask(email);
  const unknown = await ask('nobody-at-all@example.com');
  assert.deepEqual(essence(known), essence(unknown));
  assert.equal(known.status, 200);
  assert.equal(s.smtp.to('nobody-at-all@example.com').length, 0);
});

test('signing up with an address that is taken looks like success, and its owner hears of it', async () => {
  const { email, browser } = await somebody('taken');
  const before = s.smtp.to(email).length;
  const sign_up = (who) => new Browser(s.server.url).post(paths.sign_up, { email: who, password: 'another fine password', name: 'x' });
  const taken = await sign_up(email);
  const free = await sign_up('surely-free@example.com');
  const same = (answer) => {
    const { status, text } = essence(answer);
    return [status, text.replaceAll(email, 'X').replaceAll('surely-free@example.com', 'X').replaceAll(/(acc|usr|user)_\w+/g, 'id')];
  };
  assert.deepEqual(same(taken), same(free));
  await s.smtp.mail_to(email, { after: before });
  assert.equal(await is_in(browser), true);
  assert.equal((await new Browser(s.server.url).post(paths.sign_in, { email, password: 'another fine password' })).status, 401);
});

test('inviting does not tell who is there', async () => {
  const owner = await somebody('host');
  const { email } = await somebody('present');
  const team = await new_team(owner.browser, 'Probing');
  const invite = (who) => owner.browser.post(`/api/v1/teams/${team.id}/members`, { email: who, role: 1 });
  const clean = (answer) => {
    const { status, text } = essence(answer);
    return [status, text.replace(/"token":"[^"]+"/, '"token":""').replace(/"(id|created_at|expires_at)":[^,}]+/g, '"$1":0')];
  };
  const [known, unknown] = [await invite(email), await invite('absent-person@example.com')];
  assert.deepEqual(
    [clean(known)[0], clean(known)[1].replaceAll(email, 'X')],
    [clean(unknown)[0], clean(unknown)[1].replaceAll('absent-person@example.com', 'X')],
  );
});

test('a lock tells nothing: unknown addresses lock as known ones do', async () => {
  const t = await people_stage({ people: { failures_before_lockout: 2 } });
  try {
    await t.customer('lockable@example.com', { sign_in: false });
    const run = async (email) => {
      const seen = [];
      for (let i = 0; i < 5; i += 1)
        seen.push((await new Browser(t.server.url).post(paths.sign_in, { email, password: 'not the password' })).status);
      return seen;
    };
    assert.deepEqual(await run('lockable@example.com'), await run('not-there@example.com'));
  } finally {
    await t.close();
  }
});

test('guessing from one address is slowed down across all accounts', async () => {
  const t = await people_stage({ people: { sign_in_ip_rpm: 10 } });
  try {
    const statuses = [];
    for (let i = 0; i < 14; i += 1)
      statuses.push(
        (await new Browser(t.server.url).post(paths.sign_in, { email: `victim${i}@example.com`, password: 'guess guess' })).status,
      );
    assert.deepEqual(statuses, [...Array(10).fill(401), ...Array(4).fill(429)]);
  } finally {
    await t.close();
  }
});

test('answers about people are not kept by caches', async () => {
  const { browser } = await somebody('cache');
  for (const path of [paths.me, paths.sessions, '/api/v1/users/credits', '/api/v1/keys'])
    assert.match((await browser.get(path)).headers['cache-control'] ?? '', /no-store/, path);
});

test('secrets of people are in no log', async () => {
  const { browser, email, password } = await somebody('quiet');
  const token = await jwt_of(s.server, email);
  const made = await browser.data('POST', '/api/v1/keys', { name: 'quiet' });
  await new Browser(s.server.url).post(paths.sign_in, { email, password: 'my secret mistake' });
  for (const secret of [password, token, made.key, browser.cookies.get('nebula_session'), 'my secret mistake'])
    assert.ok(!s.server.output.includes(secret), 'a secret is in the log');
});
