// A client of OpenAI's Responses API in front of a provider that has the API itself: its bytes pass, with every feature
// that chat models lack; money, storage, failover and truthful endings stay what they are elsewhere.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { FakeProvider, parse_script as parse } from '../support/fake_provider.mjs';
import { model, provider } from '../support/nebula.mjs';
import { assert_error_body, charge_of, collect, price_of, stage } from '../support/stage.mjs';
import { within } from '../support/wait.mjs';

const calm = { breaker_failures: 100000, connect_timeout_ms: 1000, first_byte_timeout_ms: 400, idle_timeout_ms: 400 };
const to = (...names) => ({ strategy: 'ordered', routes: names.map((name) => ({ provider: name, model: `up-${name}` })) });
const models = [
  model('native', to('native')),
  model('plain', to('plain')),
  model('plain-first', to('plain', 'native')),
  model('native-first', to('native', 'plain')),
  model('bare', to('bare')),
  model('fees', { ...to('native'), unit: 'tool_call', price_unit: '0.01' }),
  model('masked', to('native')),
  model('masked-first', to('plain', 'native')),
  model('watched', to('native')),
  model('cached', { ...to('native'), cache: 'always' }),
  model('dear', { ...to('native'), price_output_per_m: '1000' }),
];
const mask = { kind: 'words', action: 'mask', words: ['aurora'], replacement: '***' };
const rails = [
  { name: 'mask', mode: 'enforce', models: ['masked', 'masked-first'], ...mask },
  { name: 'watch', mode: 'enforce', models: ['watched'], kind: 'words', apply_to: 'output', words: ['aurora'] },
];
const weather = {
  type: 'function',
  name: 'weather',
  strict: true,
  parameters: { type: 'object', properties: { file_id: { type: 'string' } }, required: ['file_id'], additionalProperties: false },
};
const search = { id: 'ws_1', type: 'web_search_call', status: 'completed', action: { type: 'search', query: 'noon' } };

let s;
let plain;
before(async () => {
  plain = await FakeProvider.start();
  s = await stage({
    models,
    providers: (fake) => [
      provider('native', fake.base_url, { ...calm, responses: true, hosted_tools: ['web_search', 'mcp'] }),
      provider('bare', fake.base_url, { ...calm, responses: true }),
      provider('plain', plain.base_url, calm),
    ],
    sections: { guardrail: rails },
  });
});
after(async () => {
  await s?.close();
  await plain?.stop();
});

const create = (input, more = {}) => s.client.responses.create({ model: 'native', input, ...more });
const post = (body, more = {}) => s.server.call({ path: '/v1/responses', key: s.account.key, body, ...more });
const said = (script) => s.fake.queue.push(typeof script === 'string' ? { kind: 'ok', text: script } : { kind: 'ok', ...script });
const sent = () => s.fake.last.body;
const events_of = (response) => response.events().map((data) => JSON.parse(data));
/** What differs between two objects. */
const changes = (a, b) => Object.keys({ ...a, ...b }).filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name]));
const refused = (promise, param) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.status, 400, `${error}`);
    assert.equal(error.param, param);
    return true;
  });

