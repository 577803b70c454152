// How people come in: sign-up with a mailed link, form and JSON sign-in, tokens, cookies, reset, lockout, a second
// factor, single sign-on. What must not let anybody in is tried next to what must.

import { describe, test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { FakeOidc, lies } from '../support/fake_oidc.mjs';
import { engines } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';
import {
  acting_for,
  assert_platform_error,
  assert_status,
  Browser,
  default_password,
  jwt_of,
  mailed_link,
  new_customer,
  new_operator,
  new_team,
  paths,
  people_stage,
  sign_in_as,
  token_of,
  totp_code,
  who_am_i,
} from '../support/session.mjs';
import { eventually } from '../support/wait.mjs';

let serial = 0;
const fresh_email = (name) => `${name}${(serial += 1)}@example.com`;
const is_in = async (browser) => (await browser.get(paths.me)).status === 200;

for (const engine of engines) {
  test(`somebody signs up, is active only behind the mailed link, and signs in, ${engine}`, async () => {
    const s = await people_stage({ engine });
    try {
      const email = fresh_email('new');
      const browser = new Browser(s.server.url);
      const signed_up = await browser.post(paths.sign_up, { email, password: default_password, name: 'New' });
      assert.ok([200, 201].includes(signed_up.status), signed_up.text);
      assert.equal(await is_in(browser), false);
      const early = await browser.post(paths.sign_in, { email, password: default_password });
      assert.ok([401, 403].includes(early.status), `not verified yet: ${early.status} ${early.text}`);
      const link = await mailed_link(s.server, s.smtp, email);
      const token = token_of(link);
      assert.equal((await browser.post(paths.verify, { token: `${token}x` })).status >= 400, true);
      assert_status(await browser.post(paths.verify, { token }), 200);
      await sign_in_as(browser, email);
      const me = await browser.data('GET', paths.me);
      assert.deepEqual([me.email, me.name], [email, 'New']);
      assert.ok(!JSON.stringify(me).includes('hash'));
      // The platform's login answers its own shape, and the token of it is a credential.
      const credentials = { username: email, password: default_password };
      for (const body of [{ form: credentials }, { json: credentials }]) {
        const login = assert_status(await new Browser(s.server.url).request('POST', paths.login, body), 200);
        const { data, message, status } = login.json();
        assert.deepEqual([message, status], ['Login successful', 'success']);
        assert.deepEqual([data.email, data.name, data.is_staff, data.is_active], [email, 'New', false, true]);
        assert.match(data.jwtToken, /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/);
        const claims = JSON.parse(Buffer.from(data.jwtToken.split('.')[1], 'base64url'));
        assert.equal(claims.sub, email);
        assert.ok(Array.isArray(claims.roles) && Array.isArray(claims.scopes));
        assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 7200) < 60, 'good for two hours');
        assert_status(await new Browser(s.server.url).with_bearer(data.jwtToken).get('/api/v1/users/credits'), 200);
      }
      // Nothing of it is in the database in the clear.
      const rows = JSON.stringify([await s.server.sql('select * from users'), await s.server.sql('select * from sessions')]);
      assert.ok(!rows.includes(default_password));
      for (const [, value] of browser.cookies) assert.ok(!rows.includes(value), 'session tokens are kept as hashes');
      assert.match(rows, /argon2id/);
    } finally {
      await s.close();
    }
  });
}

