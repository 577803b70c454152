// Every route of the running program, asked by everybody there is. What must happen follows from the one word that the
// route was registered with, so a new route is tested the day it is added, and one without such a word fails here.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { model } from '../support/nebula.mjs';
import { acting_for, Browser, join_team, jwt_of, new_operator, new_team, paths, people_stage } from '../support/session.mjs';

const all_permissions = [
  'inference:read',
  'inference:write',
  'storage:read',
  'storage:write',
  'instance:read',
  'instance:write',
  'billing:read',
  'billing:write',
  'keys:read',
  'keys:write',
  'team:write',
];

// Routes that need no credentials at all. Whoever adds one must add it here and say why it may be open.
const open_routes = [
  'GET /api/models', // the credit API's public list
  'GET /api/v1/models', // OpenRouter's public list, and the platform's
  'GET /api/v1/serverless/models',
  'GET /api/v1/models/count',
  'GET /api/v1/model/{id*}',
  'GET /api/v1/embeddings/models', // parts of the same list
  'GET /api/v1/images/models',
  /^(GET|HEAD) \/(api\/version)?$/, // asked by Ollama's clients before anything else
  'HEAD /api/blobs/{digest}', // there is none, whoever asks
  'GET /console/api/plans', // the price list
  'GET /console/api/packages',
  'GET /healthz', // asked by balancers, and telling nothing
  'GET /readyz',
  'POST /api/v1/login', // how credentials are got
  'GET /.well-known/nebula-receipt-key', // a public key is for everybody
  'POST /api/v1/payment/webhook', // signed by the payment provider
  'POST /webhooks/stripe', // the same
  /^(GET|POST) \/console\/api\/auth\//, // signing up and in, resetting, verifying
  /^GET \/console\/api\/oidc\//, // the way to the identity provider and back
  'GET /api/v1/teams/invitations/{token}', // who was invited may look before signing up: the token is the credential
  'GET /console/api/teams/invitations/{token}',
];

let s;
let routes;
let roles;

const persons_access = (who) => ({ kind: 'person', permissions: all_permissions, role: 'owner', ...who });

async function signed_in(email, password, team) {
  const browser = new Browser(s.server.url).with_bearer(await jwt_of(s.server, email, password));
  return team ? acting_for(browser, team) : browser;
}

before(async () => {
  const text = ['chat', 'completions', 'embeddings', 'rerank', 'moderations'];
  const media = ['images', 'image_edits', 'image_variations', 'speech', 'transcriptions', 'translations'];
  const endpoints = [...text, ...media];
  s = await people_stage({ limits: { credits_ip_rpm: 0 }, models: [model('all', { endpoints })] });
  const owner = await s.customer('owner@example.com');
  const outsider = await s.customer('outsider@example.com');
  const admin = await s.customer('admin@example.com');
  const member = await s.customer('member@example.com');
  const bare = await s.customer('bare@example.com');
  const operator = await new_operator(s.server);
  const team = await new_team(owner.browser, 'Matrix');
  await join_team(owner.browser, team, admin, { role: 2 });
  await join_team(owner.browser, team, member, { permissions: ['inference:read', 'inference:write', 'billing:read'] });
  await join_team(owner.browser, team, bare, { permissions: [] });
  const permissions_in_team = async (person) =>
    (await person.browser.data('GET', '/api/v1/teams')).find((t) => t.id === team.id).scopes;
  const key = async (options) => new Browser(s.server.url).with_bearer((await s.server.key(team.id, options)).key);

  roles = {
    anyone: { kind: 'anyone', open: () => new Browser(s.server.url) },
    'a customer': persons_access({ login: [owner.email, owner.password] }),
    'an operator': persons_access({ login: [operator.email, operator.password], is_operator: true }),
    'the owner of a team': persons_access({ login: [owner.email, owner.password], team: team.id }),
    'an admin of the team': persons_access({
      login: [admin.email, admin.password],
      team: team.id,
      role: 'admin',
      permissions: await permissions_in_team(admin),
    }),
    'a member with permissions': persons_access({
      login: [member.email, member.password],
      team: team.id,
      role: 'member',
      permissions: await permissions_in_team(member),
    }),
    'a member without': persons_access({
      login: [bare.email, bare.password],
      team: team.id,
      role: 'member',
      permissions: await permissions_in_team(bare),
    }),
    'a stranger naming the team': persons_access({ login: [outsider.email, outsider.password], team: team.id, is_stranger: true }),
    'a key with every permission': { kind: 'key', permissions: all_permissions, browser: await key({ permission: all_permissions }) },
    'a key for looking at bills': { kind: 'key', permissions: ['billing:read'], browser: await key({ permission: ['billing:read'] }) },
  };
  assert.deepEqual(roles['a member with permissions'].permissions.toSorted(), ['billing:read', 'inference:read', 'inference:write']);
  assert.deepEqual(roles['a member without'].permissions, []);
  routes = await s.server.cli_json('routes', 'list', '--json');
});
after(() => s?.close());

/** allowed | unauthenticated | forbidden | not_found: what the access word means for somebody. */
function expected(access, who, calls_a_model) {
  const [word, ...rest] = access.split(':');
  if (word === 'anyone') return 'allowed';
  if (who.kind === 'anyone') return 'unauthenticated';
  if (who.is_stranger) return 'not_found';
  const may = {
    caller: () => who.kind === 'person' || who.kind === 'key',
    person: () => who.kind === 'person',
    account: () => who.permissions.includes(rest.join(':')),
    team_admin: () => who.kind === 'person' && who.role !== 'member',
    team_owner: () => who.kind === 'person' && who.role === 'owner',
    operator: () => who.kind === 'person' && who.is_operator === true,
    // Any valid key may look at models; calling one needs the permission.
    key: () => !calls_a_model || who.permissions.includes('inference:write'),
  }[word];
  assert.ok(may, `unknown access word ${access}`);
  return may() ? 'allowed' : 'forbidden';
}

