// A key that may use some models only must find these, and no others, in every list of every API: what a list shows
// and the key is then refused is a trap for the client that chooses from it.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { model } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';

const media = { endpoints: ['images'], unit: 'image', price_unit: '0.01' };
let s;
let limited;
before(async () => {
  s = await stage({
    models: [
      model('mine/chat:1', { aliases: ['gpt-mine'] }),
      model('mine/vectors', { endpoints: ['embeddings'] }),
      model('mine/painter', media),
      model('other/chat', { aliases: ['gpt-other'] }),
      model('other/vectors', { endpoints: ['embeddings'] }),
      model('other/painter', media),
    ],
  });
  limited = (await s.server.key(s.account.id, { model: ['mine/*'] })).key;
});
after(() => s?.close());

const get = (path, key, more) => s.server.call({ method: 'GET', path, key, ...more });
const ids = ['mine/chat:1', 'mine/vectors', 'mine/painter', 'other/chat', 'other/vectors', 'other/painter'];
const lists = [
  ['/v1/models', (j) => j.data.filter((m) => !m.alias_of).map((m) => m.id)],
  ['/openai/v1/models', (j) => j.data.map((m) => m.id)],
  ['/openai/models', (j) => j.data.map((m) => m.id)],
  ['/v3/openai/models', (j) => j.data.map((m) => m.id)],
  ['/anthropic/v1/models', (j) => j.data.map((m) => m.id)],
  ['/api/tags', (j) => j.models.map((m) => m.name)],
  ['/api/ps', (j) => j.models.map((m) => m.name)],
  ['/v3/model', (j) => j.models.map((m) => m.name), 'painter'],
  ['/api/v1/models', (j) => j.data.map((m) => m.id), , 'open'],
  ['/api/models', (j) => j.data.filter((m) => !m.alias_of).map((m) => m.id), , 'open'],
  ['/api/v1/serverless/models', (j) => j.data.models.map((m) => m.model_name), , 'open'],
  ['/api/v1/embeddings/models', (j) => j.data.map((m) => m.id), 'vectors', 'open'],
  ['/api/v1/images/models', (j) => j.data.map((m) => m.id), 'painter', 'open'],
];

test('every list shows a key what it may use, and everything to a key without such a limit', async () => {
  for (const [path, read, kind = '', open] of lists) {
    const all = ids.filter((id) => id.includes(kind));
    const mine = all.filter((id) => id.startsWith('mine/'));
    const seen = async (key) => {
      const answer = await get(path, key);
      assert.equal(answer.status, 200, `${path}: ${answer.text}`);
      return read(answer.json());
    };
    assert.deepEqual(await seen(limited), mine, path);
    assert.deepEqual(await seen(s.account.key), all, path);
    if (!open) continue;
    assert.deepEqual(await seen(undefined), all, `${path} without a key`);
    assert.deepEqual(await seen(`${limited.slice(0, -1)}_`), all, `${path} with a key that is none`);
  }
  const count = async (key) => (await get('/api/v1/models/count', key)).json().data.count;
  assert.deepEqual([await count(limited), await count(s.account.key), await count()], [3, 6, 6]);
  const by_version = (await get('/v1/models', limited, { headers: { 'anthropic-version': '2023-06-01' } })).json();
  assert.deepEqual([by_version.first_id, by_version.last_id, by_version.data.length], ['mine/chat:1', 'mine/painter', 3]);
  const aliases = (await get('/v1/models', limited)).json().data.filter((m) => m.alias_of);
  assert.deepEqual(aliases.map((m) => m.id), ['gpt-mine'], 'aliases are those of its models');
});

test('a model that the key may not use is none to it, in the words of the API', async () => {
  const client = new OpenAI({ apiKey: limited, baseURL: `${s.server.url}/v1`, maxRetries: 0 });
  assert.equal((await client.models.retrieve('mine/chat:1')).id, 'mine/chat:1');
  for (const name of ['other/chat', 'gpt-other', 'no/such'])
    await assert.rejects(client.models.retrieve(name), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, 'model_not_found');
      return true;
    });
  const show = (name, key) => s.server.call({ path: '/api/show', key, body: JSON.stringify({ model: name }) });
  const load = (name, key) => s.server.call({ path: '/api/generate', key, body: JSON.stringify({ model: name }) });
  const asked = {
    '/v1/models/': (j) => j.error.code === 'model_not_found',
    '/openai/v1/models/': (j) => j.code === 404 || j.error || j.message,
    '/anthropic/v1/models/': (j) => j.error.type === 'not_found_error',
    '/api/v1/model/': (j) => j.error.code === 404,
    '/api/v1/models/': (j) => j.error.code === 404,
  };
  for (const [path, is_told] of Object.entries(asked)) {
    const refused = await get(`${path}other/chat`, limited);
    const missing = await get(`${path}no/such`, limited);
    assert.deepEqual([refused.status, missing.status], [404, 404], path);
    assert.ok(is_told(refused.json()), refused.text);
    const plain = (answer) => answer.text.replaceAll('other/chat', 'no/such').replace(/req_\w+/g, '');
    assert.equal(plain(refused), plain(missing), `${path}: nothing tells it apart from a model that is not there`);
    assert.equal((await get(`${path}other/chat`, s.account.key)).status, 200, path);
    assert.equal((await get(`${path}mine/chat:1`, limited)).status, 200, path);
  }
  assert.equal((await get('/api/v1/models/other/chat/endpoints', limited)).status, 404);
  assert.equal((await get('/api/v1/model/other/chat')).status, 200, 'without a key it is public');
  for (const ask of [show, load]) {
    assert.deepEqual([(await ask('other/chat', limited)).status, (await ask('mine/chat:1', limited)).status], [404, 200]);
    assert.match((await ask('other/chat', limited)).json().error, /not found/);
    assert.equal((await ask('other/chat', s.account.key)).status, 200);
  }
});