describe('bytes', () => {
  test('a request passes as it was written, but for the model, who keeps it, and who shall answer', async () => {
    const body = (id, store, rest) =>
      `{ "model" : "${id}",\n"input":[ {"role":"user","content":"h\\u00e9"} ] , ${rest}"include":["reasoning.encrypted_content"],` +
      `"unheard_of":{"a": [1,2.50]},"store" :${store},"truncation":"auto","tools":[{"type":"custom","name":"grep"}] }`;
    said('ok');
    const answer = await post(body('native', 'true', '"provider":{"only":["native"]},  "session_id":"x" , '));
    assert.equal(answer.status, 200, answer.text);
    assert.equal(s.fake.last.path, '/v1/responses');
    assert.equal(s.fake.last.body_bytes.toString(), body('up-native', 'false', ''));
    assert.equal(s.fake.last.headers['accept'], 'application/json');
  });

  test('a request that says nothing about storing is not kept at the provider either', async () => {
    said('ok');
    await post('{"model":"native","input":"x"}');
    assert.equal(s.fake.last.body_bytes.toString(), '{"store":false,"model":"up-native","input":"x"}');
  });

  test('an answer passes but for its id and where it is stored', async () => {
    for (const store of [true, false]) {
      said({ text: 'Noon.', encrypted: 'c2VhbGVk', reasoning: 'hm', summary: true, items: [search] });
      const { charge, result } = await charge_of(s.server, s.account, () =>
        post({ model: 'native', input: 'x', store, metadata: { a: 'b' }, instructions: 'Be brief.' }),
      );
      const told = result.json();
      assert.deepEqual([told.id, told.store], [`resp_${result.headers['x-request-id'].slice(4)}`, store]);
      assert.equal(told.output[0].encrypted_content, 'c2VhbGVk');
      assert.deepEqual(told.output[1], search);
      assert.equal(told.usage.input_tokens, 7);
      assert.equal(charge, price_of(7, 2));
      const fetched = await post(undefined, { method: 'GET', path: `/v1/responses/${told.id}` });
      assert.equal(fetched.status, store ? 200 : 404);
      if (store) assert.equal(fetched.text, result.text);
    }
  });

  test('a stream passes event by event, and ends behind its charge', async () => {
    said({ text: 'It is noon.', encrypted: 'c2VhbGVk', items: [search], comments: true, done: true });
    const { charge, result } = await charge_of(s.server, s.account, () => post({ model: 'native', input: 'x', stream: true }));
    assert.equal(result.complete, true);
    const events = events_of(result);
    assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
    const marked = events.filter((e) => e.response);
    assert.deepEqual(marked.map((e) => e.type), ['response.created', 'response.in_progress', 'response.completed']);
    const id = `resp_${result.headers['x-request-id'].slice(4)}`;
    for (const { response } of marked) assert.deepEqual([response.id, response.store], [id, true]);
    assert.equal(events.find((e) => e.item?.encrypted_content).item.encrypted_content, 'c2VhbGVk');
    assert.match(result.text, /^: PROCESSING\n\nevent: response.created\ndata: /);
    assert.equal(charge, price_of(7, 3));
    assert.deepEqual((await s.client.responses.retrieve(id)).output, marked[2].response.output);
  });

  test('whatever the packets, the stream is the same', async () => {
    const texts = [];
    for (const packets of ['frame', 'bytes', 'odd', 'pairs']) {
      said({ text: 'It is noon.', packets, calls: [{ id: 'call_1', name: 'weather', arguments: '{"a":1}' }] });
      const { text } = await post({ model: 'native', input: 'x', stream: true, store: false });
      texts.push(text.replace(/resp_\w+/g, 'resp').replace(/(msg|fc)_\d+/g, '$1'));
    }
    assert.equal(new Set(texts).size, 1);
  });

  test('the provider’s refusal is the client’s to read', async () => {
    s.fake.queue.push({ kind: 'status', status: 400, message: 'unknown parameter' });
    const answer = await post({ model: 'native', input: 'x', whim: 1 });
    assert.equal(assert_error_body(answer, 400).message, 'unknown parameter');
  });
});

