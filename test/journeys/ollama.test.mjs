// Providers of the kinds ollama and gemini under real clients. Ollama's own clients get and send bytes that nobody
// changed; everybody else is translated for (matrix.test.mjs, kinds_faults.test.mjs); and whichever way, the charge is
// what the provider reported.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { model, provider } from '../support/nebula.mjs';
import { charge_of, price_of, read_stream, stage } from '../support/stage.mjs';

const own = 'demo/own:1'; // served by an Ollama
const own_vectors = 'demo/own-vectors:1';
const both = 'demo/both:1'; // a route of each kind, in order
const plain = 'demo/plain:1'; // OpenAI's API only
const google = 'demo/google:1';
const google_vectors = 'demo/google-vectors:1';
const route = (name, upstream) => ({ provider: name, model: upstream, weight: 1 });
const models = [
  model(own, { provider: 'ollama', upstream: 'qwen3:8b', endpoints: ['chat', 'completions'] }),
  model(own_vectors, { provider: 'ollama', upstream: 'embed', endpoints: ['embeddings'] }),
  model(both, { strategy: 'ordered', routes: [route('ollama', 'o'), route('openai', 'p')] }),
  model(plain, { provider: 'openai' }),
  model(google, { provider: 'gemini', upstream: 'gemini-3-flash', model_class: 'vision' }),
  model(google_vectors, { provider: 'gemini', upstream: 'gemini-embedding-001', endpoints: ['embeddings'] }),
];
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const weather = { id: 'call_1', name: 'weather', arguments: '{"city":"Paris \\"FR\\""}' };
const clock = { id: 'call_2', name: 'clock', arguments: '{}' };

let s;
let client;
before(async () => {
  const at = (fake) => fake.base_url.replace(/\/v1$/, '');
  s = await stage({
    models,
    providers: (fake) => [
      provider('ollama', at(fake), { kind: 'ollama', breaker_failures: 1000, api_key_env: 'OLLAMA_KEY' }),
      provider('openai', fake.base_url, { breaker_failures: 1000 }),
      provider('gemini', at(fake), { kind: 'gemini', breaker_failures: 1000, api_key_env: 'GEMINI_KEY' }),
    ],
    env: { OLLAMA_KEY: 'ollama-secret', GEMINI_KEY: 'gemini-secret' },
  });
  client = new Ollama({ host: s.server.url, headers: { Authorization: `Bearer ${s.account.key}` } });
});
after(() => s?.close());

const collect = async (stream) => {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
};
const raw = (body, path = '/api/chat', more = {}) => s.server.call({ path, key: s.account.key, body, ...more });
/** Runs `act` with these scripts; the charge must be that of the provider's journal. */
async function exactly(scripts, act) {
  const from = s.fake.records.length;
  s.fake.queue.push(...[scripts].flat());
  const { charge, result } = await charge_of(s.server, s.account, act);
  const records = s.fake.records.slice(from);
  const wanted = records.map((r) => price_of(r.usage.prompt_tokens, r.usage.completion_tokens ?? 0));
  assert.equal(charge, wanted.reduce((a, b) => a + b, 0n));
  assert.ok(charge > 0n);
  return { result, records };
}
/** A request of /api/chat as bytes, spelled in a way that nobody else would. */
const odd_body = (content, extra = '', id = own) =>
  `{ "messages":[{"content":${JSON.stringify(content)} , "role":"user"}]\n ,"options" : {"seed": 7},"model":"${id}"${extra}}`;

