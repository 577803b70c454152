// A team is an account that several people share: what each may do follows from role and permissions, and every change
// is in its log.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import {
  assert_platform_error,
  assert_status,
  join_team,
  jwt_of,
  new_team,
  people_stage,
  token_of,
} from '../support/session.mjs';
import { link_in } from '../support/fake_smtp.mjs';

let s;
before(async () => {
  s = await people_stage();
});
after(() => s?.close());

let serial = 0;
const somebody = (name) => s.customer(`${name}${(serial += 1)}@example.com`);
const find = async (browser, id) => (await browser.data('GET', '/api/v1/teams')).find((t) => t.id === id);

test('a team is made, found, described and deleted by its owner', async () => {
  const owner = await somebody('ada');
  const made = await owner.browser.post('/api/v1/teams', { name: 'Analytical', description: 'engines' });
  assert_status(made, 200);
  assert.equal(made.json().message, 'Team created successfully');
  const team = made.json().data;
  assert.deepEqual([team.name, team.description], ['Analytical', 'engines']);
  const listed = await find(owner.browser, team.id);
  assert.deepEqual([listed.role, listed.members], [0, 1]);
  assert.equal(typeof listed.created_at, 'number');
  assert.equal(listed.owner.name, owner.email.split('@')[0]);
  assert.equal((await owner.browser.data('GET', `/api/v1/teams/${team.id}`)).name, 'Analytical');
  const gone = assert_status(await owner.browser.delete(`/api/v1/teams/${team.id}`), 200);
  assert.equal(gone.json().message, 'Team deleted successfully');
  assert.equal(await find(owner.browser, team.id), undefined);
  assert.equal((await owner.browser.get(`/api/v1/teams/${team.id}`)).status, 404);
});

test('an invitation is mailed, shown, and accepted by the invited person alone', async () => {
  const [owner, guest, thief] = [await somebody('owner'), await somebody('guest'), await somebody('thief')];
  const team = await new_team(owner.browser, 'Guests');
  const before = s.smtp.to(guest.email).length;
  const invited = await owner.browser.post(`/api/v1/teams/${team.id}/members`, {
    email: guest.email,
    role: 1,
    permissions: ['inference:read', 'inference:write'],
  });
  assert.equal(assert_status(invited, 200).json().message, 'Team member invited successfully');
  const { token } = invited.json().data;
  const mail = await s.smtp.mail_to(guest.email, { after: before });
  assert.equal(token_of(link_in(mail.text)), token);
  assert.equal((await guest.browser.data('GET', `/api/v1/teams/invitations/${token}`)).team?.name ?? 'Guests', 'Guests');
  // A link that was forwarded or stolen is of no use to somebody else, and says nothing.
  const stolen = await thief.browser.post(`/api/v1/teams/invitations/${token}`);
  assert.ok([403, 404].includes(stolen.status), `${stolen.status} ${stolen.text}`);
  assert.equal(await find(thief.browser, team.id), undefined);
  await guest.browser.data('POST', `/api/v1/teams/invitations/${token}`);
  const seen = await find(guest.browser, team.id);
  assert.deepEqual([seen.role, seen.members], [1, 2]);
  const again = await guest.browser.post(`/api/v1/teams/invitations/${token}`);
  assert.ok(again.status >= 400, 'an invitation is good once');
  const members = await owner.browser.data('GET', `/api/v1/teams/${team.id}/members`);
  const list = Array.isArray(members) ? members : members.members;
  assert.deepEqual(list.map((m) => m.email ?? m.user?.email).sort(), [guest.email, owner.email].sort());
});

test('a member uses what was granted and nothing else; an admin manages members', async () => {
  const [owner, admin, member] = [await somebody('owner'), await somebody('admin'), await somebody('member')];
  const team = await new_team(owner.browser, 'Rights');
  await join_team(owner.browser, team, admin, { role: 2 });
  await join_team(owner.browser, team, member, { permissions: ['inference:write'] });
  await s.server.cli_json('credits', 'grant', team.id, '5');
  const say = { model: 'demo/chat:1', messages: [{ role: 'user', content: 'fake:ok' }] };
  // The team pays: the member has nothing of its own.
  const token = await jwt_of(s.server, member.email);
  const headers = { 'x-nebula-team': team.id };
  assert.equal((await s.server.call({ key: token, headers, body: say })).status, 200);
  assert.equal((await s.server.call({ key: token, body: say })).status, 402);
  assert_platform_error(await team.as(member.browser).get('/api/v1/users/credits'), 403, 'forbidden');
  assert_platform_error(await team.as(member.browser).post('/api/v1/keys', { name: 'x' }), 403, 'forbidden');
  assert_platform_error(
    await team.as(member.browser).post(`/api/v1/teams/${team.id}/members`, { email: 'a@example.com' }),
    403,
    'forbidden',
  );
  assert.equal((await team.as(member.browser).delete(`/api/v1/teams/${team.id}`)).status, 403);
  // The admin may, but not delete the team.
  const extra = await somebody('extra');
  await join_team(team.as(admin.browser), team, extra, { permissions: ['billing:read'] });
  assert_status(await team.as(extra.browser).get('/api/v1/users/credits'), 200);
  assert.equal((await team.as(admin.browser).delete(`/api/v1/teams/${team.id}`)).status, 403);
});

