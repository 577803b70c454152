// The fake provider is an instrument: when it is wrong, every journey measures the wrong thing.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { FakeProvider, parse_script } from './fake_provider.mjs';
import { Authority } from './authority.mjs';
import { RawClient, call, request_bytes } from './raw_http.mjs';
import { within } from './wait.mjs';

let fake;
let client;
before(async () => {
  fake = await FakeProvider.start();
  client = new OpenAI({ baseURL: fake.base_url, apiKey: 'k', maxRetries: 0, timeout: 3000 });
});
after(() => fake.stop());

const ask = (content, extra = {}) =>
  client.chat.completions.create({ model: 'm', messages: [{ role: 'user', content }], ...extra });
const raw = (content, body = {}) =>
  call(fake.base_url, { body: { model: 'm', messages: [{ role: 'user', content }], ...body } });

async function read_all(stream) {
  let text = '';
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  return { text, usage };
}

test('a script is read from a message and from a model name', () => {
  assert.deepEqual(parse_script('ok frames=3 usage=null'), { kind: 'ok', frames: 3, usage: 'null' });
  assert.deepEqual(parse_script('cut_mid_body?after=-1&how=rst'), {
    kind: 'cut_mid_body',
    after: -1,
    how: 'rst',
  });
});

test('the real client understands a plain answer and its usage', async () => {
  const answer = await ask('fake:ok frames=3 prompt_tokens=11');
  assert.equal(answer.choices[0].message.content, 'alpha beta gamma');
  assert.deepEqual(answer.usage, { prompt_tokens: 11, completion_tokens: 3, total_tokens: 14 });
  assert.equal(fake.last.whole, true);
});

test('the real client reads every way of laying a stream on the wire', async () => {
  for (const option of [
    'packets=frame',
    'packets=bytes',
    'packets=odd',
    'packets=pairs',
    'crlf=true',
    'comments=true',
    'multibyte=true packets=bytes',
    'framing=length',
    'framing=close',
    'usage=with_finish',
  ]) {
    const { text, usage } = await read_all(
      await ask(`fake:ok frames=4 ${option}`, { stream: true, stream_options: { include_usage: true } }),
    );
    const want = option.startsWith('multibyte') ? 'naïve Größe 東京 🙂🚀 ' : 'alpha beta gamma delta ';
    assert.equal(text, want, option);
    assert.ok(usage.total_tokens > 0, option);
  }
});

test('usage comes only when asked for', async () => {
  assert.equal((await read_all(await ask('fake:ok', { stream: true }))).usage, null);
  assert.equal(fake.last.usage, null);
});

test('the hash in the record is that of the body on the wire', async () => {
  const asked = { stream: true, stream_options: { include_usage: true } };
  const all = await raw('fake:ok frames=5 multibyte=true packets=odd', asked);
  assert.equal(createHash('sha256').update(all.body).digest('hex'), (await fake.last.finished).sha256);
  const framed = await raw('fake:ok frames=5', asked);
  const without = framed.text.replace(/data: [^\n]*"choices":\[\],[^\n]*\n\n/, '');
  assert.notEqual(without, framed.text);
  assert.equal(
    createHash('sha256').update(without).digest('hex'),
    (await fake.last.finished).sha256_without_usage,
  );
});

test('a gate holds an answer until the test opens it', async () => {
  const answer = ask('fake:ok hold=one');
  await within(2000, 'the request comes to the gate', fake.reached('one'));
  assert.equal(fake.last.whole, false);
  fake.open('one');
  await answer;
  assert.equal(fake.last.whole, true);
});

test('a client that leaves is recorded as a cancellation', async () => {
  const stream = await ask('fake:ok hold=never hold_after=2', { stream: true });
  await within(2000, 'at the gate', fake.reached('never'));
  const record = fake.last;
  stream.controller.abort();
  await within(1000, 'upstream sees it', record.closed);
  await record.finished;
  assert.equal(record.cancelled, true);
  assert.equal(record.whole, false);
  assert.equal(record.content_frames, 2);
});

test('cuts, truncations and garbage reach the wire as named', async () => {
  const stream = { stream: true };
  const cut = await raw('fake:cut_mid_body after=2', stream);
  assert.deepEqual([cut.complete, cut.events().length], [false, 3]);
  assert.equal((await raw('fake:cut_before_head')).status, 0);
  assert.equal((await raw('fake:cut_mid_head')).status, 0);
  const mid_frame = await raw('fake:cut_mid_frame after=1', stream);
  assert.ok(!mid_frame.text.endsWith('\n\n'));
  const finish = await raw('fake:cut_after_finish', stream);
  assert.equal(finish.complete, false);
  assert.match(finish.events().at(-1), /"finish_reason":"stop"/);
  const no_done = await raw('fake:end_without_done', stream);
  assert.deepEqual([no_done.complete, no_done.text.includes('[DONE]')], [true, false]);
  assert.equal((await raw('fake:long_content_length')).complete, false);
  assert.throws(() => JSON.parse('{"id":"x","choices":[{"index":0,'));
  assert.equal((await raw('fake:garbage_json')).complete, true);
  await assert.rejects(raw('fake:bad_chunk', stream), /bad chunk size/);
  await assert.rejects(raw('fake:garbage_head'), /not a status line/);
  assert.equal(fake.records.filter((r) => r.cut && r.whole).length, 0);
});

