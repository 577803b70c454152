// The clients that people have, unmodified but for base URL and key: what they get is what they were made for, and each
// call costs exactly what the provider's journal says.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { OpenRouter } from '@openrouter/sdk';
import { Ollama } from 'ollama';
import { model } from '../support/nebula.mjs';
import { charge_of, collect, price_of, read_stream, stage } from '../support/stage.mjs';

const chat = 'demo/chat:1';
const vectors = 'demo/vectors:1';
const twice = 'demo/twice:1'; // has a second route
const models = [
  model(chat, { endpoints: ['chat', 'completions'] }),
  model(vectors, { endpoints: ['embeddings', 'rerank', 'moderations'] }),
  model(twice, { routes: ['one', 'two'].map((upstream) => ({ provider: 'fake', model: upstream, weight: 1 })) }),
];
const ids = models.map((m) => m.id).sort();
const weather = { id: 'call_1', name: 'weather', arguments: '{"city":"Paris \\"FR\\""}' };
const clock = { id: 'call_2', name: 'clock', arguments: '{}' };
const city_schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };

let s;
before(async () => {
  s = await stage({ models });
});
after(() => s?.close());

const exactly = (scripts, act) => s.exactly(scripts, act);
const breaks = (act, kind) => s.breaks(act, kind);

describe('openai', () => {
  const say = (content, extra = {}) => ({ model: chat, messages: [{ role: 'user', content }], ...extra });

  test('chat answers and streams, with thoughts beside the words', async () => {
    const script = { kind: 'ok', text: 'It is noon.', reasoning: 'what time' };
    const { result } = await exactly(script, () => s.client.chat.completions.create(say('time?')));
    assert.equal(result.choices[0].message.content, 'It is noon.');
    assert.equal(result.choices[0].message.reasoning_content, 'what time');
    assert.equal(result.usage.completion_tokens, 5);
    const streamed = await exactly(script, async () =>
      read_stream(await s.client.chat.completions.create(say('time?', { stream: true }))),
    );
    assert.equal(streamed.result.text, 'It is noon.');
  });

  for (const stream of [false, true])
    test(`the tools helper calls functions until there is an answer, ${stream ? 'streaming' : 'JSON'}`, async () => {
      const asked = [];
      const { result, records } = await exactly(
        [{ kind: 'ok', calls: [weather, clock] }, { kind: 'ok', text: 'Sunny at noon.' }],
        async () => {
          const runner = s.client.chat.completions.runTools({
            ...say('How is Paris?'),
            stream,
            tools: [
              {
                type: 'function',
                function: {
                  name: 'weather',
                  parameters: city_schema,
                  parse: JSON.parse,
                  function: ({ city }) => {
                    asked.push(city);
                    return 'sunny';
                  },
                },
              },
              { type: 'function', function: { name: 'clock', parameters: { type: 'object' }, function: () => 'noon' } },
            ],
          });
          return runner.finalContent();
        },
      );
      assert.equal(result, 'Sunny at noon.');
      assert.deepEqual(asked, ['Paris "FR"']);
      const told = records[1].body.messages.slice(-3);
      assert.deepEqual(
        told.map((m) => [m.role, m.tool_call_id ?? m.tool_calls?.length, m.content]),
        [
          ['assistant', 2, told[0].content],
          ['tool', 'call_1', 'sunny'],
          ['tool', 'call_2', 'noon'],
        ],
      );
    });

  test('structured outputs reach the provider as asked', async () => {
    const format = { type: 'json_schema', json_schema: { name: 'city', schema: city_schema, strict: true } };
    const { result, records } = await exactly({ kind: 'ok', text: '{"city":"Paris"}' }, () =>
      s.client.chat.completions.parse(say('where?', { response_format: format })),
    );
    assert.deepEqual(JSON.parse(result.choices[0].message.content), { city: 'Paris' });
    assert.deepEqual(records[0].body.response_format, format);
  });

  test('completions answer and stream', async () => {
    const request = { model: chat, prompt: 'fake:ok frames=4' };
    const { result } = await exactly([], () => s.client.completions.create(request));
    assert.equal(result.choices[0].text, 'alpha beta gamma delta');
    const streamed = await exactly([], async () =>
      collect(await s.client.completions.create({ ...request, stream: true })),
    );
    assert.equal(streamed.result.map((c) => c.choices[0]?.text ?? '').join(''), 'alpha beta gamma delta ');
  });

  test('embeddings come as numbers, whatever form they travel in; moderations', async () => {
    for (const encoding_format of [undefined, 'base64', 'float']) {
      const { result, records } = await exactly({ kind: 'ok', prompt_tokens: 9 }, () =>
        s.client.embeddings.create({ model: vectors, input: ['a', 'b'], encoding_format, dimensions: 3 }),
      );
      if (encoding_format !== 'base64')
        assert.deepEqual(
          result.data.map((d) => d.embedding),
          [
            [0.125, 0.25, 0.375],
            [1.125, 1.25, 1.375],
          ],
        );
      assert.equal(records[0].path, '/v1/embeddings');
    }
    const { result } = await exactly({ kind: 'ok' }, () =>
      s.client.moderations.create({ model: vectors, input: ['peace', 'violence'] }),
    );
    assert.deepEqual(
      result.results.map((r) => r.flagged),
      [false, true],
    );
  });

  test('rerank, as Cohere and Jina shaped it', async () => {
    const { result } = await exactly({ kind: 'ok' }, () =>
      s.client.post('/rerank', { body: { model: vectors, query: 'q', documents: ['a', 'b'] } }),
    );
    assert.deepEqual(result.results, [
      { index: 0, relevance_score: 1 },
      { index: 1, relevance_score: 0.5 },
    ]);
  });

  test('models are listed', async () => {
    assert.deepEqual((await collect(s.client.models.list())).map((m) => m.id).sort(), ids);
  });

  test('what is not there yet is a clear 404', async () => {
    await assert.rejects(s.client.files.list(), OpenAI.NotFoundError);
    await assert.rejects(s.client.responses.retrieve('resp_1'), OpenAI.NotFoundError);
  });
});