test('who is removed or leaves loses the team at once', async () => {
  const [owner, one, two] = [await somebody('owner'), await somebody('one'), await somebody('two')];
  const team = await new_team(owner.browser, 'Short');
  for (const guest of [one, two]) await join_team(owner.browser, team, guest, { permissions: ['billing:read'] });
  const look = (who) => team.as(who.browser).get('/api/v1/users/credits');
  assert.deepEqual([(await look(one)).status, (await look(two)).status], [200, 200]);
  assert_status(await owner.browser.delete(`/api/v1/teams/${team.id}/members/${one.id}`), 200, 'remove');
  assert.equal((await look(one)).status, 404);
  assert_status(await two.browser.post(`/api/v1/teams/${team.id}/leave`), 200, 'leave');
  assert.equal((await look(two)).status, 404);
  const owner_leaves = await owner.browser.post(`/api/v1/teams/${team.id}/leave`);
  assert.ok(owner_leaves.status >= 400 && owner_leaves.status < 500, 'a team is never without an owner');
});

test('a team is handed over', async () => {
  const [owner, heir] = [await somebody('owner'), await somebody('heir')];
  const team = await new_team(owner.browser, 'Heritage');
  await join_team(owner.browser, team, heir);
  assert_status(await owner.browser.post(`/api/v1/teams/${team.id}/transfer`, { user_id: heir.id }), 200, 'transfer');
  assert.equal((await find(heir.browser, team.id)).role, 0);
  assert.notEqual((await find(owner.browser, team.id)).role, 0);
  assert.equal((await owner.browser.delete(`/api/v1/teams/${team.id}`)).status, 403);
  assert_status(await heir.browser.delete(`/api/v1/teams/${team.id}`), 200);
});

test('the team of others looks like none', async () => {
  const [owner, stranger] = [await somebody('owner'), await somebody('stranger')];
  const team = await new_team(owner.browser, 'Hidden');
  const real = await stranger.browser.get(`/api/v1/teams/${team.id}`);
  const none = await stranger.browser.get('/api/v1/teams/acc_00000000000001');
  const anonymous = (answer) => answer.text.replaceAll(/req_\w+/g, '');
  assert.deepEqual([real.status, anonymous(real)], [none.status, anonymous(none)]);
  assert.equal(real.status, 404);
  for (const [method, path, body] of [
    ['DELETE', `/api/v1/teams/${team.id}`],
    ['GET', `/api/v1/teams/${team.id}/members`],
    ['POST', `/api/v1/teams/${team.id}/members`, { email: stranger.email }],
    ['GET', `/api/v1/users/credits?team_id=${team.id}`],
    ['GET', `/api/v1/keys?team_id=${team.id}`],
  ]) {
    const answer = await stranger.browser.request(method, path, { json: body });
    assert.equal(answer.status, 404, `${method} ${path}: ${answer.status} ${answer.text}`);
  }
  assert.equal((await find(owner.browser, team.id)).members, 1);
});

test('every change is in the log of the account, with who made it', async () => {
  const [owner, guest] = [await somebody('owner'), await somebody('guest')];
  const team = await new_team(owner.browser, 'Logged');
  await join_team(owner.browser, team, guest);
  const key = await team.as(owner.browser).data('POST', '/api/v1/keys', { name: 'logged key' });
  await team.as(owner.browser).data('DELETE', `/api/v1/keys/${key.id}`);
  const log = assert_status(await team.as(owner.browser).get('/api/v1/users/user-activity?page_size=50&page=1'), 200).json();
  assert.equal(log.status, 'success');
  assert.equal(log.pagination.current_page, 1);
  assert.equal(log.pagination.total_records, log.data.length);
  assert.equal(log.pagination.has_next, false);
  const seen = log.data.map((row) => [row.user_email, row.action, row.resource]);
  assert.ok(seen.some(([who, action, what]) => who === owner.email && action === 'Create' && what === 'Team'), `${seen}`);
  assert.ok(seen.some(([who, action, what]) => who === owner.email && action === 'Create' && what === 'API Key'), `${seen}`);
  assert.ok(seen.some(([who, action, what]) => who === owner.email && action === 'Delete' && what === 'API Key'), `${seen}`);
  assert.ok(seen.some(([who]) => who === guest.email), `${seen}`);
  assert.ok(!log.data.some((row) => JSON.stringify(row).includes('sk-neb-') && !/…|\.\.\./.test(JSON.stringify(row))));
  const first = (await team.as(owner.browser).get('/api/v1/users/user-activity?page_size=1&page=1')).json();
  assert.deepEqual([first.data.length, first.pagination.has_next], [1, true]);
});