test('statuses carry their error body and retry-after', async () => {
  for (const [status, type] of [
    [400, OpenAI.BadRequestError],
    [401, OpenAI.AuthenticationError],
    [404, OpenAI.NotFoundError],
    [429, OpenAI.RateLimitError],
    [500, OpenAI.InternalServerError],
  ]) {
    await assert.rejects(ask(`fake:status status=${status} retry_after=7`), type);
  }
  assert.equal((await raw('fake:status status=429 retry_after=7')).headers['retry-after'], '7');
});

test('an in-band error makes the real client throw', async () => {
  const stream = await ask('fake:error_event after=1', { stream: true });
  await assert.rejects(read_all(stream), OpenAI.APIError);
});

test('usage can lie', async () => {
  assert.equal((await ask('fake:ok usage=negative')).usage.completion_tokens, -5);
  assert.equal((await ask('fake:ok usage=absurd')).usage.completion_tokens, 1e15);
  assert.equal((await ask('fake:ok usage=absent')).usage, undefined);
  assert.equal((await ask('fake:ok usage=null')).usage, null);
});

test('several requests follow one another on one connection, also pipelined', async () => {
  const one = await FakeProvider.start();
  const wire = new RawClient(one.base_url);
  await wire.connected;
  const request = request_bytes({ body: { model: 'm', messages: [] } });
  await wire.send(Buffer.concat([request, request]));
  assert.equal((await wire.response()).json().id, one.records[0].id);
  assert.equal((await wire.response()).json().id, one.records[1].id);
  assert.equal(one.connections, 1);
  wire.destroy();
  await one.stop();
});

test('it speaks TLS with a certificate of a private authority', async () => {
  const authority = new Authority();
  const secure = await FakeProvider.start({ tls_options: authority.issue(), host: 'localhost' });
  const answer = await call(secure.base_url, {
    tls_options: { ca: fs.readFileSync(authority.ca_file), servername: 'localhost' },
    body: { model: 'm', messages: [] },
  });
  assert.equal(answer.status, 200);
  await secure.stop();
  authority.remove();
});

test('alone it prints its address, appends to its journal and ends on SIGTERM', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-fake-'));
  const journal = path.join(dir, 'journal');
  const program = path.join(path.dirname(fileURLToPath(import.meta.url)), 'fake_provider.mjs');
  const child = spawn('setpriv', [
    '--pdeathsig',
    'KILL',
    '--',
    process.execPath,
    program,
    '--port',
    '0',
    '--journal',
    journal,
  ]);
  const line = await new Promise((resolve) => child.stdout.once('data', (b) => resolve(`${b}`)));
  const { base_url } = JSON.parse(line);
  const answer = await call(base_url, {
    body: { model: 'm', messages: [{ role: 'user', content: 'fake:ok frames=2' }] },
  });
  await call(base_url, { body: { model: 'fake/cut_mid_body', messages: [] } });
  child.kill('SIGTERM');
  assert.equal(await new Promise((resolve) => child.once('exit', resolve)), 0);
  const lines = fs
    .readFileSync(journal, 'utf8')
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l));
  assert.deepEqual(
    lines.map((l) => l.whole),
    [true, false],
  );
  assert.equal(lines[0].id, answer.json().id);
  assert.equal(lines[0].usage.completion_tokens, 2);
  fs.rmSync(dir, { recursive: true });
});