describe('an Ollama client over an Ollama provider', () => {
  test('bodies pass byte for byte but for the model, and the usage is charged', async () => {
    const body = odd_body('fake:ok frames=5 prompt_tokens=30', ', "stream" : false, "think":true');
    const { result: response, records } = await exactly([], () => raw(body));
    assert.equal(response.status, 200, response.text);
    assert.equal(sha256(response.body), records[0].sha256);
    assert.equal(records[0].body_bytes.toString(), body.replace(own, 'qwen3:8b'));
    assert.equal(records[0].path, '/api/chat');
    assert.equal(records[0].headers.authorization, 'Bearer ollama-secret');
  });

  for (const layout of [
    '',
    'packets=bytes frames=4',
    'packets=odd',
    'packets=pairs',
    'crlf=true',
    'multibyte=true packets=odd',
    'huge=9000',
    'framing=close',
    'framing=length packets=odd',
  ])
    test(`streams pass byte for byte, ${layout || 'one line a write'}`, async () => {
      const body = odd_body(`fake:ok prompt_tokens=9 ${layout}`);
      const { result: response, records } = await exactly([], () => raw(body));
      assert.equal(response.complete, true);
      assert.equal(sha256(response.body), records[0].sha256, response.text);
      assert.equal(response.headers['content-type'], 'application/x-ndjson');
      assert.equal(records[0].body_bytes.toString(), body.replace(own, 'qwen3:8b'));
    });

  test('the last line waits for the charge; a cut stream has none and ends in an error', async () => {
    for (const fault of ['cut_mid_body', 'error_event', 'garbage_frame', 'end_without_finish']) {
      s.fake.queue.push({ kind: fault, frames: 10, after: 3 });
      const { charge, result } = await charge_of(s.server, s.account, () => raw(odd_body('x')));
      const lines = result.text.trim().split('\n').map((line) => JSON.parse(line));
      assert.equal(typeof lines.at(-1).error, 'string', result.text);
      assert.ok(lines.every((line) => !line.done), result.text);
      assert.equal(result.complete, false);
      assert.ok(charge > 0n && charge < price_of(200, 20), `${charge}`);
    }
  });

  for (const stream of [false, true])
    test(`the client is told what its provider says, ${stream ? 'streaming' : 'JSON'}`, async () => {
      const script = { kind: 'ok', reasoning: 'let me think', text: 'It is noon.', calls: [weather, clock] };
      const request = { model: own, messages: [{ role: 'user', content: 'time?' }], think: true, stream };
      const { result, records } = await exactly(script, async () =>
        stream ? collect(await client.chat(request)) : [await client.chat(request)],
      );
      const told = (name) => result.map((part) => part.message[name] ?? '').join('');
      assert.deepEqual([told('content').trim(), told('thinking')], ['It is noon.', 'let me think']);
      assert.deepEqual(
        result.flatMap((part) => part.message.tool_calls ?? []).map((c) => [c.function.name, c.function.arguments]),
        [
          ['weather', { city: 'Paris "FR"' }],
          ['clock', {}],
        ],
      );
      assert.deepEqual([result.at(-1).done, result.at(-1).total_duration], [true, 1], 'durations are the provider’s');
      assert.equal(records[0].body.think, true);
    });

  test('generate and embed reach their own paths, with what OpenAI’s API has no word for', async () => {
    const generated = await exactly({ kind: 'ok', text: 'It is noon.' }, () =>
      client.generate({ model: own, prompt: '[INST] time? [/INST]', raw: true, context: [1, 2, 3] }),
    );
    assert.equal(generated.result.response, 'It is noon.');
    assert.equal(generated.records[0].path, '/api/generate');
    assert.deepEqual([generated.records[0].body.raw, generated.records[0].body.context], [true, [1, 2, 3]]);
    const streamed = await exactly({ kind: 'ok', text: 'It is noon.' }, async () =>
      collect(await client.generate({ model: own, prompt: 'time?', suffix: '!', stream: true })),
    );
    assert.equal(streamed.result.map((part) => part.response).join('').trim(), 'It is noon.');
    const embedded = await exactly({ kind: 'ok' }, () => client.embed({ model: own_vectors, input: ['a', 'b'], truncate: true }));
    assert.equal(embedded.result.embeddings[1][0], 1.125);
    assert.deepEqual([embedded.records[0].path, embedded.records[0].body.truncate], ['/api/embed', true]);
    const older = await exactly({ kind: 'ok' }, () => client.embeddings({ model: own_vectors, prompt: 'a' }));
    assert.deepEqual(older.result.embedding, [0.125, 0.25, 0.375, 0.5]);
    // Elsewhere it is refused by name, and nobody is asked.
    const asked = s.fake.records.length;
    await assert.rejects(client.generate({ model: plain, prompt: 'x', raw: true }), (e) => e.status_code === 400);
    assert.equal(s.fake.records.length, asked);
  });

  test('how the server runs stays its operator’s: such requests are translated without it', async () => {
    const { records } = await exactly({ kind: 'ok' }, () =>
      client.chat({
        model: own,
        messages: [{ role: 'user', content: 'x' }],
        keep_alive: 0,
        options: { num_ctx: 1000000, num_gpu: 0, temperature: 0.5 },
      }),
    );
    assert.equal('keep_alive' in records[0].body, false);
    assert.deepEqual(records[0].body.options, { temperature: 0.5, num_predict: 8192 });
    // Ollama would take this for the model; nobody may name one that is not his.
    const spelled = await exactly({ kind: 'ok' }, () => raw(odd_body('x', ',"Model":"expensive","stream":false')));
    assert.equal(spelled.records[0].body.Model, undefined);
    assert.equal(spelled.records[0].model, 'qwen3:8b');
  });

  test('a cap that the balance pays for is spliced in', async () => {
    const poor = await s.server.account('poor', { credit: '0.0001' });
    s.fake.queue.push({ kind: 'ok', frames: 2 });
    const body = odd_body('x', ',"stream":false');
    const response = await s.server.call({ path: '/api/chat', key: poor.key, body });
    assert.equal(response.status, 200, response.text);
    const cap = s.fake.last.body.options.num_predict;
    assert.ok(cap > 0 && cap < 100, `${cap}`);
    const wanted = body.replace(own, 'qwen3:8b').replace('{"seed"', `{"num_predict":${cap},"seed"`);
    assert.equal(s.fake.last.body_bytes.toString(), wanted);
  });

  test('the next route is of another kind: the same client is translated for', async () => {
    s.fake.queue.push({ kind: 'status', status: 500 }, { kind: 'ok', text: 'It is noon.' });
    const { charge, result } = await charge_of(s.server, s.account, () =>
      client.chat({ model: both, messages: [{ role: 'user', content: 'time?' }] }),
    );
    assert.equal(result.message.content, 'It is noon.');
    assert.equal(s.fake.last.path, '/v1/chat/completions');
    assert.equal(charge, price_of(7, 3));
  });
});

