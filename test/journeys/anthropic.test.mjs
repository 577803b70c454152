// A provider that speaks Anthropic's Messages API. Its own clients get and send bytes that nobody changed; everybody
// else is translated for (matrix.test.mjs); and whichever way, the charge is what the provider reported.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import Anthropic from '@anthropic-ai/sdk';
import { model, provider } from '../support/nebula.mjs';
import { charge_of, price_of, stage } from '../support/stage.mjs';
import { eventually } from '../support/wait.mjs';

const claude = 'claude-demo';
const both = 'demo/both:1'; // a route of each kind, in order
const plain = 'demo/plain:1'; // OpenAI's API only
const guarded = 'demo/guarded:1'; // has a guard rail
const route = (name, upstream) => ({ provider: name, model: upstream, weight: 1 });
const models = [
  model(claude, { provider: 'claude', upstream: 'claude-upstream-name' }),
  model(both, { strategy: 'ordered', routes: [route('claude', 'c'), route('fake', 'o')] }),
  model(plain),
  model(guarded, { provider: 'claude' }),
];
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

let s;
let client;
before(async () => {
  s = await stage({
    models,
    providers: (fake) => [
      provider('claude', fake.base_url.replace(/\/v1$/, ''), {
        kind: 'anthropic',
        api_key_env: 'CLAUDE_KEY',
        breaker_failures: 1000,
      }),
      provider('fake', fake.base_url, { breaker_failures: 1000 }),
    ],
    env: { CLAUDE_KEY: 'sk-ant-secret' },
    sections: { guardrail: [{ name: 'words', mode: 'enforce', kind: 'words', models: [guarded], words: ['aurora'] }] },
  });
  client = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0, timeout: 20000 });
});
after(() => s?.close());

const text_of = (content) => JSON.stringify(content);
/** A Messages request as bytes, spelled in a way that nobody else would. */
const odd_body = (content, extra = '', id = claude) =>
  `{ "max_tokens" :100,\n\t"messages":[{"content":${text_of(content)} , "role":"user"}] ,"model":"${id}"${extra}}`;
const raw = (body, { path = '/v1/messages', headers = {}, ...rest } = {}) =>
  s.server.call({ path, body, headers: { 'x-api-key': s.account.key, ...headers }, ...rest });
/** Runs `act`; the charge must be that of the journal's last record. */
async function exactly(act) {
  const { charge, result } = await charge_of(s.server, s.account, act);
  assert.equal(charge, price_of(s.fake.last.usage.prompt_tokens, s.fake.last.usage.completion_tokens));
  assert.ok(charge > 0n);
  return result;
}

