// What an operator does to other people's accounts, and how the books are held against a provider's own.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { model } from '../support/nebula.mjs';
import { new_operator, people_stage } from '../support/session.mjs';

let s;
before(async () => {
  s = await people_stage({ models: [model('demo/chat:1', { upstream: 'up/chat' })] });
});
after(() => s?.close());

const ask = (key) => s.server.chat({ key });

test('a suspended account is refused from then on, keeps its console, and goes on when it is resumed', async () => {
  const operator = await new_operator(s.server);
  const customer = await s.customer('stopped@example.com');
  await s.server.cli_json('credits', 'grant', customer.account, '10');
  const { key } = await s.server.key(customer.account);
  const path = `/console/api/operator/accounts/${customer.account}/suspension`;
  assert.equal((await ask(key)).status, 200);
  assert.equal((await customer.browser.post(path, { reason: 'me' })).status, 403);
  assert.equal((await operator.browser.post(path, {})).status, 400);
  assert.equal((await operator.browser.post(path.replace(/acc_\w+/, 'acc_nobody'), { reason: 'x' })).status, 404);
  const made = await operator.browser.data('POST', path, { reason: 'card reported stolen' });
  assert.equal(made.suspended, true);
  const refused = await ask(key);
  assert.equal(refused.status, 402, refused.text);
  assert.match(refused.json().error.message, /suspended/);
  assert.equal((await customer.browser.get('/console/api/billing/summary')).status, 200);
  const shown = await s.server.cli_json('accounts', 'show', customer.account, '--json');
  assert.equal(shown.suspended.reason, 'card reported stolen');
  const log = (await customer.browser.data('GET', '/console/api/activity')).map((row) => row.action);
  assert.ok(log.includes('Suspend'), `${log}`);
  assert.equal((await operator.browser.delete(path)).status, 200);
  assert.equal((await operator.browser.delete(path)).status, 404);
  assert.equal((await ask(key)).status, 200);
  await s.server.cli_json('accounts', 'suspend', customer.account, '--reason', 'again');
  assert.equal((await ask(key)).status, 402);
  await s.server.cli_json('accounts', 'resume', customer.account);
  assert.equal((await ask(key)).status, 200);
});

test("a provider's export is held against the records, day by day", async () => {
  const { id, key } = await s.server.account('reconciled', { credit: '10' });
  assert.equal((await ask(key)).status, 200);
  await s.server.settled(id);
  // Everybody's requests of today: what the records of all accounts say.
  let requests = 0;
  const sum = { input_tokens: 0, output_tokens: 0 };
  for (const account of await s.server.cli_json('accounts', 'list', '--json'))
    for (const one of await s.server.cli_json('usage', 'list', account.id, '--json')) {
      requests += 1;
      for (const name of Object.keys(sum)) sum[name] += one[name];
    }
  const day = new Date().toISOString().slice(0, 10);
  const file = join(s.server.dir, 'export.csv');
  const reconcile = async (output, ...more) => {
    const head = 'day,model,input_tokens,output_tokens,requests';
    await writeFile(file, `${head}\n${day},up/chat,${sum.input_tokens},${output},${requests}\n`);
    const flags = ['--provider', 'fake', '--date-column', 'day', '--json', ...more];
    const { code, stdout, stderr } = await s.server.cli('billing', 'reconcile', file, ...flags);
    return { code, rows: stdout ? JSON.parse(stdout) : stderr };
  };
  const same = await reconcile(sum.output_tokens);
  assert.equal(same.code, 0, JSON.stringify(same.rows));
  assert.equal(same.rows[0].output, sum.output_tokens);
  const more = await reconcile(sum.output_tokens + 1);
  assert.equal(more.code, 1);
  assert.equal(more.rows[0].verdict, 'outside');
  assert.equal((await reconcile(sum.output_tokens + 1, '--tolerance', '50')).code, 0);
});
