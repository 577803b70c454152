// The kits that applications are built with, unmodified but for base URL and key: the ai package over each of its
// providers that speaks one of our APIs, and LangChain. They check and read more of an answer than the plain clients do.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { createOpenRouter } from '@openrouter/ai-sdk-provider';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { model } from '../support/nebula.mjs';
import { charge_of, collect, price_of, stage } from '../support/stage.mjs';

const chat = 'demo/chat:1';
const vectors = 'demo/vectors:1';
const weather = { id: 'call_1', name: 'weather', arguments: '{"city":"Paris \\"FR\\""}' };
const city = z.object({ city: z.string() });

globalThis.AI_SDK_LOG_WARNINGS = false;

let s;
before(async () => {
  s = await stage({
    models: [model(chat, { endpoints: ['chat', 'completions'] }), model(vectors, { endpoints: ['embeddings'] })],
  });
});
after(() => s?.close());

/** How the ai package names the same model over each API, and where its thoughts and cost are told. */
const kits = {
  'openai-compatible': () =>
    createOpenAICompatible({
      name: 'nebula',
      baseURL: `${s.server.url}/v1`,
      apiKey: s.account.key,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })(chat),
  'openai, chat': () => createOpenAI({ baseURL: `${s.server.url}/v1`, apiKey: s.account.key }).chat(chat),
  'openai, responses': () => createOpenAI({ baseURL: `${s.server.url}/v1`, apiKey: s.account.key })(chat),
  anthropic: () => createAnthropic({ baseURL: `${s.server.url}/v1`, apiKey: s.account.key })(chat),
  'openai, responses below /api/v1': () =>
    createOpenAI({ baseURL: `${s.server.url}/api/v1`, apiKey: s.account.key })(chat),
  'anthropic below /api/v1': () => createAnthropic({ baseURL: `${s.server.url}/api/v1`, apiKey: s.account.key })(chat),
  openrouter: () => createOpenRouter({ baseURL: `${s.server.url}/api/v1`, apiKey: s.account.key })(chat),
};
const thinks = new Set(['openai-compatible', 'anthropic', 'anthropic below /api/v1', 'openrouter']);