describe('an Anthropic client over an Anthropic provider', () => {
  test('bodies pass byte for byte but for the model, and the usage is charged', async () => {
    const body = odd_body('fake:ok frames=5 prompt_tokens=30', ', "thinking" : {"type":"disabled"}, "service_tier":"auto"');
    const response = await exactly(() => raw(body));
    assert.equal(response.status, 200, response.text);
    assert.equal(sha256(response.body), s.fake.last.sha256);
    assert.equal(s.fake.last.body_bytes.toString(), body.replace(claude, 'claude-upstream-name'));
    assert.equal(s.fake.last.path, '/v1/messages');
  });

  for (const layout of [
    '',
    'packets=bytes frames=4',
    'packets=odd',
    'packets=pairs',
    'crlf=true',
    'comments=true',
    'multibyte=true packets=odd',
    'huge=9000',
    'framing=close',
    'framing=length packets=odd',
  ])
    test(`streams pass byte for byte, ${layout || 'one event a write'}`, async () => {
      const body = odd_body(`fake:ok prompt_tokens=9 ${layout}`, ', "stream" : true');
      const response = await exactly(() => raw(body));
      assert.equal(response.complete, true);
      assert.equal(sha256(response.body), s.fake.last.sha256, response.text);
      assert.equal(s.fake.last.body_bytes.toString(), body.replace(claude, 'claude-upstream-name'));
    });

  test('what only Messages knows passes: server tools, unknown blocks, cached prompts', async () => {
    const blocks = [
      { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'x' } },
      { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] },
    ];
    const request = {
      model: claude,
      max_tokens: 50,
      tools: [{ type: 'web_search_20250305', name: 'web_search' }],
      messages: [{ role: 'user', content: [{ type: 'text', text: 'find', cache_control: { type: 'ephemeral' } }] }],
    };
    for (const ask of [(r) => client.messages.create(r), (r) => client.messages.stream(r).finalMessage()]) {
      s.fake.queue.push({ kind: 'ok', text: 'Found it.', blocks, prompt_tokens: 100, cached: 60, written: 30 });
      const answer = await exactly(() => ask(request));
      assert.deepEqual(
        answer.content.map((b) => b.type),
        ['text', 'server_tool_use', 'web_search_tool_result'],
      );
      assert.equal(answer.usage.cache_read_input_tokens, 60);
      assert.deepEqual(s.fake.last.body.tools, request.tools);
    }
    // Elsewhere it is refused by name, and nobody is asked.
    const asked = s.fake.records.length;
    await assert.rejects(client.messages.create({ ...request, model: plain }), Anthropic.BadRequestError);
    assert.equal(s.fake.records.length, asked);
  });

  test('what a tool of the provider does is told while it happens, before there is any text', async () => {
    const first_blocks = [{ type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {} }];
    s.fake.queue.push({ kind: 'ok', text: 'Found.', first_blocks, hold: 'searching' });
    await exactly(async () => {
      const stream = await client.messages.create({
        model: claude,
        max_tokens: 50,
        stream: true,
        messages: [{ role: 'user', content: 'find' }],
      });
      let text = '';
      for await (const event of stream) {
        if (event.content_block?.type === 'server_tool_use') s.fake.open('searching'); // it is here already
        text += event.delta?.text ?? '';
      }
      assert.equal(text, 'Found.');
    });
  });

  test('the key stays here; betas and the beta query are passed on', async () => {
    await exactly(() =>
      raw(odd_body('x'), { path: '/v1/messages?beta=true', headers: { 'anthropic-beta': 'a-1,b-2', 'x-other': 'no' } }),
    );
    const { headers, head } = s.fake.last;
    assert.equal(headers['x-api-key'], 'sk-ant-secret');
    assert.equal(headers['anthropic-version'], '2023-06-01');
    assert.equal(headers['anthropic-beta'], 'a-1,b-2');
    assert.equal(headers.authorization, undefined);
    assert.equal(headers['x-other'], undefined);
    assert.equal(head[0], 'POST /v1/messages?beta=true HTTP/1.1');
    await exactly(() => client.beta.messages.create({ model: claude, max_tokens: 9, messages: [{ role: 'user', content: 'x' }] }));
  });

  test('a cap that the balance does not pay for is lowered, and nothing else', async () => {
    const poor = await s.server.account('poor', { credit: '0.001' });
    const body = odd_body('fake:ok frames=3').replace(':100,', ': 8000 ,');
    const response = await s.server.call({ path: '/v1/messages', key: poor.key, body });
    assert.equal(response.status, 200, response.text);
    const cap = s.fake.last.body.max_tokens;
    assert.ok(cap > 0 && cap < 8000, `${cap}`);
    const wanted = body.replace(claude, 'claude-upstream-name').replace(': 8000 ,', `: ${cap} ,`);
    assert.equal(s.fake.last.body_bytes.toString(), wanted);
  });

  for (const kind of ['cut_mid_body', 'cut_mid_frame', 'end_without_finish', 'error_event', 'garbage_frame', 'cut_after_finish'])
    test(`a stream that breaks never looks whole: ${kind}`, async () => {
      const { charge, result } = await charge_of(s.server, s.account, () =>
        raw(odd_body(`fake:${kind} frames=10 after=3`, ',"stream":true')),
      );
      assert.equal(result.status, 200);
      assert.match(result.text, /event: error\ndata: \{"type":"error","error":\{"type":"api_error"/);
      assert.ok(!result.text.includes('message_stop'), result.text);
      assert.equal(result.complete, false);
      assert.ok(charge > 0n && charge <= price_of(100, 20), `${charge}`);
    });

  test('a report that comes late is waited for and charged', async () => {
    s.fake.queue.push({ kind: 'ok', usage: 'late', late: 'report', prompt_tokens: 50, frames: 4 });
    const answered = exactly(() => raw(odd_body('x', ',"stream":true')));
    await s.fake.reached('report');
    s.fake.open('report');
    const response = await answered;
    assert.equal(sha256(response.body), s.fake.last.sha256);
  });

  test('a client that leaves is charged for what it got', async () => {
    s.fake.queue.push({ kind: 'ok', frames: 10, hold: 'left', hold_after: 4 });
    const from = await s.server.settled(s.account.id);
    const stream = await client.messages.create({
      model: claude,
      max_tokens: 50,
      stream: true,
      messages: [{ role: 'user', content: 'x' }],
    });
    for await (const event of stream) if (event.type === 'content_block_delta') break;
    await eventually('the provider is let go', () => s.fake.last.cancelled);
    s.fake.open('left');
    const charge = from - (await s.server.settled(s.account.id));
    assert.ok(charge > 0n && charge < price_of(100, 10), `${charge}`);
  });

  test('tokens are counted by the provider, free of charge, and estimated when it fails', async () => {
    const ask = { model: claude, messages: [{ role: 'user', content: 'x'.repeat(400) }], tools: [{ name: 'f', input_schema: {} }] };
    s.fake.queue.push({ kind: 'ok', prompt_tokens: 1234 });
    const { charge, result } = await charge_of(s.server, s.account, () =>
      client.messages.countTokens(ask).withResponse(),
    );
    assert.deepEqual(result.data, { input_tokens: 1234 });
    assert.equal(result.response.headers.get('x-nebula-tokenizer'), 'provider');
    assert.equal(charge, 0n);
    assert.equal(s.fake.last.path, '/v1/messages/count_tokens');
    assert.deepEqual(s.fake.last.body, { ...ask, model: 'claude-upstream-name' });
    assert.equal(s.fake.last.headers['x-api-key'], 'sk-ant-secret');
    for (const fault of [{ kind: 'status', status: 529 }, { kind: 'cut_mid_head' }]) {
      s.fake.queue.push(fault);
      const { input_tokens: estimate } = await client.messages.countTokens(ask);
      assert.ok(estimate >= 100 && estimate < 200, `${estimate}`);
    }
    s.fake.queue.push({ kind: 'status', status: 400, code: 'invalid_request_error', message: 'tools.0: bad' });
    await assert.rejects(client.messages.countTokens(ask), (e) => e.status === 400 && /tools.0: bad/.test(e.message));
    // No provider of another API is asked, and none at all where guard rails have to see the prompt first.
    const asked = s.fake.records.length;
    for (const id of [plain, guarded])
      assert.ok((await client.messages.countTokens({ ...ask, model: id })).input_tokens > 0);
    assert.equal(s.fake.records.length, asked);
    await assert.rejects(client.messages.countTokens({ ...ask, model: 'none' }), Anthropic.NotFoundError);
  });

  test('refusals pass as they are; overload and limits are told in its words', async () => {
    s.fake.queue.push({ kind: 'status', status: 400, code: 'invalid_request_error', message: 'no such "thing"' });
    const refused = await raw(odd_body('x'));
    assert.equal(refused.status, 400);
    assert.equal(sha256(refused.body), s.fake.last.sha256);
    for (const [status, ours] of [
      [429, Anthropic.RateLimitError],
      [529, Anthropic.InternalServerError],
      [401, Anthropic.InternalServerError], // our key is wrong there: no matter of the client's
    ]) {
      s.fake.queue.push({ kind: 'status', status });
      await assert.rejects(client.messages.create({ model: claude, max_tokens: 9, messages: [{ role: 'user', content: 'x' }] }), ours);
    }
  });
});

