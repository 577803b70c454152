// What an operator's providers look like to clients of OpenRouter's lists, and how their health is found out in the
// background.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { OpenRouter } from '@openrouter/sdk';
import { FakeProvider, parse_script as parse } from '../support/fake_provider.mjs';
import { model, provider } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';
import { eventually } from '../support/wait.mjs';

describe("OpenRouter's lists", () => {
  let [other, s, client] = [];
  before(async () => {
    other = await FakeProvider.start();
    const one = await FakeProvider.start();
    s = await stage({
      providers: [
        provider('one', one.base_url, { region: 'DE', supported_parameters: ['temperature', 'tools'] }),
        provider('two', other.base_url, { slug: 'second' }),
      ],
      models: [
        model('acme/big', {
          context_length: 100000,
          price_input_per_m: '3',
          strategy: 'ordered',
          aliases: ['gpt-4o'],
          routes: [
            { provider: 'one', model: 'b', price_input_per_m: '2.5', quantization: 'fp8' },
            { provider: 'two', model: 'b', tag: 'turbo' },
          ],
        }),
        model('acme/small', { price_input_per_m: '0.1', price_output_per_m: '0.1', routes: [{ provider: 'two', model: 's' }] }),
        model('plain', { endpoints: ['embeddings'], price_input_per_m: '1', routes: [{ provider: 'one', model: 'p' }] }),
      ],
    });
    s.one = one;
    client = new OpenRouter({
      apiKey: s.account.key,
      serverURL: `${s.server.url}/api/v1`,
      retryConfig: { strategy: 'none' },
    });
  });
  after(async () => {
    await s?.close();
    await s?.one.stop();
    await other.stop();
  });
  const get = async (path) => {
    const answer = await s.server.call({ method: 'GET', path, key: s.account.key });
    return { status: answer.status, json: answer.json() };
  };
  const ids = async (query) => (await get(`/api/v1/models?${query}`)).json.data.map((one) => one.id);

  test('its client, which checks every answer, takes the endpoints of a model, with what was measured', async () => {
    for (let i = 0; i < 3; i += 1)
      assert.equal((await s.server.chat({ key: s.account.key, model: 'acme/big', content: 'hello' })).status, 200);
    s.one.queue.push(parse('status status=500'));
    await s.server.chat({ key: s.account.key, model: 'acme/big', content: 'hello' });
    const { data } = await client.endpoints.list({ author: 'acme', slug: 'big' });
    assert.equal(data.id, 'acme/big');
    const [one, two] = data.endpoints;
    assert.deepEqual(
      [one.providerName, one.tag, one.quantization, one.pricing.prompt, one.status],
      ['one', 'one', 'fp8', '0.0000025', 0],
    );
    assert.deepEqual([two.providerName, two.tag, two.pricing.prompt], ['two', 'second/turbo', '0.000003']);
    assert.equal(one.uptimeLast30m, 75);
    assert.equal(two.uptimeLast5m, 100);
    assert.ok(one.latencyLast30m.p50 > 0);
    assert.deepEqual(one.supportedParameters, ['temperature', 'tools']);
  });

  test('and providers, the count, and a model by its name or its alias', async () => {
    const { data } = await client.providers.list();
    assert.deepEqual(data.map((p) => [p.name, p.slug]), [
      ['one', 'one'],
      ['two', 'second'],
    ]);
    assert.equal((await client.models.count()).data.count, 3);
    assert.equal((await get('/api/v1/model/acme/big')).json.data.id, 'acme/big');
    assert.equal((await get('/api/v1/model/gpt-4o')).json.data.id, 'acme/big');
    assert.equal((await get('/api/v1/models/acme/none/endpoints')).status, 404);
    assert.equal((await get('/api/v1/model/none')).status, 404);
    assert.equal((await get('/api/v1/models/plain/endpoints')).json.data.endpoints.length, 1);
  });

  test('the list of models follows its query', async () => {
    assert.deepEqual(await ids('sort=pricing-low-to-high'), ['acme/small', 'plain', 'acme/big']);
    assert.deepEqual(await ids('sort=context-high-to-low&limit=1'), ['acme/big']);
    assert.deepEqual(await ids('q=SMALL'), ['acme/small']);
    assert.deepEqual(await ids('context=50000'), ['acme/big']);
    assert.deepEqual(await ids('max_price=1'), ['acme/small', 'plain']);
    assert.deepEqual(await ids('min_price=2'), ['acme/big']);
    assert.deepEqual(await ids('category='), ['acme/big', 'acme/small', 'plain']);
    assert.deepEqual(await ids('category=programming'), [], 'a filter that finds nothing filters all the same');
    assert.deepEqual(await ids('output_modalities=embeddings'), ['plain']);
    assert.deepEqual(await ids('supported_parameters=seed'), ['acme/big', 'acme/small']);
    const page = (await get('/api/v1/models?limit=2&q=a')).json;
    assert.deepEqual([page.data.length, page.total_count], [2, 3]);
    assert.deepEqual((await get(page.links.next)).json.data.map((one) => one.id), ['plain']);
    for (const bad of ['sort=beauty', 'limit=0', 'offset=x', 'max_price=cheap'])
      assert.equal((await get(`/api/v1/models?${bad}`)).status, 400, bad);
  });

  test('aliases stand in the list of OpenAI clients and say what they mean', async () => {
    const list = await s.client.models.list();
    const alias = list.data.find((one) => one.id === 'gpt-4o');
    assert.equal(alias.alias_of, 'acme/big');
    assert.equal(list.data.filter((one) => !one.alias_of).length, 3);
  });
});

test('a dead provider is found out and a healed one used again without a request having to fail', async () => {
  const first = await FakeProvider.start();
  const second = await FakeProvider.start();
  const options = { breaker_open_ms: 600000, probe_path: '/v1/models', probe_interval_ms: 50, connect_timeout_ms: 500 };
  const s = await stage({
    providers: [provider('first', first.base_url, options), provider('second', second.base_url)],
    models: [
      model('demo/chat:1', {
        strategy: 'ordered',
        routes: [
          { provider: 'first', model: 'one' },
          { provider: 'second', model: 'two' },
        ],
      }),
    ],
  });
  const is_open = () => s.server.metric('nebula_upstream_breaker_open', { provider: 'first' });
  try {
    const ask = () => s.server.chat({ key: s.account.key, content: 'hello' });
    assert.equal((await ask()).status, 200);
    assert.equal(first.records.length, 1);
    await eventually('it is probed', async () => (await s.server.metric('nebula_upstream_probes_total', { result: 'alive' })) > 1);
    await first.stop();
    await eventually('its breaker is open', async () => (await is_open()) === 1);
    const fallbacks = await s.server.metric('nebula_upstream_failures_total', { provider: 'first' });
    assert.equal((await ask()).status, 200);
    assert.equal(second.records.length, 1);
    assert.equal(await s.server.metric('nebula_upstream_failures_total', { provider: 'first' }), fallbacks);
    const again = await FakeProvider.start({ port: first.port });
    try {
      await eventually('its breaker is closed long before its time', async () => (await is_open()) === 0);
      assert.equal((await ask()).status, 200);
      assert.equal(again.records.length, 1);
    } finally {
      await again.stop();
    }
  } finally {
    await s.close(); // with probes in progress
    await second.stop();
  }
});