describe('openai responses', () => {
  const script = { kind: 'ok', reasoning: 'let me think', text: 'It is noon.' };
  const functions = [{ type: 'function', name: 'weather', parameters: city_schema, strict: true }];

  test('an answer with thoughts, text and usage', async () => {
    const { result, records } = await exactly(script, () =>
      s.client.responses.create({ model: chat, instructions: 'Be brief.', input: 'time?', max_output_tokens: 50 }),
    );
    assert.equal(result.output_text, 'It is noon.');
    assert.deepEqual([result.object, result.status, result.model], ['response', 'completed', chat]);
    assert.deepEqual(
      result.output.map((item) => item.type),
      ['reasoning', 'message'],
    );
    assert.deepEqual(
      [result.usage.input_tokens, result.usage.output_tokens, result.usage.output_tokens_details.reasoning_tokens],
      [7, 6, 3],
    );
    assert.equal(records[0].path, '/v1/chat/completions');
    assert.equal(records[0].body.max_tokens, 50);
    assert.deepEqual(records[0].body.messages, [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'time?' },
    ]);
  });

  test('a stream puts together the same response', async () => {
    const { result } = await exactly(script, async () => {
      const stream = s.client.responses.stream({ model: chat, input: 'time?' });
      const events = await collect(stream);
      return { events, final: await stream.finalResponse() };
    });
    const { events, final } = result;
    assert.deepEqual(
      events.map((e) => e.sequence_number),
      events.map((_, i) => i),
    );
    assert.equal(events[0].type, 'response.created');
    assert.equal(events.at(-1).type, 'response.completed');
    assert.equal(final.output_text, 'It is noon.');
    assert.equal(final.usage.output_tokens_details.reasoning_tokens, 3);
    const deltas = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta);
    assert.equal(deltas.join(''), 'It is noon.');
    const raw = await exactly(script, async () =>
      collect(await s.client.responses.create({ model: chat, input: 'time?', stream: true })),
    );
    assert.deepEqual(
      raw.result.map((e) => e.type),
      events.map((e) => e.type),
    );
  });

  for (const stream of [false, true])
    test(`functions are called, and their results sent back whole, ${stream ? 'streaming' : 'JSON'}`, async () => {
      const ask = async (input) => {
        const request = { model: chat, input, tools: functions };
        return stream ? s.client.responses.stream(request).finalResponse() : s.client.responses.create(request);
      };
      const { result, records } = await exactly(
        [{ kind: 'ok', reasoning: 'use the tool', calls: [weather, clock] }, { kind: 'ok', text: 'Sunny.' }],
        async () => {
          const input = [{ role: 'user', content: 'How is Paris?' }];
          const first = await ask(input);
          const calls = first.output.filter((item) => item.type === 'function_call');
          assert.deepEqual(
            calls.map((c) => [c.call_id, c.name, c.arguments]),
            [weather, clock].map((c) => [c.id, c.name, c.arguments]),
          );
          const results = calls.map((c) => ({ type: 'function_call_output', call_id: c.call_id, output: `${c.name}!` }));
          return ask([...input, ...first.output, ...results]);
        },
      );
      assert.equal(result.output_text, 'Sunny.');
      assert.deepEqual(records[0].body.tools, [
        { type: 'function', function: { name: 'weather', parameters: city_schema, strict: true } },
      ]);
      const call = ({ id, name, arguments: text }) => ({ id, type: 'function', function: { name, arguments: text } });
      assert.deepEqual(records[1].body.messages.slice(1), [
        { role: 'assistant', content: null, tool_calls: [call(weather), call(clock)] },
        { role: 'tool', tool_call_id: 'call_1', content: 'weather!' },
        { role: 'tool', tool_call_id: 'call_2', content: 'clock!' },
      ]);
    });

  test('an answer that was cut says so', async () => {
    const cut = { kind: 'ok', text: 'half an', finish: 'length' };
    for (const act of [
      () => s.client.responses.create({ model: chat, input: 'x' }),
      () => s.client.responses.stream({ model: chat, input: 'x' }).finalResponse(),
    ]) {
      const { result } = await exactly(cut, act);
      assert.equal(result.status, 'incomplete');
      assert.equal(result.incomplete_details.reason, 'max_output_tokens');
    }
  });

  test('what needs stored responses is refused by name; a stream that breaks ends in an error', async () => {
    await assert.rejects(
      s.client.responses.create({ model: chat, input: 'x', previous_response_id: 'resp_1' }),
      (e) => e instanceof OpenAI.BadRequestError && e.param === 'previous_response_id',
    );
    await assert.rejects(
      s.client.responses.create({ model: chat, input: 'x', tools: [{ type: 'web_search' }] }),
      (e) => e instanceof OpenAI.BadRequestError && e.param === 'tools',
    );
    await breaks(async () => {
      const events = [];
      await assert.rejects(async () => {
        for await (const event of await s.client.responses.create({ model: chat, input: 'x', stream: true }))
          events.push(event);
      });
      assert.ok(!events.some((e) => e.type === 'response.completed'));
      const error = events.findLast((e) => e.type === 'error');
      if (error) assert.ok(error.message.length > 0);
    });
  });

  test('both base paths serve it', async () => {
    const other = s.server.client(s.account.key, { baseURL: `${s.server.url}/openai/v1` });
    const { result } = await exactly({ kind: 'ok', text: 'here' }, () =>
      other.responses.create({ model: chat, input: 'x' }),
    );
    assert.equal(result.output_text, 'here');
  });
});