describe('what Ollama’s clients ask besides', () => {
  test('whether it is an Ollama, and of which version', async () => {
    for (const method of ['GET', 'HEAD']) {
      const answer = await s.server.call({ method, path: '/' });
      assert.equal(answer.status, 200);
      assert.equal(answer.text, method === 'GET' ? 'Ollama is running' : '');
    }
    const browser = await s.server.call({ method: 'GET', path: '/', headers: { accept: 'text/html,*/*;q=0.8' } });
    assert.equal(browser.status, 404, 'the page at / is for browsers');
    assert.match((await client.version()).version, /^0\.\d+\.\d+\+nebula/);
  });

  test('models are told with what they are for', async () => {
    const listed = new Map((await client.list()).models.map((m) => [m.name, m]));
    assert.deepEqual(listed.get(own).capabilities, ['completion', 'tools']);
    assert.deepEqual(listed.get(google).capabilities, ['completion', 'tools', 'vision']);
    assert.deepEqual(listed.get(own_vectors).capabilities, ['embedding']);
    assert.match(listed.get(own).digest, /^[0-9a-f]{64}$/);
    assert.equal(listed.get(own).details.context_length, 32768);
    const running = (await client.ps()).models.find((m) => m.name === own);
    assert.equal(running.context_length, 32768);
    assert.ok(new Date(running.expires_at) > new Date());
    const shown = await client.show({ model: own });
    assert.equal(shown.model_info[`${shown.model_info['general.architecture']}.context_length`], 32768);
    assert.deepEqual(shown.capabilities, ['completion', 'tools']);
  });

  test('to load a model costs nothing and asks nobody', async () => {
    const asked = s.fake.records.length;
    const before = await s.server.settled(s.account.id);
    const loaded = await client.generate({ model: own, prompt: '' });
    assert.deepEqual([loaded.done, loaded.done_reason, loaded.response], [true, 'load', '']);
    const let_go = await client.chat({ model: own, messages: [], keep_alive: 0 });
    assert.deepEqual([let_go.done_reason, let_go.message.content], ['unload', '']);
    await assert.rejects(client.chat({ model: 'no/such', messages: [] }), (e) => e.status_code === 404);
    const stranger = await s.server.call({ path: '/api/generate', key: 'sk-neb-wrong', body: { model: own } });
    assert.equal(stranger.status, 401);
    assert.equal(s.fake.records.length, asked);
    assert.equal(await s.server.settled(s.account.id), before);
  });

  test('nothing can be pulled, created or removed, and the refusal says why', async () => {
    const refused = (e) => e.status_code === 403 && /operator/.test(e.message);
    await assert.rejects(client.pull({ model: 'x' }), refused);
    await assert.rejects(client.push({ model: 'x' }), refused);
    await assert.rejects(client.create({ model: 'x', from: own }), refused);
    await assert.rejects(client.copy({ source: own, destination: 'x' }), refused);
    await assert.rejects(client.delete({ model: own }), refused);
    assert.equal((await s.server.call({ method: 'HEAD', path: '/api/blobs/sha256:00' })).status, 404);
  });
});