for (const [name, make] of Object.entries(kits))
  describe(`ai over ${name}`, () => {
    const script = { kind: 'ok', text: 'It is noon.', reasoning: 'what time' };
    let options;
    before(() => {
      options = { model: make(), maxRetries: 0, prompt: 'time?' };
    });

    test('answers and streams, with thoughts beside the words', async () => {
      const { result } = await s.exactly(script, () => generateText(options));
      assert.equal(result.text, 'It is noon.');
      assert.equal(result.finishReason, 'stop');
      assert.deepEqual([result.usage.inputTokens, result.usage.outputTokens], [7, 5]);
      if (thinks.has(name)) assert.equal(result.reasoningText, 'what time');
      const streamed = await s.exactly(script, async () => {
        const stream = streamText(options);
        return { text: (await collect(stream.textStream)).join(''), usage: await stream.usage, why: await stream.finishReason };
      });
      assert.equal(streamed.result.text, 'It is noon.');
      assert.deepEqual([streamed.result.usage.inputTokens, streamed.result.usage.outputTokens], [7, 5]);
      assert.equal(streamed.result.why, 'stop');
    });

    for (const stream of [false, true])
      test(`calls tools until there is an answer, ${stream ? 'streaming' : 'JSON'}`, async () => {
        const asked = [];
        const tools = {
          weather: tool({
            inputSchema: city,
            execute: async (input) => {
              asked.push(input.city);
              return 'sunny';
            },
          }),
        };
        const scripts = [
          { kind: 'ok', calls: [weather] },
          { kind: 'ok', text: 'Sunny.' },
        ];
        const { result, records } = await s.exactly(scripts, async () => {
          const all = { ...options, tools, stopWhen: stepCountIs(3) };
          if (!stream) return (await generateText(all)).text;
          return (await collect(streamText(all).textStream)).join('');
        });
        assert.equal(result, 'Sunny.');
        assert.deepEqual(asked, ['Paris "FR"']);
        const told = records[1].body.messages.slice(-2);
        assert.deepEqual(
          told.map((m) => [m.role, m.tool_call_id ?? m.tool_calls[0].id]),
          [
            ['assistant', 'call_1'],
            ['tool', 'call_1'],
          ],
        );
        assert.match(JSON.stringify(told[1].content), /sunny/);
      });

    test('asks for an object of a schema', async () => {
      // For models that it does not know, the kit's Anthropic half asks for a tool call in place of a schema.
      const by_tool = name.startsWith('anthropic');
      const text = '{"city":"Paris"}';
      const script = by_tool ? { kind: 'ok', calls: [{ id: 'call_1', name: 'json', arguments: text }] } : { kind: 'ok', text };
      const { result, records } = await s.exactly(script, () => generateText({ ...options, output: Output.object({ schema: city }) }));
      assert.deepEqual(result.output, { city: 'Paris' });
      const { response_format, tools, tool_choice } = records[0].body;
      const schema = by_tool ? tools[0].function.parameters : response_format.json_schema.schema;
      assert.deepEqual(schema.required, ['city']);
      assert.equal(by_tool ? tool_choice : response_format.type, by_tool ? 'required' : 'json_schema');
    });

    test('an image reaches the model', async () => {
      const image = Buffer.from('89504e470d0a1a0a', 'hex');
      const { records } = await s.exactly({ kind: 'ok' }, () =>
        generateText({
          model: options.model,
          maxRetries: 0,
          messages: [
            {
              role: 'user',
              content: [
                { type: 'text', text: 'what is it?' },
                { type: 'image', image, mediaType: 'image/png' },
              ],
            },
          ],
        }),
      );
      const parts = records[0].body.messages.at(-1).content;
      assert.equal(parts.find((p) => p.type === 'image_url').image_url.url, `data:image/png;base64,${image.toString('base64')}`);
    });

    test('an aborted stream ends at the provider too, and costs what was delivered', async () => {
      s.fake.queue.push({ kind: 'stall_mid', frames: 10, after: 3 });
      const abort = new AbortController();
      const { charge } = await charge_of(s.server, s.account, async () => {
        const stream = streamText({ ...options, abortSignal: abort.signal });
        for await (const word of stream.textStream) if (word.startsWith('gamma')) abort.abort();
        await s.fake.last.closed;
      });
      assert.ok(s.fake.last.cancelled);
      assert.ok(charge > 0n && charge < price_of(100, 10), `${charge}`);
    });

    test('a stream that breaks in the middle is an error and not an end', async () => {
      const errors = [];
      await s.breaks(async () => {
        const stream = streamText({ ...options, onError: ({ error }) => errors.push(error) });
        await collect(stream.textStream).catch((error) => errors.push(error));
        await Promise.resolve(stream.finishReason).catch(() => {});
      });
      assert.ok(errors.length > 0);
    });

    test('a refusal is told in words', async () => {
      s.fake.queue.push({ kind: 'status', status: 400, message: 'no such picture' });
      await assert.rejects(generateText(options), /no such picture/);
    });
  });

test('ai: embeddings', async () => {
  const provider = createOpenAI({ baseURL: `${s.server.url}/v1`, apiKey: s.account.key });
  const { result } = await s.exactly({ kind: 'ok' }, () =>
    embedMany({ model: provider.embedding(vectors), values: ['a', 'b'], maxRetries: 0 }),
  );
  assert.deepEqual(
    result.embeddings.map((v) => v[0]),
    [0.125, 1.125],
  );
});