describe('anthropic', () => {
  let client;
  before(() => {
    client = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0, timeout: 20000 });
  });
  const say = (content, extra = {}) => ({ model: chat, max_tokens: 100, messages: [{ role: 'user', content }], ...extra });
  const tools = [{ name: 'weather', description: 'Weather of a city', input_schema: city_schema }];
  const script = { kind: 'ok', reasoning: 'let me think', text: 'It is noon.' };
  const blocks = [
    { type: 'thinking', thinking: 'let me think', signature: '' },
    { type: 'text', text: 'It is noon.' },
  ];

  test('messages answer and stream to the same message', async () => {
    const { result } = await exactly(script, () => client.messages.create(say('time?', { system: 'Be brief.' })));
    assert.deepEqual(result.content, blocks);
    assert.equal(result.stop_reason, 'end_turn');
    assert.deepEqual([result.usage.input_tokens, result.usage.output_tokens], [7, 6]);
    const streamed = await exactly(script, () => client.messages.stream(say('time?')).finalMessage());
    assert.deepEqual(
      streamed.result.content.map(({ type, thinking, text }) => ({ type, thinking, text })),
      blocks.map(({ type, thinking, text }) => ({ type, thinking, text })),
    );
    assert.equal(streamed.result.stop_reason, 'end_turn');
    assert.equal(streamed.result.usage.output_tokens, 6);
  });

  for (const stream of [false, true])
    test(`tools are used and their results told, ${stream ? 'streaming' : 'JSON'}`, async () => {
      const ask = async (messages) => {
        const request = { model: chat, max_tokens: 100, tools, messages };
        return stream ? client.messages.stream(request).finalMessage() : client.messages.create(request);
      };
      const { result, records } = await exactly(
        [{ kind: 'ok', text: 'One moment.', calls: [weather, clock] }, { kind: 'ok', text: 'Sunny.' }],
        async () => {
          const question = { role: 'user', content: 'How is Paris?' };
          const first = await ask([question]);
          assert.equal(first.stop_reason, 'tool_use');
          const uses = first.content.filter((block) => block.type === 'tool_use');
          assert.deepEqual(
            uses.map((use) => [use.id, use.name, use.input]),
            [
              ['call_1', 'weather', { city: 'Paris "FR"' }],
              ['call_2', 'clock', {}],
            ],
          );
          const results = uses.map((use) => ({ type: 'tool_result', tool_use_id: use.id, content: `${use.name}!` }));
          return ask([question, { role: 'assistant', content: first.content }, { role: 'user', content: results }]);
        },
      );
      assert.equal(result.content[0].text, 'Sunny.');
      assert.deepEqual(
        records[1].body.messages.map((m) => m.role),
        ['user', 'assistant', 'tool', 'tool'],
      );
    });

  test('tokens are counted without a charge; models are listed', async () => {
    const { charge, result } = await charge_of(s.server, s.account, () =>
      client.messages.countTokens({ model: chat, messages: [{ role: 'user', content: 'how many?' }] }),
    );
    assert.ok(result.input_tokens > 0);
    assert.equal(charge, 0n);
    const listed = await collect(client.models.list());
    assert.deepEqual(listed.map((m) => [m.type, m.id]).sort(), ids.map((id) => ['model', id]));
    const below = new Anthropic({ baseURL: `${s.server.url}/anthropic`, apiKey: s.account.key, maxRetries: 0 });
    for (const one of [client, below]) assert.equal((await one.models.retrieve(chat)).id, chat);
  });

  test('errors have their classes and words', async () => {
    const stranger = new Anthropic({ baseURL: s.server.url, apiKey: 'sk-neb-nothing', maxRetries: 0 });
    await assert.rejects(stranger.messages.create(say('x')), Anthropic.AuthenticationError);
    await assert.rejects(client.messages.create({ ...say('x'), model: 'no/such' }), (e) => {
      assert.ok(e instanceof Anthropic.NotFoundError);
      assert.equal(e.error.error.type, 'not_found_error');
      return true;
    });
    await assert.rejects(
      client.messages.create(say([{ type: 'image', source: { type: 'file', file_id: 'f' } }])),
      Anthropic.BadRequestError,
    );
  });

  test('a stream that breaks in the middle ends in an error', async () => {
    for (const kind of ['cut_mid_body', 'error_event', 'garbage_frame'])
      await breaks(() => assert.rejects(client.messages.stream(say('x')).finalMessage(), Anthropic.APIError), kind);
  });
});

