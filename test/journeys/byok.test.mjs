// Customers may bring their own key for a provider: it must be used for them and nobody else, cost the fee and no more,
// and never be seen again, neither in an answer nor in a log nor in the database.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { check_receipt } from '../support/money.mjs';
import { engines, model } from '../support/nebula.mjs';
import { charge_of, price_of, read_stream, stage } from '../support/stage.mjs';
import { dollars, eventually, nanos } from '../support/wait.mjs';

const secret = 'sk-customers-own-key-0123456789';
const messages = [{ role: 'user', content: 'fake:ok frames=6' }];

for (const engine of engines) {
  let s;
  before(async () => {
    s = await stage({
      engine,
      models: [model('demo/chat:1'), model('other')],
      provider: { api_key_env: 'OUR_KEY' },
      env: { OUR_KEY: 'sk-ours' },
    });
  });
  after(() => s?.close());

  const byok = (method, at = '', body = undefined, key = s.account.key) =>
    s.server.call({ method, path: `/api/v1/byok${at}`, key, body });
  const sent_key = () => s.fake.last.headers.authorization;

  test(`${engine}: a customer's own key is used for him alone and costs the fee`, async () => {
    const { server, client, account } = s;
    const full = await charge_of(server, account, () => client.chat.completions.create({ model: 'demo/chat:1', messages }));
    assert.equal(full.charge, price_of(7, 6));
    assert.equal(sent_key(), 'Bearer sk-ours');

    const made = await byok('POST', '', { provider: 'fake', key: secret, name: 'mine', allowed_models: ['demo/chat:1'] });
    assert.equal(made.status, 201, made.text);
    const { data } = made.json();
    assert.deepEqual(Object.keys(data), [
      'id',
      'provider',
      'workspace_id',
      'label',
      'name',
      'disabled',
      'is_fallback',
      'allowed_models',
      'allowed_api_key_hashes',
      'allowed_user_ids',
      'sort_order',
      'created_at',
      'always_use',
    ]);
    assert.deepEqual([data.provider, data.label, data.name, data.disabled], ['fake', 'sk-...6789', 'mine', false]);
    assert.ok(!made.text.includes(secret));

    for (const stream of [false, true]) {
      const { charge, result } = await charge_of(server, account, async () => {
        const answer = await client.chat.completions.create({ model: 'demo/chat:1', messages, stream }).withResponse();
        if (stream) await read_stream(answer.data);
        return answer.response.headers.get('x-nebula-byok');
      });
      assert.equal(sent_key(), `Bearer ${secret}`);
      assert.equal(charge, price_of(7, 6) / 20n, 'five percent');
      assert.equal(result, 'true');
    }
    const openrouter = await server.call({
      path: '/api/v1/chat/completions',
      key: account.key,
      body: { model: 'demo/chat:1', messages },
    });
    const { usage } = openrouter.json();
    assert.equal(usage.is_byok, true, openrouter.text);
    const { upstream_inference_cost: whole, ...parts } = usage.cost_details;
    assert.equal(nanos(whole.toFixed(9)), price_of(7, 6));
    assert.equal(
      nanos(parts.upstream_inference_prompt_cost.toFixed(9)) + nanos(parts.upstream_inference_completions_cost.toFixed(9)),
      price_of(7, 6),
    );
    // Another model, and another customer, are served with our key at the whole price.
    const elsewhere = await charge_of(server, account, () => client.chat.completions.create({ model: 'other', messages }));
    assert.equal(elsewhere.charge, price_of(7, 6));
    assert.equal(sent_key(), 'Bearer sk-ours');
    const stranger = await server.account('stranger', { credit: '1' });
    const theirs = await server.chat({ key: stranger.key, content: 'fake:ok' });
    assert.equal(theirs.headers['x-nebula-byok'], undefined);
    assert.equal(sent_key(), 'Bearer sk-ours');

    // A customer whose own key is used up must not keep others from the provider.
    await byok('PATCH', `/${data.id}`, { always_use: true });
    s.fake.queue.push({ kind: 'status', status: 429, retry_after: 60 });
    const used_up = await server.chat({ key: account.key, content: 'fake:ok' });
    assert.equal(used_up.status, 429, used_up.text);
    await byok('PATCH', `/${data.id}`, { always_use: false });
    assert.equal((await server.chat({ key: stranger.key, content: 'fake:ok' })).status, 200);

    const records = await server.cli_json('usage', 'list', account.id, '--json');
    assert.deepEqual(
      records.map((one) => one.is_byok),
      [false, true, true, true, false],
    );
    const { stdout } = await server.cli('receipts', 'show', account.id, records[1].id, '--json');
    assert.equal(check_receipt(stdout).byok_ppm, 50000);
    const file = path.join(server.dir, 'receipt.json');
    fs.writeFileSync(file, stdout);
    assert.equal((await server.cli('receipts', 'check', file)).code, 0);

    // Rating anew by the list price leaves the share as it is.
    const at = ['--from', '2020-01-01T00:00:00Z'];
    await server.cli_json('billing', 'set-price', 'demo/chat:1', '--input', '1', '--output', '2', ...at);
    const rerated = await server.cli_json('billing', 'rerate', ...at, '--to', '2100-01-01T00:00:00Z', '--json');
    assert.equal(rerated.difference, '0');
    await server.verify_ledger();

    // It is nowhere to be read.
    assert.ok(!server.output.includes(secret), 'the log');
    for (const at_ of ['', `/${data.id}`]) assert.ok(!(await byok('GET', at_)).text.includes(secret));
    if (engine === 'sqlite')
      for (const name of fs.readdirSync(path.join(server.dir, 'data')).filter((one) => one.startsWith('nebula.db')))
        assert.ok(!fs.readFileSync(path.join(server.dir, 'data', name)).includes(secret), name);
    assert.equal(fs.statSync(path.join(server.dir, 'data/secrets.key')).mode & 0o777, 0o600);
  });

  test(`${engine}: where it fails ours is asked at the whole price, unless that is forbidden`, async () => {
    const { server, fake } = s;
    // The price of a whole request and not a nano-dollar more: the hold must cover the dearer of the two keys.
    const account = await server.account('falls back', { credit: '100' });
    const own = (method, at, body) => byok(method, at, body, account.key);
    const { data } = (await own('POST', '', { provider: 'fake', key: secret })).json();
    const statuses = [429, 401, 500];
    const say = (more) => server.chat({ key: account.key, path: '/api/v1/chat/completions', content: 'fake:ok frames=6', ...more });
    const attempts_of = async (answer) => {
      let attempts;
      const path = `/api/v1/generation?id=${answer.headers['x-request-id']}`;
      await eventually('the request is logged', async () => {
        const told = await server.call({ method: 'GET', path, key: account.key });
        attempts = told.status === 200 && told.json().data;
        return attempts;
      });
      return attempts;
    };
    let paid = 0n;
    for (const status of statuses)
      for (const stream of [false, true]) {
        const from = fake.records.length;
        fake.queue.push({ kind: 'status', status, retry_after: 60 });
        const { charge, result } = await charge_of(server, account, () => say({ stream }));
        assert.equal(result.status, 200, result.text);
        assert.deepEqual(
          fake.records.slice(from).map((r) => r.headers.authorization),
          [`Bearer ${secret}`, 'Bearer sk-ours'],
        );
        assert.equal(charge, price_of(fake.records.at(-1).usage.prompt_tokens, 6), 'the whole price, once');
        paid += charge;
        assert.equal(result.headers['x-nebula-byok'], undefined);
        const told = await attempts_of(result);
        assert.equal(told.is_byok, false);
        assert.equal(told.upstream_inference_cost, null);
        assert.deepEqual(
          told.provider_responses.map((one) => [one.status, one.is_byok]),
          [
            [status, true],
            [200, false],
          ],
        );
      }
    // What was told about the own key is not held against it, and it is the first again.
    const { charge: fee, result: good } = await charge_of(server, account, () => say());
    assert.equal(fake.last.headers.authorization, `Bearer ${secret}`);
    const price = price_of(fake.records.at(-1).usage.prompt_tokens, 6);
    assert.equal(fee, (price + 19n) / 20n);
    const told = await attempts_of(good);
    assert.deepEqual([told.is_byok, told.provider_responses.map((one) => one.is_byok)], [true, [true]]);
    assert.equal(nanos(told.upstream_inference_cost.toFixed(9)), price);

    // Forbidden by the request, or by the key.
    const forbid = async (act) => {
      const from = fake.records.length;
      fake.queue.push({ kind: 'status', status: 429 });
      const { charge, result } = await charge_of(server, account, act);
      assert.deepEqual([result.status, charge, fake.records.length - from], [429, 0n, 1], result.text);
      assert.equal(fake.last.headers.authorization, `Bearer ${secret}`);
    };
    await forbid(() => say({ body: { provider: { allow_fallbacks: false } } }));
    await own('PATCH', `/${data.id}`, { always_use: true });
    await forbid(() => say());

    // A fallback is the other way round.
    await own('PATCH', `/${data.id}`, { always_use: false, is_fallback: true });
    await say();
    assert.equal(fake.last.headers.authorization, 'Bearer sk-ours');
    fake.queue.push({ kind: 'status', status: 429 });
    const { charge: last, result } = await charge_of(server, account, () => say());
    assert.equal(fake.last.headers.authorization, `Bearer ${secret}`);
    assert.equal(last, (price + 19n) / 20n);
    assert.equal(result.headers['x-nebula-byok'], 'true');

    // The figures of the key are sums of these.
    const used = (await server.call({ method: 'GET', path: '/api/v1/key', key: account.key })).json().data;
    const listed = 2n * 20n * ((price + 19n) / 20n);
    for (const name of ['byok_usage', 'byok_usage_daily', 'byok_usage_weekly', 'byok_usage_monthly'])
      assert.equal(nanos(used[name].toFixed(9)), listed, name);
    assert.equal(nanos(used.usage.toFixed(9)), paid + price + 2n * ((price + 19n) / 20n));

    // Who can pay the fee but not the price is not served: it may become the price.
    const poor = await server.account('poor', { credit: dollars(price / 2n) });
    assert.equal((await byok('POST', '', { provider: 'fake', key: secret }, poor.key)).status, 201);
    const from = fake.records.length;
    const exact = { 'x-nebula-output-cap': 'exact' };
    const refused = await server.chat({ key: poor.key, content: 'fake:ok', headers: exact, body: { max_tokens: 6 } });
    assert.deepEqual([refused.status, fake.records.length], [402, from], refused.text);

    // What the provider tells about our key holds up the others, and not the customer's own.
    await own('PATCH', `/${data.id}`, { is_fallback: false });
    const plain = await server.account('plain', { credit: '1' });
    fake.queue.push({ kind: 'status', status: 429, retry_after: 60 });
    for (let i = 0; i < 2; i += 1) assert.equal((await server.chat({ key: plain.key, model: 'other' })).status, 429);
    const through = await say({ model: 'other' });
    assert.deepEqual([through.status, through.headers['x-nebula-byok']], [200, 'true'], through.text);
    await server.verify_ledger();
  });

  test(`${engine}: keys are listed, changed and removed by their owner alone`, async () => {
    const { server, account } = s;
    const list = (await byok('GET')).json();
    assert.equal(list.total_count, 1);
    const [{ id }] = list.data;
    const stranger = await server.account('curious', { credit: '1' });
    for (const [method, body] of [
      ['GET'],
      ['PATCH', { disabled: true }],
      ['DELETE'],
    ])
      assert.equal((await byok(method, `/${id}`, body, stranger.key)).status, 404, method);
    assert.deepEqual((await byok('GET', '', undefined, stranger.key)).json(), { data: [], total_count: 0 });

    const bad = [
      [{ key: secret }, 'provider'],
      [{ provider: 'fake' }, 'key'],
      [{ provider: 'nobody', key: secret }, 'provider'],
      [{ provider: 'fake', key: 'two words' }, 'key'],
      [{ provider: 'fake', key: 'a\r\nx: y' }, 'key'],
      [{ provider: 'fake', key: secret, is_fallback: true, always_use: true }, 'always_use'],
      [{ provider: 'fake', key: secret, allowed_user_ids: ['usr_x'] }, 'allowed_user_ids'],
      [{ provider: 'fake', key: secret, sort_order: -1 }, 'sort_order'],
    ];
    for (const [body, param] of bad) {
      const refused = await byok('POST', '', body);
      assert.equal(refused.status, 400, `${param}: ${refused.text}`);
      assert.match(refused.text, new RegExp(param));
      assert.ok(!refused.text.includes(secret));
    }
    assert.equal((await byok('PATCH', `/${id}`, { key: 'sk-new' })).status, 400);

    const changed = await byok('PATCH', `/${id}`, { disabled: true, name: 'resting', allowed_models: null });
    assert.equal(changed.status, 200, changed.text);
    assert.deepEqual([changed.json().data.disabled, changed.json().data.allowed_models], [true, null]);
    await server.chat({ key: account.key, content: 'fake:ok' });
    assert.equal(sent_key(), 'Bearer sk-ours', 'at once');
    await byok('PATCH', `/${id}`, { disabled: false });
    await server.chat({ key: account.key, content: 'fake:ok' });
    assert.equal(sent_key(), `Bearer ${secret}`);

    // It is there after a restart, and gone when it is removed.
    await server.stop();
    await server.launch();
    await server.chat({ key: account.key, content: 'fake:ok' });
    assert.equal(sent_key(), `Bearer ${secret}`);
    assert.deepEqual((await byok('DELETE', `/${id}`)).json(), { deleted: true });
    await server.chat({ key: account.key, content: 'fake:ok' });
    assert.equal(sent_key(), 'Bearer sk-ours');
    assert.equal((await byok('GET', `/${id}`)).status, 404);
    await server.verify_ledger();
  });
}