// Paths of inference that are posted to and run nothing.
const without_a_model = /\/(show|pull|push|create|copy|\{digest\})$/;

// A refusal by the guard, told from what an operation itself answers (a wrong password is a 401, too). Novita's dialect
// has 403 for every wrong key, the credit API 401 for whatever a key may not.
const refusals = {
  unauthenticated: [[401, 403], /sign in, or send an API key|invalid API key|API key is (missing|not valid)|INVALID_API_KEY/i],
  forbidden: [[403, 401], /not allowed to do that|may not call models/i],
  not_found: [[404], /there is no such team/i],
};

function refusal(answer) {
  for (const [name, [statuses, words]] of Object.entries(refusals))
    if (statuses.includes(answer.status) && words.test(answer.text)) return name;
  return 'allowed';
}

/** A path of the pattern that names nothing that is there. */
const concrete = (pattern) =>
  pattern
    .replace(/\{[^}]*token[^}]*\}/g, 'nosuchtoken')
    .replace(/\{(\w+)\*\}/g, 'no/such')
    .replace(/\{\w+\}/g, '4611686018427387904');

// What every kind of inference takes; nobody here has credits, so who is allowed gets a 402.
function inference_request(path) {
  if (/\/images\/(edits|variations)$/.test(path)) {
    const part = (head, text) => `--b\r\ncontent-disposition: form-data; ${head}\r\n\r\n${text}\r\n`;
    const body = `${part('name=model', 'all')}${part('name=prompt', 'x')}${part('name=image; filename=a.png', 'png')}--b--\r\n`;
    return { body, headers: { 'content-type': 'multipart/form-data; boundary=b' } };
  }
  const own = path.endsWith('/responses')
    ? {}
    : { messages: [{ role: 'user', content: 'hello' }], prompt: 'hello', query: 'hello', documents: ['hello'], max_tokens: 5 };
  const media = { image: 'https://images.example/a.png', input_audio: { data: 'UklGRg==', format: 'wav' } };
  return { json: { model: 'all', input: 'hello', ...own, .../\/(vision|audio)\//.test(path) ? media : {} } };
}

test('every route says who may call it', () => {
  assert.ok(routes.length > 40, `${routes.length} routes`);
  const known = /^(anyone|caller|person|team_admin|team_owner|operator|key|account:[a-z]+:[a-z]+)$/;
  const unguarded = routes.filter((r) => !known.test(r.access));
  assert.deepEqual(unguarded, []);
  const undeclared = routes
    .filter((r) => r.access === 'anyone')
    .map((r) => `${r.method} ${r.path}`)
    .filter((name) => !open_routes.some((open) => (open instanceof RegExp ? open.test(name) : open === name)));
  assert.deepEqual(undeclared, [], 'open routes that nobody has declared');
  for (const route of routes.filter((r) => r.access.startsWith('account:')))
    assert.ok(all_permissions.includes(route.access.slice('account:'.length)), route.access);
});

test('every route answers every role as its word says', async (t) => {
  let asked = 0;
  const wrong = [];
  // What may end a session comes last.
  const order = routes.toSorted((a, b) => rank(a) - rank(b));
  for (const [name, who] of Object.entries(roles)) {
    let browser = who.browser ?? who.open?.() ?? (await signed_in(...who.login, who.team));
    for (const route of order) {
      // Stored responses are prompts and answers: they are for who may make them.
      const calls_a_model =
        (route.method === 'POST' && !without_a_model.test(route.path)) || route.path.includes('/responses/');
      const want = expected(route.access, who, calls_a_model);
      const has_body = !['GET', 'DELETE', 'HEAD'].includes(route.method);
      const request = route.access === 'key' ? inference_request(route.path) : { json: {} };
      const answer = await browser.request(route.method, concrete(route.path), has_body ? request : {});
      asked += 1;
      let got = refusal(answer);
      // The team that the path names is not there; the guard's answer would be about the one that is acted for.
      if (want === 'allowed' && got === 'not_found' && route.path.includes('{')) got = 'allowed';
      const line = `${route.method} ${route.path} (${route.access}) as ${name}: ${answer.status} ${answer.text.slice(0, 160)}`;
      if (got !== want) wrong.push(`${line}; expected ${want}`);
      else if (answer.status >= 500 && answer.status !== 503) wrong.push(line);
      if (who.login && rank(route) > 0) browser = await signed_in(...who.login, who.team);
    }
  }
  t.diagnostic(`${routes.length} routes, ${Object.keys(roles).length} roles, ${asked} requests`);
  assert.deepEqual(wrong, []);
});

const rank = (route) => (/sign-out|sessions|password|totp|\/me$/.test(route.path) && route.method !== 'GET' ? 1 : 0);

test('the cookie of a session may do what the token of a login may', async () => {
  const person = await s.customer('cookie@example.com');
  for (const route of routes.filter((r) => r.method === 'GET' && /^(person|account)/.test(r.access) && !r.path.includes('{'))) {
    const by_cookie = await person.browser.get(concrete(route.path));
    assert.equal(refusal(by_cookie), 'allowed', `${route.path}: ${by_cookie.status} ${by_cookie.text}`);
  }
  assert.equal((await person.browser.get(paths.me)).status, 200);
});