describe('with a mail server', () => {
  let s;
  before(async () => {
    s = await people_stage({ people: { failures_before_lockout: 3 } });
  });
  after(() => s?.close());
  const somebody = (name) => s.customer(fresh_email(name));

  test('a token of the login is refused when it is changed, signed otherwise, or its session has ended', async () => {
    const { browser, email } = await somebody('jwt');
    const token = await jwt_of(s.server, email);
    const [head, body, signature] = token.split('.');
    const b64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = JSON.parse(Buffer.from(body, 'base64url'));
    const ask = (bearer) => browser.with_bearer(bearer).get('/api/v1/users/credits');
    assert.equal((await ask(token)).status, 200);
    for (const forged of [
      `${head}.${b64({ ...claims, exp: claims.exp + 3600 })}.${signature}`,
      `${head}.${b64({ ...claims, sub: 'root@example.com' })}.${signature}`,
      `${b64({ alg: 'none', typ: 'JWT' })}.${body}.`,
      `${b64({ alg: 'none', typ: 'JWT' })}.${body}.${signature}`,
      `${head}.${body}.`,
      `${head}.${body}`,
      `${head}.${body}.${signature.slice(0, -2)}`,
    ])
      assert_platform_error(await ask(forged), 401, 'unauthenticated');
    await browser.with_bearer(token).post(paths.sign_out);
    assert.equal((await ask(token)).status, 401, 'a token ends with its session');
  });

  // The playground of the console has the session's cookie and no key; another site must not spend somebody's credits with it.
  test('who is signed in calls models as the account acted for, and no other site can make the browser do so', async () => {
    const { browser, email } = await somebody('plays');
    const body = { model: 'demo/chat:1', messages: [{ role: 'user', content: 'hi' }] };
    const ask = (by, options) => by.post('/v1/chat/completions', body, options);
    assert_status(await ask(new Browser(s.server.url)), 401);
    assert_status(await ask(browser), 402, 'known, without credits');
    await s.server.cli_json('credits', 'grant', (await who_am_i(browser)).account, '1', '--json');
    const answer = await ask(browser);
    assert_status(answer, 200);
    assert.ok(answer.json().choices[0].message.content);
    assert_status(await ask(browser.with_bearer(await jwt_of(s.server, email))), 200);
    assert_status(await ask(browser, { cross_site: true }), 403);
    const form = { headers: { 'content-type': 'text/plain', 'sec-fetch-site': null } };
    assert_status(await ask(browser, form), 403, 'a form of another site');
    const team = await new_team(browser, 'players');
    assert_status(await ask(acting_for(browser, team.id)), 402, 'a team pays for itself');
    await browser.post(paths.sign_out);
    assert_status(await ask(browser), 401);
  });

  test('sign-out ends this session, sign-out everywhere ends all of them', async () => {
    const { browser, email } = await somebody('out');
    const second = new Browser(s.server.url);
    await sign_in_as(second, email);
    const third = new Browser(s.server.url);
    await sign_in_as(third, email);
    const kept = new Map(second.cookies);
    assert_status(await second.post(paths.sign_out), 200);
    assert.equal(second.cookies.size, 0, 'the browser forgets the cookie');
    second.cookies = kept;
    assert.deepEqual([await is_in(second), await is_in(browser), await is_in(third)], [false, true, true]);
    const sessions = await browser.data('GET', paths.sessions);
    assert.ok(sessions.length >= 2, JSON.stringify(sessions));
    for (const [, value] of browser.cookies) assert.ok(!JSON.stringify(sessions).includes(value), 'no token is listed');
    const bearer = await jwt_of(s.server, email);
    assert_status(await browser.post(paths.sign_out_all), 200);
    assert.deepEqual([await is_in(browser), await is_in(third)], [false, false]);
    assert.equal((await browser.with_bearer(bearer).get('/api/v1/users/credits')).status, 401);
  });

  test('one session is ended from another', async () => {
    const { browser, email } = await somebody('remote');
    const lost = new Browser(s.server.url);
    await sign_in_as(lost, email, default_password);
    const sessions = await browser.data('GET', paths.sessions);
    const current = sessions.find((x) => x.is_current ?? x.current);
    for (const { id } of sessions.filter((x) => x !== current)) assert_status(await browser.delete(`${paths.sessions}/${id}`), 200);
    assert.deepEqual([await is_in(browser), await is_in(lost)], [true, false]);
    // Not somebody else's.
    const stranger = (await somebody('stranger')).browser;
    assert.equal((await stranger.delete(`${paths.sessions}/${current.id}`)).status, 404);
    assert.equal(await is_in(browser), true);
  });

  test('a forgotten password is set by a mailed link, once, and all sessions end', async () => {
    const { browser, email } = await somebody('forgot');
    const before = s.smtp.to(email).length;
    assert_status(await new Browser(s.server.url).post(paths.reset_request, { email }), 200);
    const token = token_of(await mailed_link(s.server, s.smtp, email, { after: before }));
    const fresh = 'a completely new password';
    assert_status(await new Browser(s.server.url).post(paths.reset, { token, password: fresh }), 200);
    assert.equal(await is_in(browser), false);
    const again = await new Browser(s.server.url).post(paths.reset, { token, password: 'another password once more' });
    assert.ok(again.status >= 400, 'a link is good once');
    assert.equal((await new Browser(s.server.url).post(paths.sign_in, { email, password: default_password })).status, 401);
    await sign_in_as(new Browser(s.server.url), email, fresh);
  });

  test('a password is changed by who knows it', async () => {
    const { browser, email } = await somebody('change');
    const other = new Browser(s.server.url);
    await sign_in_as(other, email);
    const change = (current_password, new_password) => browser.post(paths.password, { current_password, new_password });
    assert.match(assert_status(await change('wrong password!', 'a fine new password'), 400).text, /Current password is incorrect\./);
    assert.match(
      assert_status(await change(default_password, default_password), 400).text,
      /Current and new passwords must be different\./,
    );
    assert.equal((await change(default_password, 'short')).status, 400);
    assert_status(await change(default_password, 'a fine new password'), 200);
    assert.equal(await is_in(other), false, 'other sessions end');
    await sign_in_as(new Browser(s.server.url), email, 'a fine new password');
  });

  test('wrong passwords lock the address for longer and longer, whoever asks, and the right one waits as well', async () => {
    const { email } = await somebody('locked');
    const attempt = (password) => new Browser(s.server.url).post(paths.sign_in, { email, password });
    const statuses = [];
    for (let i = 0; i < 6; i += 1) statuses.push((await attempt('not the password')).status);
    assert.deepEqual(statuses.slice(0, 3), [401, 401, 401]);
    assert.equal(statuses.at(-1), 429, `${statuses}`);
    const locked = await attempt(default_password);
    assert.equal(locked.status, 429, 'the right password does not open a locked door');
    assert.match(locked.headers['retry-after'], /^\d+$/);
    await eventually('the door opens again', async () => (await attempt(default_password)).status === 200, {
      within_ms: 15000,
      every_ms: 250,
    });
  });

  test('a second factor is asked for, each code is good once, and a recovery code helps who has lost it', async () => {
    const { browser, email } = await somebody('totp');
    const begun = await browser.data('POST', paths.totp);
    assert.match(begun.url ?? begun.uri ?? begun.otpauth_url, /^otpauth:\/\/totp\//);
    const { secret } = begun;
    const wrong = await browser.post(`${paths.totp}/confirm`, { code: totp_code(secret, 100) });
    assert.ok(wrong.status >= 400 && wrong.status < 500);
    const confirmed = await browser.data('POST', `${paths.totp}/confirm`, { code: totp_code(secret, -1) });
    const codes = confirmed.recovery_codes;
    assert.ok(codes.length >= 8, 'recovery codes are shown once');
    const attempt = (more) => new Browser(s.server.url).post(paths.sign_in, { email, password: default_password, ...more });
    const asked = await attempt();
    const told = asked.json();
    assert.ok((told.data?.needs_totp ?? false) || asked.status === 401, asked.text);
    assert.equal(asked.cookies.length, 0, 'no session without the second factor');
    assert.notEqual((await attempt({ totp: '000000' })).cookies.length, 1);
    const code = totp_code(secret);
    assert.equal((await attempt({ totp: code })).status, 200);
    assert.equal((await attempt({ totp: code })).cookies.length, 0, 'a code that was seen is of no use');
    assert.equal((await attempt({ totp: codes[0] })).cookies.length, 1);
    assert.equal((await attempt({ totp: codes[0] })).cookies.length, 0, 'a recovery code is good once');
    // The platform's login asks for it, too.
    const login = await new Browser(s.server.url).request('POST', paths.login, {
      form: { username: email, password: default_password },
    });
    assert.equal(login.status, 401);
    const rows = JSON.stringify(await s.server.sql('select * from recovery_codes'));
    assert.ok(!codes.some((c) => rows.includes(c)), 'recovery codes are kept as hashes');
    const off = await browser.request('DELETE', paths.totp, { json: { password: default_password, code: codes[1] } });
    assert_status(off, 200);
    assert.equal((await attempt()).cookies.length, 1);
  });

  test('passwords that are too short or too long and addresses that are none are refused', async () => {
    for (const [body, member] of [
      [{ email: 'nobody', password: default_password }, 'email'],
      [{ email: `${'x'.repeat(250)}@example.com`, password: default_password }, 'email'],
      [{ email: 'a b@example.com', password: default_password }, 'email'],
      [{ email: 'x@example.com\r\nBcc: y@example.com', password: default_password }, 'email'],
      [{ email: fresh_email('p'), password: 'short' }, 'password'],
      [{ email: fresh_email('p'), password: 'x'.repeat(100000) }, 'password'],
      [{ email: fresh_email('p') }, 'password'],
    ]) {
      const answer = await new Browser(s.server.url).post(paths.sign_up, { name: 'x', ...body });
      if (answer.status === 413) continue;
      assert.equal(assert_platform_error(answer, 400, 'invalid_request').details.param, member, answer.text);
    }
  });

  test('an operator is a person of another kind', async () => {
    const operator = await new_operator(s.server, 'boss@example.com');
    const token = await jwt_of(s.server, operator.email, operator.password);
    const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
    assert.ok(claims.roles.some((role) => /operator/i.test(role)), `${claims.roles}`);
    const { email } = await somebody('plain');
    const plain = JSON.parse(Buffer.from((await jwt_of(s.server, email)).split('.')[1], 'base64url'));
    assert.ok(!plain.roles.some((role) => /operator/i.test(role)));
  });
});

test('a mail server that asks for a password gets it, and one that fails for a while gets the mail later', async () => {
  const { FakeSmtp } = await import('../support/fake_smtp.mjs');
  const smtp = await FakeSmtp.start({ username: 'nebula', password: 'pässword' });
  const s = await stage({
    env: { TEST_SMTP_PASSWORD: 'pässword' },
    sections: {
      smtp: { host: smtp.address, username: 'nebula', password_env: 'TEST_SMTP_PASSWORD', from: 'hello@nebula.test', require_tls: false },
    },
  });
  try {
    smtp.refuse = () => (smtp.refused < 1 ? '451 come back later' : undefined);
    await new_customer(s.server, smtp, 'patient@example.com', { sign_in: false });
    const mail = smtp.to('patient@example.com')[0];
    assert.deepEqual([mail.user, mail.from], ['nebula', 'hello@nebula.test']);
    assert.match(mail.headers.from, /hello@nebula\.test/);
    assert.match(mail.headers.to, /patient@example\.com/);
    assert.ok(mail.headers['message-id'] && mail.headers.date);
    assert.ok(!s.server.output.includes('pässword'));
  } finally {
    await s.close();
    await smtp.stop();
  }
});

test('without a mail server the link is in the log of the operator', async () => {
  const s = await stage();
  try {
    const { browser } = await new_customer(s.server, null, 'logged@example.com');
    assert.equal(await is_in(browser), true);
  } finally {
    await s.close();
  }
});

test('sign-up by invitation only takes who was invited, and closed takes nobody', async () => {
  for (const sign_up of ['invite', 'closed']) {
    const s = await people_stage({ people: { sign_up } });
    try {
      const answer = await new Browser(s.server.url).post(paths.sign_up, {
        email: 'uninvited@example.com',
        password: default_password,
        name: 'x',
      });
      assert.equal(answer.status, 403, answer.text);
      assert.equal(s.smtp.messages.length, 0);
      assert.ok(!JSON.stringify(await s.server.sql('select email from users')).includes('uninvited'));
    } finally {
      await s.close();
    }
  }
});

describe('single sign-on', () => {
  let s;
  let oidc;
  before(async () => {
    oidc = await FakeOidc.start();
    s = await people_stage({
      env: { TEST_OIDC_SECRET: oidc.client_secret },
      sections: { oidc: { issuer: oidc.issuer, client_id: oidc.client_id, client_secret_env: 'TEST_OIDC_SECRET' } },
    });
  });
  after(async () => {
    await s?.close();
    await oidc?.stop();
  });

  /** Follows every redirect that a browser would follow, between us and the provider. */
  async function sign_on(browser, { change = (url) => url } = {}) {
    let at = new URL(`${paths.oidc}/start`, s.server.url);
    let answer;
    for (let hop = 0; hop < 6; hop += 1) {
      const ours = at.origin === new URL(s.server.url).origin;
      answer = await (ours ? browser : new Browser(at.origin)).get(at.pathname + at.search, {
        headers: { 'sec-fetch-site': 'cross-site' },
      });
      if (answer.status < 300 || answer.status >= 400) break;
      const next = new URL(answer.headers.location, at);
      if (next.origin === oidc.issuer) at = next;
      // The port is the system's choice, so the configured address of the console may not have it.
      else if (next.pathname.startsWith(paths.oidc)) at = change(new URL(next.pathname + next.search, s.server.url));
      else break;
    }
    return answer;
  }

  test('a person of the provider signs in, and is the same person the next time', async () => {
    oidc.person = { sub: 'ada', email: 'ada@sso.example', name: 'Ada', email_verified: true };
    const browser = new Browser(s.server.url);
    await sign_on(browser);
    const me = await browser.data('GET', paths.me);
    assert.deepEqual([me.email, me.name], ['ada@sso.example', 'Ada']);
    const again = new Browser(s.server.url);
    oidc.person = { ...oidc.person, email: 'renamed@sso.example' };
    await sign_on(again);
    assert.equal((await again.data('GET', paths.me)).id, me.id, 'it is the subject that counts');
  });

  for (const lie of lies)
    test(`a provider’s token is refused: ${lie.replaceAll('_', ' ')}`, async () => {
      oidc.person = { sub: `liar-${lie}`, email: `${lie}@sso.example`, name: 'L', email_verified: true };
      oidc.lies = lie;
      try {
        const browser = new Browser(s.server.url);
        await sign_on(browser);
        assert.equal(await is_in(browser), false);
        const users = JSON.stringify(await s.server.sql('select email from users'));
        assert.ok(!users.includes(`${lie}@sso.example`), 'nobody was made');
      } finally {
        oidc.lies = null;
      }
    });

  test('an answer with another state, a used code, or in another browser is refused', async () => {
    oidc.person = { sub: 'eve', email: 'eve@sso.example', name: 'Eve', email_verified: true };
    const forged = new Browser(s.server.url);
    await sign_on(forged, {
      change: (url) => {
        url.searchParams.set('state', 'forged');
        return url;
      },
    });
    assert.equal(await is_in(forged), false);
    // Who is lured to somebody else's answer must not become that person.
    let stolen;
    const victim = new Browser(s.server.url);
    await sign_on(victim, {
      change: (url) => {
        stolen = url;
        return new URL('/console/api/nowhere', s.server.url);
      },
    });
    const lured = new Browser(s.server.url);
    await lured.get(stolen.pathname + stolen.search, { headers: { 'sec-fetch-site': 'cross-site' } });
    assert.equal(await is_in(lured), false, 'an answer belongs to the browser that asked');
  });

  test('somebody who has a password here is not taken over by an unverified address', async () => {
    const { email, browser } = await s.customer('local@example.com');
    oidc.person = { sub: 'mallory', email, name: 'Mallory', email_verified: false };
    const mallory = new Browser(s.server.url);
    await sign_on(mallory);
    assert.equal(await is_in(mallory), false);
    assert.equal(await is_in(browser), true);
  });

  test('the provider’s new keys are fetched', async () => {
    oidc.rotate();
    oidc.person = { sub: 'grace', email: 'grace@sso.example', name: 'Grace', email_verified: true };
    const browser = new Browser(s.server.url);
    await sign_on(browser);
    assert.equal(await is_in(browser), true);
  });

  test('a refusal by the provider signs nobody in', async () => {
    oidc.denies = true;
    try {
      const browser = new Browser(s.server.url);
      await sign_on(browser);
      assert.equal(await is_in(browser), false);
    } finally {
      oidc.denies = false;
    }
  });
});