// What one wire says and another does not would be a difference between tests, not between providers.
test('the real Anthropic client reads the same scripts in Messages words', async () => {
  const messages = new Anthropic({ baseURL: fake.base_url.replace(/\/v1$/, ''), apiKey: 'k', maxRetries: 0, timeout: 3000 });
  const say = (content) => ({ model: 'm', max_tokens: 9, messages: [{ role: 'user', content }] });
  const calls = [{ id: 'call_1', name: 'clock', arguments: '{"zone":"UTC"}' }];
  for (const read of [
    (request) => messages.messages.create(request),
    (request) => messages.messages.stream(request).finalMessage(),
  ]) {
    fake.queue.push({ kind: 'ok', reasoning: 'let me think', text: 'It is noon.', calls, prompt_tokens: 20, cached: 5 });
    const answer = await read(say([{ type: 'text', text: 'time?' }]));
    assert.deepEqual(
      answer.content.map((b) => b.thinking ?? b.text ?? b.input),
      ['let me think', 'It is noon.', { zone: 'UTC' }],
    );
    assert.equal(answer.stop_reason, 'tool_use');
    assert.deepEqual([answer.usage.input_tokens, answer.usage.cache_read_input_tokens], [15, 5]);
    assert.equal(answer.usage.output_tokens, fake.last.usage.completion_tokens);
    assert.deepEqual([fake.last.usage.prompt_tokens, fake.last.whole, fake.last.model], [20, true, 'm']);
    await assert.rejects(read(say('fake:status status=500')), Anthropic.APIError);
    await assert.rejects(read(say('fake:cut_mid_body')));
  }
  await assert.rejects(messages.messages.stream(say('fake:error_event')).finalMessage(), Anthropic.APIError);
  assert.equal((await messages.messages.countTokens({ model: 'm', messages: say('x').messages })).input_tokens, 7);
});

test('the real Ollama client reads the same scripts in Ollama’s words', async () => {
  const ollama = new Ollama({ host: fake.base_url.replace(/\/v1$/, '') });
  const say = (content) => ({ model: 'm', messages: [{ role: 'user', content }] });
  const calls = [{ id: 'call_1', name: 'clock', arguments: '{"zone":"UTC"}' }];
  const whole = async (request) => {
    const parts = [];
    for await (const part of await ollama.chat({ ...request, stream: true })) parts.push(part);
    const joined = (name) => parts.map((part) => part.message[name] ?? '').join('');
    const message = { content: joined('content').trim(), thinking: joined('thinking') };
    return { ...parts.at(-1), message: { ...message, tool_calls: parts.flatMap((part) => part.message.tool_calls ?? []) } };
  };
  for (const read of [(request) => ollama.chat(request), whole]) {
    fake.queue.push({ kind: 'ok', reasoning: 'let me think', text: 'It is noon.', calls, prompt_tokens: 20 });
    const answer = await read(say('time?'));
    assert.deepEqual([answer.message.thinking, answer.message.content], ['let me think', 'It is noon.']);
    assert.deepEqual(answer.message.tool_calls[0].function.arguments, { zone: 'UTC' });
    assert.deepEqual([answer.done, answer.prompt_eval_count], [true, 20]);
    assert.equal(answer.eval_count, fake.last.usage.completion_tokens);
    assert.deepEqual([fake.last.whole, fake.last.model], [true, 'm']);
    await assert.rejects(read(say('fake:status status=500')), (e) => e.status_code === 500);
    await assert.rejects(read(say('fake:cut_mid_body')));
  }
  await assert.rejects(whole(say('fake:error_event')), /overloaded/);
  assert.equal((await ollama.generate({ model: 'm', prompt: 'fake:ok text=noon' })).response, 'noon');
  assert.equal((await ollama.embed({ model: 'm', input: ['a', 'b'] })).embeddings.length, 2);
});

// No client of Google's is among the packages here; the shapes are those of its reference.
test('Gemini’s words: whole, streamed, refused and as vectors', async () => {
  const ask = (method, content, more = {}) =>
    call(fake.base_url, {
      path: `/v1beta/models/gemini-x:${method}`,
      body: { contents: [{ role: 'user', parts: [{ text: content }] }], ...more },
    });
  const whole = (await ask('generateContent', 'fake:ok frames=2 cached=3')).json();
  assert.deepEqual(whole.candidates[0], { content: { role: 'model', parts: [{ text: 'alpha beta' }] }, finishReason: 'STOP', index: 0 });
  assert.deepEqual(whole.usageMetadata, { promptTokenCount: 7, candidatesTokenCount: 2, cachedContentTokenCount: 3, totalTokenCount: 9 });
  assert.equal(whole.modelVersion, 'gemini-x');
  const events = (await ask('streamGenerateContent?alt=sse', 'fake:ok frames=2')).events().map((data) => JSON.parse(data));
  assert.deepEqual(
    events.map((e) => [e.candidates[0].content.parts[0].text, e.candidates[0].finishReason, e.usageMetadata?.candidatesTokenCount]),
    [
      ['alpha ', undefined, undefined],
      ['beta ', undefined, undefined],
      ['', 'STOP', 2],
    ],
  );
  const refused = await ask('generateContent', 'fake:status status=400 code=invalid_argument');
  assert.deepEqual(refused.json().error, { code: 400, message: 'upstream says 400', status: 'INVALID_ARGUMENT' });
  const requests = [{ content: { parts: [{ text: 'a' }] }, outputDimensionality: 2 }];
  const vectors = await call(fake.base_url, { path: '/v1beta/models/e:batchEmbedContents', body: { requests } });
  assert.deepEqual(vectors.json().embeddings, [{ values: [0.125, 0.25] }]);
});