describe('OpenAI’s own client', () => {
  test('reads JSON and streams', async () => {
    said('It is noon.');
    assert.equal((await create('x')).output_text, 'It is noon.');
    said({ text: 'It is noon.', reasoning: 'hm', summary: true });
    const stream = s.client.responses.stream({ model: 'native', input: 'x' });
    const final = await stream.finalResponse();
    assert.equal(final.output_text, 'It is noon.');
    assert.equal(final.status, 'completed');
  });

  test('calls a tool, tells its result by the last response, and gets a structure', async () => {
    const call = { id: 'call_9', name: 'weather', arguments: '{"file_id":"Paris"}' };
    said({ calls: [call], reasoning: 'which city?' });
    const first = await create('weather?', { tools: [weather] });
    assert.equal(first.output.at(-1).call_id, 'call_9');
    said('{"sky":"rain"}');
    const format = zodTextFormat(z.object({ sky: z.string() }), 'out');
    const second = await s.client.responses.parse({
      model: 'native',
      previous_response_id: first.id,
      input: [{ type: 'function_call_output', call_id: 'call_9', output: 'rain' }],
      text: { format },
    });
    assert.deepEqual(second.output_parsed, { sky: 'rain' });
    assert.equal(second.previous_response_id, first.id);
    assert.equal(sent().previous_response_id, undefined);
    assert.equal(sent().store, false);
    assert.equal(sent().text.format.type, 'json_schema');
    // The whole conversation, without ids that only we know and without thoughts that only a store could find.
    assert.deepEqual(sent().input.map((item) => [item.type ?? 'message', item.id, item.call_id]), [
      ['message', undefined, undefined],
      ['function_call', undefined, 'call_9'],
      ['function_call_output', undefined, 'call_9'],
    ]);
    said('Good bye.');
    const third = await create('thanks', { previous_response_id: second.id, stream: true });
    const events = await collect(third);
    assert.equal(events[0].response.previous_response_id, second.id);
    assert.equal(events.at(-1).response.previous_response_id, second.id);
    assert.deepEqual(sent().input.at(-1), { role: 'user', content: 'thanks' });
    assert.equal(sent().input.length, 5);
    const items = await collect(s.client.responses.inputItems.list(events.at(-1).response.id, { order: 'asc' }));
    assert.equal(items.length, 6, 'with the thoughts of the first answer');
  });

  test('encrypted thoughts go on; plain ones that only the provider’s store could find do not', async () => {
    said({ text: 'one', encrypted: 'c2VhbGVk' });
    const include = ['reasoning.encrypted_content'];
    const first = await create('a', { include, store: false });
    assert.deepEqual(sent().include, include);
    said('two');
    await create([{ role: 'user', content: 'a' }, ...first.output, { role: 'user', content: 'b' }], { include, store: false });
    assert.deepEqual(sent().input[1], first.output[0]);
    said({ text: 'three', reasoning: 'secret' });
    const third = await create('c');
    said('four');
    await create([...third.output, { role: 'user', content: 'd' }]);
    assert.deepEqual(sent().input.map((item) => item.type ?? 'message'), ['message', 'message']);
    said({ text: 'five', encrypted: 'c2VhbGVk' });
    const fifth = await create('e', { include });
    said('six');
    await create('f', { include, previous_response_id: fifth.id });
    assert.deepEqual(sent().input.map((item) => item.encrypted_content ?? item.type), ['message', 'c2VhbGVk', 'message', undefined]);
  });
});

describe('hosted tools', () => {
  const tools = [{ type: 'web_search_preview' }];

  test('pass where the operator allows them, and bound how often they are used', async () => {
    said({ text: 'Noon.', items: [search] });
    await create('x', { tools });
    assert.deepEqual(sent().tools, tools);
    assert.equal(sent().max_tool_calls, 10);
    said({ text: 'Noon.', items: [search] });
    await create('x', { tools, max_tool_calls: 3, tool_choice: { type: 'web_search_preview' } });
    assert.equal(sent().max_tool_calls, 3);
  });

  test('are refused by name where a provider lacks the API or the operator’s leave', async () => {
    const [a, b] = [s.fake.records.length, plain.records.length];
    for (const id of ['plain', 'bare']) await refused(create('x', { model: id, tools }), 'tools');
    await refused(create('x', { tools: [{ type: 'code_interpreter', container: { type: 'auto' } }] }), 'tools');
    await refused(create([{ type: 'tool_search_output', tools: [{ type: 'web_search' }] }]), 'input[0]');
    await refused(create('x', { tools: [{ type: 'mcp', server_url: 'https://example.org', file_id: 'file-1' }] }), 'tools');
    assert.deepEqual([s.fake.records.length, plain.records.length], [a, b]);
  });

  test('are asked of routes that can, whatever stands before them', async () => {
    said({ text: 'Noon.', items: [search] });
    const calls = plain.records.length;
    assert.equal((await create('x', { model: 'plain-first', tools })).output_text, 'Noon.');
    assert.equal(plain.records.length, calls);
    assert.equal(s.fake.last.path, '/v1/responses');
    const only = { only: ['plain'] };
    await refused(create('x', { model: 'plain-first', tools, provider: only }), 'tools');
  });

  test('cost their price for each use', async () => {
    const fee = 10_000_000n;
    for (const stream of [false, true]) {
      said({ text: 'Noon.', items: [search, { ...search, id: 'ws_2' }] });
      const { charge } = await charge_of(s.server, s.account, async () => {
        const answer = await create('x', { model: 'fees', tools, stream });
        if (stream) await collect(answer);
      });
      assert.equal(charge, price_of(7, 1) + 2n * fee);
    }
    said({ text: 'Noon.' });
    const { charge } = await charge_of(s.server, s.account, () => create('x', { model: 'fees' }));
    assert.equal(charge, price_of(7, 1));
  });

  test('a use that was told is paid for although the stream broke', async () => {
    s.fake.queue.push({ kind: 'cut_mid_body', frames: 10, after: 2, items: [search] });
    const { charge, result } = await charge_of(s.server, s.account, () =>
      post({ model: 'fees', input: 'x', tools, stream: true }),
    );
    assert.equal(result.complete, false);
    assert.ok(charge > 10_000_000n && charge < 10_000_000n + price_of(200, 20), `${charge}`);
  });

  test('who leaves behind a use and before the first word pays for it', async () => {
    const { charge } = await charge_of(s.server, s.account, async () => {
      said({ text: 'Noon.', items: [search], hold: 'leave a use' });
      const stream = await create('x', { model: 'fees', tools, stream: true });
      const record = s.fake.last;
      for await (const event of stream) if (event.type === 'response.output_item.done') break;
      stream.controller.abort();
      await within(1000, 'the provider sees the cancellation', record.closed);
    });
    assert.ok(charge > 10_000_000n && charge < 10_000_000n + price_of(60, 15), `${charge}`);
  });

  test('a client of theirs need not wait for the first word', async () => {
    said({ text: 'Noon.', items: [search], hold: 'word' });
    const stream = await create('x', { tools, stream: true });
    for await (const event of stream) if (event.type === 'response.web_search_call.completed') break;
    s.fake.open('word');
  });
});