describe('ollama', () => {
  let client;
  before(() => {
    client = new Ollama({ host: s.server.url, headers: { Authorization: `Bearer ${s.account.key}` } });
  });
  const script = { kind: 'ok', reasoning: 'let me think', text: 'It is noon.' };
  const question = { model: chat, messages: [{ role: 'user', content: 'time?' }] };

  test('chat answers and streams', async () => {
    const { result } = await exactly(script, () => client.chat(question));
    assert.equal(result.message.content, 'It is noon.');
    assert.equal(result.message.thinking, 'let me think');
    assert.deepEqual([result.done, result.prompt_eval_count, result.eval_count], [true, 7, 6]);
    const streamed = await exactly(script, async () => collect(await client.chat({ ...question, stream: true })));
    const told = (name) => streamed.result.map((part) => part.message[name] ?? '').join('');
    assert.deepEqual([told('content'), told('thinking')], ['It is noon.', 'let me think']);
    assert.deepEqual([streamed.result.at(-1).done, streamed.result.at(-1).eval_count], [true, 6]);
  });

  for (const stream of [false, true])
    test(`tools are called, ${stream ? 'streaming' : 'JSON'}`, async () => {
      const tools = [{ type: 'function', function: { name: 'weather', parameters: city_schema } }];
      const { result } = await exactly({ kind: 'ok', calls: [weather, clock] }, async () =>
        stream ? collect(await client.chat({ ...question, tools, stream })) : [await client.chat({ ...question, tools })],
      );
      const calls = result.flatMap((part) => part.message.tool_calls ?? []);
      assert.deepEqual(
        calls.map((c) => [c.function.name, c.function.arguments]),
        [
          ['weather', { city: 'Paris "FR"' }],
          ['clock', {}],
        ],
      );
    });

  test('generate answers and streams', async () => {
    const request = { model: chat, system: 'Be brief.', prompt: 'time?' };
    const { result, records } = await exactly(script, () => client.generate(request));
    assert.deepEqual([result.response, result.thinking, result.done], ['It is noon.', 'let me think', true]);
    assert.deepEqual(
      records[0].body.messages.map((m) => m.content),
      ['Be brief.', 'time?'],
    );
    const streamed = await exactly(script, async () => collect(await client.generate({ ...request, stream: true })));
    assert.equal(streamed.result.map((part) => part.response).join(''), 'It is noon.');
  });

  test('embed, list, ps and show', async () => {
    const { result } = await exactly({ kind: 'ok', prompt_tokens: 5 }, () =>
      client.embed({ model: vectors, input: ['a', 'b'] }),
    );
    assert.deepEqual([result.embeddings.length, result.embeddings[1][0], result.prompt_eval_count], [2, 1.125, 5]);
    for (const { models: listed } of [await client.list(), await client.ps()])
      assert.deepEqual(listed.map((m) => m.name).sort(), ids);
    const shown = await client.show({ model: chat });
    assert.ok(shown.capabilities.includes('completion'));
    assert.match((await client.version()).version, /^\d+\.\d+/);
    await assert.rejects(client.show({ model: 'no/such' }), (e) => e.status_code === 404);
  });

  test('an aborted stream ends at the provider too, and costs what was delivered', async () => {
    s.fake.queue.push({ kind: 'stall_mid', frames: 10, after: 3 });
    const { charge } = await charge_of(s.server, s.account, async () => {
      const stream = await client.chat({ ...question, stream: true });
      await assert.rejects(
        async () => {
          for await (const part of stream) if (part.message.content.startsWith('gamma')) client.abort();
        },
        (e) => e.name === 'AbortError',
      );
      await s.fake.last.closed;
    });
    assert.ok(s.fake.last.cancelled);
    assert.ok(charge > 0n && charge < price_of(100, 10), `${charge}`);
  });

  test('a stream that breaks ends in an error, also when nothing of it could be told yet', async () => {
    await breaks(() => assert.rejects(async () => collect(await client.chat({ ...question, stream: true }))));
    // Calls are told whole with the last line: when they break off, nothing was delivered and nothing is charged.
    s.fake.queue.push({ kind: 'cut_mid_body', calls: [weather, clock], after: 3 });
    const { charge } = await charge_of(s.server, s.account, () =>
      assert.rejects(client.chat({ ...question, stream: true }), (e) => e.status_code === 502),
    );
    assert.equal(charge, 0n);
  });
});