describe('routes of both kinds', () => {
  const say = { model: both, max_tokens: 50, messages: [{ role: 'user', content: 'x' }] };

  test('what one cannot answer the other does, each in its words', async () => {
    for (const ask of [() => client.messages.create(say), () => client.messages.stream(say).finalMessage()]) {
      s.fake.queue.push({ kind: 'status', status: 503 }, { kind: 'ok', text: 'From the other.' });
      const answer = await exactly(ask);
      assert.equal(answer.content[0].text, 'From the other.');
      assert.deepEqual(
        s.fake.records.slice(-2).map((r) => r.path),
        ['/v1/messages', '/v1/chat/completions'],
      );
    }
    s.fake.queue.push({ kind: 'cut_before_content' }, { kind: 'ok', text: 'From the other.' });
    const stream = await exactly(() => raw(JSON.stringify({ ...say, stream: true })));
    assert.equal(stream.text.match(/event: message_start/g).length, 1, stream.text);
  });

  test('what the first cannot be told, the second is', async () => {
    s.fake.queue.push({ kind: 'ok', text: 'Two of them.' });
    const answer = await exactly(() =>
      s.client.chat.completions.create({ ...say, logprobs: true, messages: [{ role: 'user', content: 'x' }] }),
    );
    assert.equal(answer.choices[0].message.content, 'Two of them.');
    assert.equal(s.fake.last.path, '/v1/chat/completions');
    await assert.rejects(
      s.client.chat.completions.create({ ...say, model: claude, n: 2 }),
      (e) => e.status === 400 && e.param === 'n',
    );
  });
});