describe('what lies in the operator’s account at the provider', () => {
  const part = (members) => [{ role: 'user', content: [members] }];
  const rows = {
    'a file': [{ input: part({ type: 'input_file', file_id: 'file-1' }) }, /file/],
    'a picture': [{ input: part({ type: 'input_image', file_id: 'file-1' }) }, /file/],
    'a file named by escapes': [
      '{"model":"native","input":[{"role":"user","content":[{"type":"input\\u005ffile","file\\u005fid":"f"}]}]}',
      /./,
    ],
    'a container of others': [
      { input: [{ type: 'code_interpreter_call', container_id: 'cntr_1', id: 'ci_1', code: '' }] },
      /code_interpreter_call/,
    ],
    'an item': [{ input: [{ type: 'item_reference', id: 'msg_1' }] }, /item_reference/],
    'an item without its type': [{ input: [{ id: 'msg_1' }] }, /role|content/],
    'a conversation': [{ input: 'x', conversation: 'conv_1' }, /conversation/],
    'a prompt': [{ input: 'x', prompt: { id: 'pmpt_1' } }, /prompt/],
    'work in the background': [{ input: 'x', background: true }, /background/],
    'a response of the provider': [{ input: 'x', previous_response_id: 'resp_upstream_1' }, /not found/],
    'two lists of tools': ['{"model":"native","input":"x","tools":[],"tools":[{"type":"web_search"}]}', /./],
  };
  for (const [name, [body, message]] of Object.entries(rows))
    test(`${name} cannot be named`, async () => {
      const calls = s.fake.records.length;
      const answer = await post(typeof body === 'string' ? body : { model: 'native', ...body });
      assert.match(assert_error_body(answer, 400).message, message);
      assert.equal(s.fake.records.length, calls);
    });

  test('what a model quoted before may be told again', async () => {
    said('ok');
    const annotations = [{ type: 'file_citation', file_id: 'file-1', index: 0, filename: 'a' }];
    const content = [{ type: 'output_text', text: 'see a', annotations }];
    const quoted = { type: 'message', role: 'assistant', id: 'msg_1', status: 'completed', content };
    await create([quoted, { role: 'user', content: 'and?' }], { tools: [{ type: 'custom', name: 'grep' }] });
    assert.deepEqual(sent().input[0].content, content);
  });
});