describe('langchain', () => {
  const make = (extra = {}) =>
    new ChatOpenAI({ model: chat, apiKey: s.account.key, maxRetries: 0, configuration: { baseURL: `${s.server.url}/v1` }, ...extra });

  for (const useResponsesApi of [false, true]) {
    const over = useResponsesApi ? 'responses' : 'chat';

    test(`answers and streams over ${over}`, async () => {
      const script = { kind: 'ok', text: 'It is noon.' };
      const { result } = await s.exactly(script, () => make({ useResponsesApi }).invoke('time?'));
      assert.equal(result.text, 'It is noon.');
      assert.equal(result.usage_metadata.output_tokens, 3);
      const streamed = await s.exactly(script, async () => collect(await make({ useResponsesApi }).stream('time?')));
      assert.equal(streamed.result.map((c) => c.text).join(''), 'It is noon.');
    });

    test(`binds tools and schemas over ${over}`, async () => {
      const bound = make({ useResponsesApi }).bindTools([{ name: 'weather', description: 'tells it', schema: city }]);
      const { result } = await s.exactly({ kind: 'ok', calls: [weather] }, () => bound.invoke('How is Paris?'));
      assert.deepEqual(
        result.tool_calls.map((c) => [c.name, c.args, c.id]),
        [['weather', { city: 'Paris "FR"' }, 'call_1']],
      );
      const structured = make({ useResponsesApi }).withStructuredOutput(city, { method: 'jsonSchema' });
      const object = await s.exactly({ kind: 'ok', text: '{"city":"Paris"}' }, () => structured.invoke('where?'));
      assert.deepEqual(object.result, { city: 'Paris' });
    });
  }

  test('an aborted stream ends at the provider too', async () => {
    s.fake.queue.push({ kind: 'stall_mid', frames: 10, after: 3 });
    const abort = new AbortController();
    const { charge } = await charge_of(s.server, s.account, async () => {
      await assert.rejects(async () => {
        for await (const part of await make().stream('x', { signal: abort.signal }))
          if (part.text.startsWith('gamma')) abort.abort();
      });
      await s.fake.last.closed;
    });
    assert.ok(s.fake.last.cancelled);
    assert.ok(charge > 0n && charge < price_of(100, 10), `${charge}`);
  });

  test('embeds documents', async () => {
    const embeddings = new OpenAIEmbeddings({
      model: vectors,
      apiKey: s.account.key,
      maxRetries: 0,
      configuration: { baseURL: `${s.server.url}/v1` },
    });
    const { result } = await s.exactly({ kind: 'ok' }, () => embeddings.embedDocuments(['a', 'b']));
    assert.deepEqual(
      result.map((v) => v[0]),
      [0.125, 1.125],
    );
  });
});

test('the books balance', () => s.server.verify_ledger());

// OpenRouter's clients look for its word of what went wrong, and for the id to ask about.
test('errors below /api/v1 of other APIs have their shape and OpenRouter’s word', async () => {
  const post = (path, body, key = s.account.key) => s.server.call({ path, key, body });
  const hello = { model: chat, messages: [{ role: 'user', content: 'hello' }], max_tokens: 5 };
  const good = await post('/api/v1/messages', hello);
  assert.equal(good.status, 200, good.text);
  assert.equal(good.headers['x-generation-id'], good.headers['x-request-id']);
  for (const [body, key, status, type, word] of [
    [{ ...hello, model: 'none' }, s.account.key, 404, 'not_found_error', 'not_found'],
    [{ ...hello, messages: 7 }, s.account.key, 400, 'invalid_request_error', 'invalid_request'],
    [hello, 'sk-neb-wrong', 401, 'authentication_error', 'authentication'],
  ]) {
    const answer = await post('/api/v1/messages', body, key);
    assert.equal(answer.status, status, answer.text);
    const { type: kind, error } = answer.json();
    assert.deepEqual([kind, error.type, error.error_type], ['error', type, word]);
    const { messages, max_tokens: _, ...rest } = body;
    const same = await post('/api/v1/responses', { ...rest, input: messages === 7 ? 7 : 'hello' }, key);
    assert.equal(same.status, status, same.text);
    assert.equal(same.json().error_type, word);
    assert.equal(typeof same.json().error.message, 'string');
  }
});