describe('an OpenAI client over an Anthropic provider', () => {
  const tool = { type: 'function', function: { name: 'clock', parameters: { type: 'object', properties: {} } } };
  const calls = [{ id: 'toolu_1', name: 'clock', arguments: '{}' }];

  for (const stream of [false, true])
    test(`signed thoughts go out and come back as they were, ${stream ? 'stream' : 'JSON'}`, async () => {
      const ask = { model: claude, max_tokens: 8000, reasoning_effort: 'low', tools: [tool], stream };
      const question = { role: 'user', content: 'time?' };
      s.fake.queue.push({ kind: 'ok', redacted: 'c2VjcmV0', reasoning: 'let me think', calls });
      const answer = await exactly(() => s.client.chat.completions.create({ ...ask, messages: [question] }).then(gather));
      assert.equal(answer.reasoning_content, 'let me think');
      s.fake.queue.push({ kind: 'ok', text: 'Noon.' });
      const messages = [question, answer, { role: 'tool', tool_call_id: 'toolu_1', content: '12:00' }];
      const last = await exactly(() => s.client.chat.completions.create({ ...ask, messages }).then(gather));
      assert.equal(last.content, 'Noon.');
      const { body } = s.fake.last;
      assert.deepEqual(body.messages[1].content, [
        { type: 'redacted_thinking', data: 'c2VjcmV0' },
        { type: 'thinking', thinking: 'let me think', signature: 'c2lnbmVkIGJ5IG5vYm9keQ==' },
        { type: 'tool_use', id: 'toolu_1', name: 'clock', input: {} },
      ]);
      assert.deepEqual(body.thinking, { type: 'enabled', budget_tokens: 4096 });
    });
});

/** The message of an answer, or of a stream put together as clients do: details by their index. */
async function gather(answer) {
  if (answer.choices) return answer.choices[0].message;
  const message = { role: 'assistant', content: '', reasoning_content: '', reasoning_details: [], tool_calls: [] };
  for await (const { choices } of answer) {
    const delta = choices[0]?.delta ?? {};
    message.content += delta.content ?? '';
    message.reasoning_content += delta.reasoning_content ?? '';
    message.reasoning_details.push(...(delta.reasoning_details ?? []));
    for (const { index, function: f, ...rest } of delta.tool_calls ?? []) {
      message.tool_calls[index] ??= { ...rest, function: { name: f.name, arguments: '' } };
      message.tool_calls[index].function.arguments += f.arguments ?? '';
    }
  }
  return message;
}