describe('failover', () => {
  for (const stream of [false, true]) {
    const faults = [
      'cut_before_head',
      'cut_mid_head',
      'cut_after_head',
      'stall_head',
      'garbage_head',
      'status status=401',
      'status status=404',
      'status status=429',
      'status status=500',
      ...(stream
        ? ['cut_before_content', 'error_first', 'empty_stream', 'cut_mid_frame after=0', 'garbage_frame after=0']
        : ['cut_mid_body', 'garbage_json', 'long_content_length', 'error_event', 'empty_body']),
    ];
    for (const [id, first, second] of [
      ['native-first', () => s.fake, () => plain],
      ['plain-first', () => plain, () => s.fake],
    ])
      for (const fault of faults)
        test(`${id}, ${stream ? 'stream' : 'JSON'}: ${fault} is answered by the other`, async () => {
          first().rules.push(() => parse(fault));
          const calls = second().records.length;
          const { charge, result } = await charge_of(s.server, s.account, () => post({ model: id, input: 'hello', stream }));
          first().rules.length = 0;
          assert.equal(result.status, 200, result.text);
          assert.equal(result.complete, true);
          assert.equal(second().records.length, calls + 1);
          const response = stream ? events_of(result).at(-1).response : result.json();
          assert.equal(response.status, 'completed');
          assert.equal(response.id, `resp_${result.headers['x-request-id'].slice(4)}`);
          assert.equal(charge, price_of(7, 10), 'one charge, for the answer that was given');
          const fetched = await s.client.responses.retrieve(response.id);
          assert.deepEqual(fetched.output, response.output);
          if (stream) assert.equal(result.text.match(/event: response.created/g).length, 1);
        });
  }

  test('models named for the failure are asked in their own words', async () => {
    s.fake.queue.push({ kind: 'status', status: 500 });
    const answer = await create('x', { model: 'native', models: ['plain'] });
    assert.equal(answer.status, 'completed');
    assert.equal(plain.last.path, '/v1/chat/completions');
  });

  test('a conversation goes on over either', async () => {
    said('one');
    const first = await create('a', { model: 'native-first' });
    s.fake.queue.push({ kind: 'status', status: 500 });
    const second = await create('b', { model: 'native-first', previous_response_id: first.id });
    assert.deepEqual(plain.last.body.messages.map((m) => m.content), ['a', 'one', 'b']);
    said('three');
    await create('c', { model: 'native-first', previous_response_id: second.id });
    assert.equal(sent().input.length, 5);
  });
});

describe('streams that end badly', () => {
  const faults = ['cut_mid_body', 'cut_mid_body how=rst', 'cut_mid_frame', 'stall_mid', 'end_without_finish'];
  for (const fault of [...faults, 'garbage_frame', 'error_event', 'bad_chunk'])
    test(`${fault} is told as what it is`, async () => {
      s.fake.queue.push({ ...parse(fault), text: 'one two three four five', after: 3 });
      const calls = plain.records.length;
      const { charge, result } = await charge_of(s.server, s.account, () => post({ model: 'native-first', input: 'x', stream: true }));
      assert.equal(result.complete, false);
      const events = events_of(result);
      assert.deepEqual(events.slice(-2).map((e) => e.type), ['error', 'response.failed']);
      assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
      assert.equal(events.flatMap((e) => (e.type === 'response.output_text.delta' ? [e.delta] : [])).join(''), 'one two three ');
      const { response } = events.at(-1);
      assert.deepEqual([response.id, response.status, response.store], [events[0].response.id, 'failed', false]);
      assert.ok(charge > 0n && charge < price_of(200, 20), `${charge}`);
      assert.equal(plain.records.length, calls, 'the other route is never tried');
      await assert.rejects(s.client.responses.retrieve(response.id), OpenAI.NotFoundError);
    });

  test('a cap that ends the answer is an end', async () => {
    said({ text: 'half an', finish: 'length' });
    const events = await collect(await create('x', { stream: true, max_output_tokens: 16 }));
    assert.deepEqual(events.at(-1).response.incomplete_details, { reason: 'max_output_tokens' });
    assert.equal(events.at(-1).type, 'response.incomplete');
  });
});