describe('openrouter', () => {
  let client;
  before(() => {
    const serverURL = `${s.server.url}/api/v1`;
    client = new OpenRouter({ apiKey: s.account.key, serverURL, retryConfig: { strategy: 'none' } });
  });

  test('its client, which checks every answer, takes the model list', async () => {
    const pages = await collect(await client.models.list());
    const listed = pages.flatMap((page) => page.result.data);
    assert.deepEqual(listed.map((m) => m.id).sort(), ids);
    const one = listed.find((m) => m.id === chat);
    assert.deepEqual([one.pricing.prompt, one.pricing.completion], ['0.000001', '0.000002']);
    assert.equal(pages[0].result.totalCount, ids.length);
  });

  test('and embeddings', async () => {
    const embedded = await exactly({ kind: 'ok' }, () =>
      client.embeddings.generate({ requestBody: { model: vectors, input: 'a' } }),
    );
    assert.deepEqual(embedded.result.data[0].embedding, [0.125, 0.25, 0.375, 0.5]);
  });
});

describe('a second route, when the first one breaks before anything was told', () => {
  const question = { model: twice, messages: [{ role: 'user', content: 'time?' }], stream: true };

  test('tells its own calls only, and only they are charged', async () => {
    const client = new Ollama({ host: s.server.url, headers: { Authorization: `Bearer ${s.account.key}` } });
    s.fake.queue.push({ kind: 'cut_mid_body', calls: [weather, weather], after: 4 }, { kind: 'ok', calls: [clock] });
    const { charge, result } = await charge_of(s.server, s.account, async () => collect(await client.chat(question)));
    assert.deepEqual(
      result.flatMap((part) => part.message.tool_calls ?? []).map((c) => c.function.name),
      ['clock'],
    );
    assert.equal(charge, price_of(7, 5));
  });

  test('is not charged by what the first one reported', async () => {
    const client = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0 });
    s.fake.queue.push(
      { kind: 'cut_after_finish', frames: 0, usage: 'present', prompt_tokens: 5000 },
      { kind: 'ok', text: 'It is noon.', usage: 'absent' },
    );
    const { charge, result } = await charge_of(s.server, s.account, () =>
      client.messages.stream({ ...question, max_tokens: 100 }).finalMessage(),
    );
    assert.equal(result.content[0].text, 'It is noon.');
    assert.ok(charge > 0n && charge < price_of(1000, 100), `${charge}`);
  });
});

test('the books balance', () => s.server.verify_ledger());
