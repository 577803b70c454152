// A person at a browser: keeps cookies as a browser does, sends the headers a browser sends, and follows the links
// of the mails it gets. `Browser` is the client; the functions below are what people do with it.

import assert from 'node:assert/strict';
import http from 'node:http';
import { createHmac } from 'node:crypto';
import { FakeSmtp, link_in } from './fake_smtp.mjs';
import { engines } from './nebula.mjs';
import { stage } from './stage.mjs';
import { eventually } from './wait.mjs';

/** Where the console's operations are. */
export const paths = {
  sign_up: '/console/api/auth/sign-up',
  verify: '/console/api/auth/verify',
  sign_in: '/console/api/auth/sign-in',
  sign_out: '/console/api/auth/sign-out',
  sign_out_all: '/console/api/auth/sign-out-all',
  reset_request: '/console/api/auth/password-reset',
  reset: '/console/api/auth/password-reset/confirm',
  password: '/console/api/me/password',
  me: '/console/api/me',
  sessions: '/console/api/sessions',
  totp: '/console/api/totp',
  oidc: '/console/api/oidc',
  login: '/api/v1/login',
};

/** One request with node's plain client: no header is added that is not named here. */
export function fetch_raw(base, { method = 'GET', path = '/', headers = {}, body, agent, within_ms = 20000 } = {}) {
  const url = new URL(path, base);
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: agent ?? false, timeout: within_ms }, (response) => {
      const parts = [];
      response.on('data', (b) => parts.push(b));
      response.on('error', reject);
      response.on('end', () => {
        const bytes = Buffer.concat(parts);
        resolve({
          status: response.statusCode,
          headers: response.headers,
          body: bytes,
          text: bytes.toString('utf8'),
          json: () => JSON.parse(bytes.toString('utf8')),
        });
      });
    });
    request.on('timeout', () => request.destroy(new Error(`no answer in ${within_ms} ms: ${method} ${path}`)));
    request.on('error', reject);
    request.end(body);
  });
}

function parse_cookie(text) {
  const [pair, ...attributes] = text.split(/;\s*/);
  const equals = pair.indexOf('=');
  const out = { name: pair.slice(0, equals), value: pair.slice(equals + 1), flags: {} };
  for (const attribute of attributes) {
    const [name, value] = attribute.split('=');
    out.flags[name.toLowerCase()] = value ?? true;
  }
  return out;
}

export class Browser {
  /** `base`: URL of the server. `headers`: sent with every request (of an API client: `{ authorization }`). */
  constructor(base, { headers = {} } = {}) {
    this.base = base;
    this.headers = headers;
    this.cookies = new Map();
  }

  /** Another client with these credentials and no cookies. */
  with_bearer(token) {
    return new Browser(this.base, { headers: { authorization: `Bearer ${token}` } });
  }

  /** The same person's browser at another node. */
  at(base) {
    const other = new Browser(base, { headers: this.headers });
    other.cookies = new Map(this.cookies);
    return other;
  }

