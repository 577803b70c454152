// Not every token costs the same: what a provider read from or wrote to its cache, what it thought, and the request
// itself may have prices of their own. What is charged must be what the provider reported times what the lists say.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { check_receipt } from '../support/money.mjs';
import { engines, model } from '../support/nebula.mjs';
import { charge_of, read_stream, stage } from '../support/stage.mjs';

const apart = {
  price_input_per_m: '3',
  price_output_per_m: '15',
  price_cached_input_per_m: '0.30',
  price_cache_write_per_m: '3.75',
  price_reasoning_per_m: '20',
  price_request: '0.001',
  price_unit: '0.04',
  unit: 'image',
};
// 100 prompt tokens, 60 of them cached and 30 written; 4 thoughts, 5 words.
const script = 'fake:ok frames=5 prompt_tokens=100 cached=60 written=30';
const expected = 10n * 3000n + 60n * 300n + 30n * 3750n + 4n * 20000n + 5n * 15000n + 1000000n;
const asked = { kind: 'ok', frames: 5, prompt_tokens: 100, cached: 60, written: 30, reasoning: 'so let me think' };

for (const engine of engines) {
  let s;
  before(async () => {
    s = await stage({ engine, models: [model('apart', apart), model('plain')] });
  });
  after(() => s?.close());

  test(`${engine}: cache writes, reasoning and requests are charged at their own prices`, async () => {
    const { server, fake, client, account } = s;
    const messages = [{ role: 'user', content: script }];
    for (const stream of [false, true]) {
      fake.queue.push(asked);
      const { charge } = await charge_of(server, account, async () => {
        const answer = await client.chat.completions.create({ model: 'apart', messages, stream });
        if (stream) await read_stream(answer);
      });
      assert.equal(charge, expected, `stream ${stream}`);
    }
    // Where a model does not price them apart they are what they always were.
    fake.queue.push(asked);
    const plain = await charge_of(server, account, () =>
      client.chat.completions.create({ model: 'plain', messages }),
    );
    assert.equal(plain.charge, 100n * 1000n + 9n * 2000n);

    const data = await server.cli_json('usage', 'list', account.id, '--json');
    for (const record of data)
      assert.deepEqual(
        [record.input_tokens, record.cached_tokens, record.cache_write_tokens, record.output_tokens, record.reasoning_tokens],
        [100, 60, 30, 9, 4],
      );
    for (const { id } of data) {
      const { stdout: text } = await server.cli('receipts', 'show', account.id, id, '--json');
      const receipt = check_receipt(text);
      assert.deepEqual([receipt.cache_write_tokens, receipt.reasoning_tokens, receipt.units], [30, 4, undefined]);
    }
    await server.verify_ledger();

    // The prices that the records were charged at, recorded later, change nothing; the model's alone are rated.
    const set = ['--input', '3', '--output', '15', '--cached-input', '0.3', '--request', '0.001'];
    const more = ['--cache-write', '3.75', '--reasoning', '20', '--from', '2020-01-01T00:00:00Z'];
    await server.cli_json('billing', 'set-price', 'apart', ...set, ...more);
    const rerate = ['billing', 'rerate', '--from', '2020-01-01T00:00:00Z', '--to', '2100-01-01T00:00:00Z', '--json'];
    assert.equal((await server.cli_json(...rerate)).difference, '0');
    await server.verify_ledger();
  });

  test(`${engine}: the lists tell the prices, each in its own unit`, async () => {
    const { server, account } = s;
    const openrouter = (await server.call({ method: 'GET', path: '/api/v1/models' })).json().data;
    const prices_of = (id) => openrouter.find((one) => one.id === id).pricing;
    assert.deepEqual(prices_of('apart'), {
      prompt: '0.000003',
      completion: '0.000015',
      request: '0.001',
      image: '0.04',
      web_search: '0',
      internal_reasoning: '0.00002',
      input_cache_read: '0.0000003',
      input_cache_write: '0.00000375',
    });
    const plain = prices_of('plain');
    assert.deepEqual([plain.image, plain.internal_reasoning, plain.input_cache_write], ['0', '0', '0.000001']);
    for (const base of ['/openai/v1', '/openai', '/v3/openai']) {
      const list = await server.call({ method: 'GET', path: `${base}/models`, key: account.key });
      const one = list.json().data.find((each) => each.id === 'apart');
      assert.deepEqual(
        [one.input_token_price_per_m, one.output_token_price_per_m, one.context_size, one.title, one.model_type],
        [30000, 150000, 32768, 'apart', 'chat'],
      );
      assert.deepEqual(one.endpoints, ['chat/completions', 'responses']);
      const alone = await server.call({ method: 'GET', path: `${base}/models/apart`, key: account.key });
      assert.deepEqual(alone.json(), one);
    }
  });
}