describe('money', () => {
  for (const usage of ['absent', 'null', 'negative', 'absurd', 'text'])
    for (const stream of [false, true])
      test(`usage=${usage}, ${stream ? 'stream' : 'JSON'}: it is estimated`, async () => {
        said({ frames: 10, usage });
        const { charge, result } = await charge_of(s.server, s.account, () => post({ model: 'native', input: 'hello', stream }));
        assert.equal(result.complete, true);
        assert.ok(charge > 0n && charge < price_of(200, 200), `${charge}`);
      });

  test('cached and reasoning tokens are read from the report', async () => {
    said({ text: 'Noon.', reasoning: 'let me think', cached: 5 });
    const { result } = await charge_of(s.server, s.account, () => create('x'));
    assert.equal(result.usage.input_tokens_details.cached_tokens, 5);
    assert.equal(result.usage.output_tokens_details.reasoning_tokens, 3);
  });

  test('what the balance pays for becomes the cap', async () => {
    const poor = await s.server.account('poor', { credit: '0.1' });
    const { responses } = s.server.client(poor.key);
    said('ok');
    await responses.create({ model: 'dear', input: 'x' });
    assert.ok(sent().max_output_tokens > 16 && sent().max_output_tokens <= 100, `${sent().max_output_tokens}`);
    said('ok');
    await responses.create({ model: 'dear', input: 'x', max_output_tokens: 5000 });
    assert.ok(sent().max_output_tokens <= 100);
    said('ok');
    await responses.create({ model: 'dear', input: 'x', max_output_tokens: 17 });
    assert.equal(sent().max_output_tokens, 17);
  });

  test('a client that leaves pays for what it got', async () => {
    const { charge } = await charge_of(s.server, s.account, async () => {
      said({ frames: 40, hold: 'leave', hold_after: 5 });
      const stream = await create('x', { stream: true });
      const record = s.fake.last;
      let words = 0;
      for await (const event of stream) if (event.type === 'response.output_text.delta' && (words += 1) === 5) break;
      stream.controller.abort();
      await within(1000, 'the provider sees the cancellation', record.closed);
    });
    assert.ok(charge > 0n && charge <= price_of(60, 15), `${charge}`);
  });
});

describe('rails and the cache', () => {
  test('an answer that must be looked at comes through the translation', async () => {
    said('say aurora');
    const answer = await create('x', { model: 'watched' });
    assert.equal(s.fake.last.path, '/v1/chat/completions');
    assert.doesNotMatch(answer.output_text, /aurora/);
    await refused(create('x', { model: 'watched', tools: [{ type: 'web_search' }] }), 'tools');
  });

  test('what is masked is masked in the bytes that pass, and in a conversation before them', async () => {
    said('ok');
    const first = await create('the aurora', { model: 'masked', instructions: 'aurora' });
    assert.equal(s.fake.last.path, '/v1/responses');
    assert.deepEqual([sent().input, sent().instructions], ['the ***', '***']);
    said('ok');
    await create('again', { model: 'masked', previous_response_id: first.id });
    assert.equal(s.fake.last.path, '/v1/chat/completions');
    assert.doesNotMatch(s.fake.last.body_bytes.toString(), /aurora/);
  });

  test('a request that a rail has changed is still answered by whom it asked for', async () => {
    const messages = [{ role: 'user', content: 'the aurora' }];
    for (const [path, body] of [
      ['/v1/messages', { messages, max_tokens: 50 }],
      ['/v1/responses', { input: 'the aurora' }],
    ]) {
      said('ok');
      const only = { model: 'masked-first', provider: { only: ['native'] } };
      const answer = await post({ ...only, ...body }, { path });
      assert.equal(answer.status, 200, answer.text);
      assert.equal(s.fake.queue.length, 0, 'the route that was named');
      assert.match(s.fake.last.body_bytes.toString(), /the \*\*\*/);
    }
  });

  test('a kept answer is a response of its own, and no other’s words are repeated', async () => {
    for (const stream of [false, true]) {
      said({ text: 'Noon.', items: [search] });
      const ask = async (metadata) => {
        const answer = await create(`what? ${stream}`, { model: 'cached', stream, metadata });
        return stream ? (await collect(answer)).at(-1).response : answer;
      };
      const first = await ask({ a: 'b' });
      const calls = s.fake.records.length;
      const again = await ask({ a: 'b' });
      assert.equal(s.fake.records.length, calls);
      assert.notEqual(again.id, first.id);
      assert.deepEqual(again.output, first.output);
      assert.equal((await s.client.responses.retrieve(again.id)).id, again.id);
      said('Noon.');
      assert.deepEqual((await ask({ a: 'c' })).metadata, { a: 'c' });
      assert.equal(s.fake.records.length, calls + 1);
    }
  });
});

test('after all of them the ledger balances', async () => {
  await s.server.verify_ledger();
});