  async request(method, path, { json, form, headers = {}, body, cross_site = false, ...rest } = {}) {
    const sent = { ...this.headers };
    if (this.cookies.size > 0) sent.cookie = [...this.cookies].map(([k, v]) => `${k}=${v}`).join('; ');
    let payload = body;
    if (json !== undefined) {
      payload = JSON.stringify(json);
      sent['content-type'] = 'application/json';
    } else if (form !== undefined) {
      payload = new URLSearchParams(form).toString();
      sent['content-type'] = 'application/x-www-form-urlencoded';
    }
    if (payload !== undefined) sent['content-length'] = Buffer.byteLength(payload);
    else if (method !== 'GET' && method !== 'HEAD') sent['content-length'] = 0;
    sent['sec-fetch-site'] = cross_site ? 'cross-site' : 'same-origin';
    Object.assign(sent, headers);
    for (const [name, value] of Object.entries(sent)) if (value === null) delete sent[name];
    const answer = await fetch_raw(this.base, { method, path, headers: sent, body: payload, ...rest });
    answer.cookies = (answer.headers['set-cookie'] ?? []).map(parse_cookie);
    for (const { name, value, flags } of answer.cookies) {
      const gone = value === '' || flags['max-age'] === '0' || new Date(flags.expires ?? '9999-01-01') < new Date();
      if (gone) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    return answer;
  }

  get(path, options) {
    return this.request('GET', path, options);
  }
  post(path, json, options) {
    return this.request('POST', path, { json, ...options });
  }
  put(path, json, options) {
    return this.request('PUT', path, { json, ...options });
  }
  patch(path, json, options) {
    return this.request('PATCH', path, { json, ...options });
  }
  delete(path, options) {
    return this.request('DELETE', path, options);
  }

  /** The `data` of an answer that must be a success in the platform's envelope; the console answers bare objects, too. */
  async data(method, path, json, options) {
    const answer = await this.request(method, path, { json, ...options });
    assert.ok(answer.status >= 200 && answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
    const body = answer.json();
    if (path.startsWith('/console/') && body.status !== 'success') return body;
    assert.equal(body.status, 'success', `${method} ${path}: ${answer.text}`);
    return body.data;
  }
}

export function assert_status(answer, status, what = '') {
  assert.equal(answer.status, status, `${what}: ${answer.status} ${answer.text}`);
  return answer;
}

/** An error in the platform's and the console's envelope; returns its `error`. */
export function assert_platform_error(answer, status, code) {
  assert.equal(answer.status, status, `${answer.status} ${answer.text}`);
  const body = answer.json();
  assert.equal(body.status, 'error', answer.text);
  assert.equal(typeof body.error.code, 'string', answer.text);
  assert.ok(body.message.length > 0, answer.text);
  if (code !== undefined) assert.equal(body.error.code, code, answer.text);
  return body.error;
}

export const default_password = 'correct horse battery';

/** The token of a link: its query member or last path segment, wherever the link keeps it. */
export function token_of(link) {
  const url = new URL(link);
  const inside = new URLSearchParams(url.hash.includes('?') ? url.hash.slice(url.hash.indexOf('?')) : '');
  return url.searchParams.get('token') ?? inside.get('token') ?? url.href.split('/').at(-1);
}

/** The link that was mailed, or logged where there is no mail server. */
export async function mailed_link(server, smtp, email, { after = 0, word = '' } = {}) {
  if (smtp) {
    const mail = await smtp.mail_to(email, { after });
    const link = link_in(mail.text, word);
    assert.ok(link, `no link in the mail: ${mail.text}`);
    return link;
  }
  return eventually(`a link for ${email} in the log`, () => {
    const at = server.output.lastIndexOf(email);
    return at >= 0 && link_in(server.output.slice(at).replace(/\\n/g, '\n'), word);
  });
}

/** Signs up, follows the mailed link and signs in: `{ browser, email, password, id, account }`. */
export async function new_customer(server, smtp, email, { password = default_password, name, sign_in = true } = {}) {
  const browser = new Browser(server.url);
  const before = smtp?.to(email).length ?? 0;
  const signed_up = await browser.post(paths.sign_up, { email, password, name: name ?? email.split('@')[0] });
  assert.ok([200, 201].includes(signed_up.status), `sign-up: ${signed_up.status} ${signed_up.text}`);
  const token = token_of(await mailed_link(server, smtp, email, { after: before }));
  assert_status(await browser.post(paths.verify, { token }), 200, 'verify');
  const customer = { browser, email, password };
  if (sign_in) await sign_in_as(browser, email, password);
  if (sign_in) Object.assign(customer, await who_am_i(browser));
  return customer;
}

export async function sign_in_as(browser, email, password = default_password, more = {}) {
  return assert_status(await browser.post(paths.sign_in, { email, password, ...more }), 200, `sign-in of ${email}`);
}

/** `{ id, account }` of the signed-in person. */
export async function who_am_i(browser) {
  const me = await browser.data('GET', paths.me);
  return { me, id: me.id, account: me.account?.id ?? me.account };
}

/** A token of the platform's login, to be sent as bearer. */
export async function jwt_of(server, email, password = default_password) {
  const answer = await new Browser(server.url).request('POST', paths.login, { form: { username: email, password } });
  return assert_status(answer, 200, 'login').json().data.jwtToken;
}

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

function from_base32(text) {
  let bits = '';
  for (const letter of text.replace(/[=\s]/g, '').toUpperCase()) bits += base32.indexOf(letter).toString(2).padStart(5, '0');
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)));
}

/** RFC 6238 with SHA-1, six digits, 30 seconds; `steps` before or after now. */
export function totp_code(secret, steps = 0, now = Date.now()) {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(now / 30000) + steps));
  const mac = createHmac('sha1', from_base32(secret)).update(counter).digest();
  const at = mac[19] & 15;
  return ((mac.readUInt32BE(at) & 0x7fffffff) % 1000000).toString().padStart(6, '0');
}

/** The scene of a journey with people: stage.mjs's, a mail server, and no limit on attempts to sign in from here. */
export async function people_stage({ people, sections, ...options } = {}) {
  const smtp = await FakeSmtp.start();
  try {
    const s = await stage({
      engine: engines[0],
      ...options,
      sections: {
        smtp: { host: smtp.address, require_tls: false },
        people: { sign_in_ip_rpm: 0, ...people },
        ...sections,
      },
    });
    return {
      ...s,
      smtp,
      customer: (email, how) => new_customer(s.server, smtp, email, how),
      async close() {
        await s.close();
        await smtp.stop();
      },
    };
  } catch (error) {
    await smtp.stop();
    throw error;
  }
}

/** An operator made on the command line, signed in. */
export async function new_operator(server, email = 'root@example.com') {
  const { password } = await server.cli_json('users', 'create', email, '--role', 'operator', '--json');
  const browser = new Browser(server.url);
  await sign_in_as(browser, email, password);
  return { browser, email, password };
}

/** A team of the signed-in person: `{ id, name, as(browser) }`; `as` gives the browser acting for the team. */
export async function new_team(owner, name) {
  const team = await owner.data('POST', '/api/v1/teams', { name, description: `${name}, a team` });
  return { ...team, as: (browser) => acting_for(browser, team.id) };
}

/** The same credentials, acting for a team; cookies are shared with the original. */
export function acting_for(browser, team) {
  const other = new Browser(browser.base, { headers: { ...browser.headers, 'x-nebula-team': team } });
  other.cookies = browser.cookies;
  return other;
}

/** Invites a person and lets them accept. `role`: 1 member, 2 admin. */
export async function join_team(owner, team, guest, { role = 1, permissions } = {}) {
  const more = permissions === undefined ? {} : { permissions };
  const invitation = await owner.data('POST', `/api/v1/teams/${team.id}/members`, { email: guest.email, role, ...more });
  await guest.browser.data('POST', `/api/v1/teams/invitations/${invitation.token}`);
  return invitation;
}