describe('the openai client', () => {
  for (const [id, path] of [
    [own_vectors, '/api/embed'],
    [google_vectors, '/v1beta/models/gemini-embedding-001:batchEmbedContents'],
  ])
    test(`has embeddings in both forms over ${path}`, async () => {
      for (const encoding_format of [undefined, 'base64', 'float']) {
        const { result, records } = await exactly({ kind: 'ok', prompt_tokens: 9 }, () =>
          s.client.embeddings.create({ model: id, input: ['a', 'b'], encoding_format, dimensions: 3 }),
        );
        assert.equal(records[0].path, path);
        const wanted = [
          [0.125, 0.25, 0.375],
          [1.125, 1.25, 1.375],
        ];
        const got = result.data.map(({ embedding: e }) =>
          typeof e === 'string' ? [...new Float32Array(Uint8Array.from(Buffer.from(e, 'base64')).buffer)] : e,
        );
        assert.deepEqual(got, wanted, `${encoding_format}`);
        assert.equal(result.usage.prompt_tokens, 9);
      }
      await assert.rejects(s.client.embeddings.create({ model: id, input: [1, 2, 3] }), OpenAI.BadRequestError);
    });

  test('completes prompts over an Ollama', async () => {
    const request = { model: own, prompt: 'Once', max_tokens: 20 };
    const { result, records } = await exactly({ kind: 'ok', text: 'upon a time' }, () => s.client.completions.create(request));
    assert.equal(result.choices[0].text, 'upon a time');
    assert.deepEqual([records[0].path, records[0].body.options], ['/api/generate', { num_predict: 20 }]);
    const streamed = await exactly({ kind: 'ok', text: 'upon a time' }, async () =>
      collect(await s.client.completions.create({ ...request, stream: true })),
    );
    assert.equal(streamed.result.map((c) => c.choices[0]?.text ?? '').join(''), 'upon a time');
  });

  test('keeps Gemini’s signatures from one turn to the next', async () => {
    const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];
    const messages = [{ role: 'user', content: 'How is Paris?' }];
    const script = { kind: 'ok', calls: [weather, clock], signature: 'c2lnbmVk', reasoning: 'use the tools' };
    const first = await exactly(script, () => s.client.chat.completions.create({ model: google, messages, tools }));
    const said = first.result.choices[0].message;
    messages.push(said, ...said.tool_calls.map((c) => ({ role: 'tool', tool_call_id: c.id, content: 'sunny' })));
    const second = await exactly({ kind: 'ok', text: 'Sunny.' }, () =>
      s.client.chat.completions.create({ model: google, messages, tools }),
    );
    assert.equal(second.result.choices[0].message.content, 'Sunny.');
    const turns = second.records[0].body.contents;
    assert.deepEqual(
      turns.map((turn) => [turn.role, turn.parts.length]),
      [
        ['user', 1],
        ['model', 2],
        ['user', 2],
      ],
    );
    assert.equal(turns[1].parts[0].thoughtSignature, 'c2lnbmVk');
    assert.equal(second.records[0].headers['x-goog-api-key'], 'gemini-secret');
    assert.equal(second.records[0].headers.authorization, undefined);
  });

  test('reads Gemini’s streams with usage, thoughts and cached tokens', async () => {
    const script = { kind: 'ok', reasoning: 'let me think', text: 'It is noon.', prompt_tokens: 40, cached: 30 };
    s.fake.queue.push(script);
    const read = await read_stream(
      await s.client.chat.completions.create({
        model: google,
        messages: [{ role: 'user', content: 'time?' }],
        reasoning_effort: 'low',
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    assert.equal(read.text, 'It is noon.');
    assert.equal(read.chunks.map((c) => c.choices[0]?.delta?.reasoning_content ?? '').join(''), 'let me think');
    assert.equal(read.chunks.filter((c) => c.usage).length, 1);
    assert.equal(read.usage.prompt_tokens_details.cached_tokens, 30);
    assert.equal(read.usage.completion_tokens_details.reasoning_tokens, 3);
    assert.deepEqual(s.fake.last.body.generationConfig.thinkingConfig, { includeThoughts: true, thinkingLevel: 'low' });
  });

  test('is told of an end that is none, and of a filter', async () => {
    for (const [reason, finish] of [
      ['MALFORMED_FUNCTION_CALL', 'error'],
      ['SAFETY', 'content_filter'],
    ]) {
      const { result } = await exactly({ kind: 'ok', reason }, () =>
        s.client.chat.completions.create({ model: google, messages: [{ role: 'user', content: 'x' }] }),
      );
      assert.equal(result.choices[0].finish_reason, finish);
      assert.equal(result.choices[0].native_finish_reason, reason);
    }
  });
});

test('the books balance', () => s.server.verify_ledger());
