// Guard rails must catch what they are for in every client's words and however a stream is cut, must not touch anything
// else, and must never let pass unseen what they were told to stop.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import http from 'node:http';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { Ollama } from 'ollama';
import { model, provider } from '../support/nebula.mjs';
import { assert_error_body, assert_whole_stream, charge_of, price_of, read_stream, stage } from '../support/stage.mjs';
import { eventually } from '../support/wait.mjs';

const rail = (name, rest) => ({ name, mode: 'enforce', models: [name], ...rest });
/** A model of its own for each rail. */
const models_of = (rails) => [...new Set(rails.flatMap((r) => r.models))].map((id) => model(id, { endpoints: ['chat', 'completions'] }));
const last_text = (s) => s.fake.last.body.messages.at(-1).content;

describe('rails that need nobody else', () => {
  const rails = [
    rail('limits', { kind: 'limits', prompt_bytes_max: 200, messages_max: 2 }),
    rail('block', { kind: 'words', words: ['aurora'], patterns: ['AUR-[0-9]{4}'] }),
    rail('mask', { kind: 'words', action: 'mask', words: ['aurora'], replacement: '"***"' }),
    rail('log', { kind: 'words', action: 'log', words: ['aurora'] }),
    rail('shadow', { kind: 'words', mode: 'shadow', words: ['aurora'], apply_to: 'both' }),
    rail('names', { kind: 'pii', action: 'mask', reversible: true }),
    rail('output', { kind: 'words', apply_to: 'output', words: ['aurora'] }),
    rail('output-mask', { kind: 'words', apply_to: 'output', action: 'mask', words: ['aurora'] }),
  ];
  let s;
  before(async () => {
    s = await stage({ models: models_of(rails), sections: { guardrail: rails } });
  });
  after(() => s?.close());

  const ask = (id, content, more = {}) => s.server.chat({ key: s.account.key, model: id, content, ...more });
  const count = (name, outcome) => s.server.metric('nebula_guardrail_total', { rail: name, ...(outcome ? { outcome } : {}) });

  test('a prompt above the limits is refused, one at its edge is not', async () => {
    const fits = 'fake:ok '.padEnd(200, 'x');
    assert.equal((await ask('limits', fits)).status, 200);
    const { charge, result } = await charge_of(s.server, s.account, () => ask('limits', `${fits}x`));
    assert_error_body(result, 400, { code: 'content_policy_violation' });
    assert.equal(charge, 0n);
    const three = ['a', 'b', 'c'].map((content) => ({ role: 'user', content }));
    assert_error_body(await ask('limits', '', { body: { messages: three } }), 400);
  });

  test('a blocked request reaches nobody, costs nothing, and is told in each API\'s words', async () => {
    const from = s.fake.records.length;
    for (const content of ['say AURORA', 'say AUR-1234', 'say "aurora"\n']) {
      const { charge, result } = await charge_of(s.server, s.account, () => ask('block', content));
      assert_error_body(result, 400, { type: 'invalid_request_error', code: 'content_policy_violation' });
      assert.equal(charge, 0n);
    }
    const openai = s.server.client(s.account.key);
    const messages = [{ role: 'user', content: [{ type: 'text', text: 'aurora?' }] }];
    await assert.rejects(openai.chat.completions.create({ model: 'block', messages }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      return error.code === 'content_policy_violation';
    });
    const anthropic = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0 });
    await assert.rejects(
      anthropic.messages.create({ model: 'block', max_tokens: 9, system: 'aurora', messages: [{ role: 'user', content: 'a' }] }),
      (error) => error instanceof Anthropic.BadRequestError && error.error.error.type === 'invalid_request_error',
    );
    const ollama = new Ollama({ host: s.server.url, headers: { authorization: `Bearer ${s.account.key}` } });
    await assert.rejects(ollama.chat({ model: 'block', messages: [{ role: 'user', content: 'aurora' }] }), /guard rail/);
    const long = `aurora ${'x'.repeat(200)}`;
    const routed = await ask('block', long, { path: '/api/v1/chat/completions' });
    assert.equal(routed.status, 403, routed.text);
    const { metadata } = routed.json().error;
    assert.deepEqual(metadata.reasons, ['WORD']);
    assert.equal(metadata.flagged_input, long.slice(0, 100));
    assert.equal(metadata.model_slug, 'block');
    assert.equal(s.fake.records.length, from);
    assert.equal(await count('block', 'block'), 7);
    assert.ok(!s.server.output.toLowerCase().includes('aurora?'), 'no text in the log');
  });

  test('words inside of longer words are no match', async () => {
    assert.equal((await ask('block', 'fake:ok auroras AUR-123')).status, 200);
  });

  test('masking keeps the rest of the request as it is', async () => {
    const response = await ask('mask', 'fake:ok "Aurora"\n', { body: { seed: 7, user: 'aurora' } });
    assert.equal(response.status, 200, response.text);
    assert.equal(last_text(s), 'fake:ok ""***""\n');
    assert.equal(s.fake.last.body.user, '"***"');
    assert.equal(s.fake.last.body.seed, 7);
  });

  test('a rail that logs, or is in shadow, counts and changes nothing', async () => {
    for (const [name, outcome] of [['log', 'log'], ['shadow', 'block']]) {
      const before_it = await count(name, outcome);
      const response = await ask(name, 'fake:ok aurora');
      assert.equal(response.status, 200);
      assert.equal(last_text(s), 'fake:ok aurora');
      assert.equal(await count(name, outcome), before_it + 1);
    }
    s.fake.queue.push({ kind: 'ok', text: 'one aurora two' });
    const stream = await ask('shadow', 'a', { stream: true });
    assert_whole_stream(stream);
    assert.ok(stream.text.includes('aurora'));
    assert.equal(await count('shadow', 'block'), 2);
  });

  test('a prompt in tokens cannot be judged and is refused', async () => {
    const call = (id) => s.server.call({ key: s.account.key, path: '/v1/completions', body: { model: id, prompt: [1, 2] } });
    assert_error_body(await call('block'), 400, { code: 'content_policy_violation' });
    assert.equal((await call('shadow')).status, 200);
  });

  test('personal data does not leave, and comes back in the answer: JSON and streams, over the borders of events', async () => {
    const openai = s.server.client(s.account.key);
    const content = 'Mail ada@example.com and bob@example.com, card 4111 1111 1111 1111, not ada@example.com';
    for (const packets of ['frame', 'bytes', 'odd']) {
      s.fake.queue.push({ kind: 'ok', packets, text: 'Wrote to [EMAIL_1] and [EMAIL_2] with [CARD_1] [EMAIL_3]' });
      const request = { model: 'names', stream: true, messages: [{ role: 'user', content }] };
      const { text, usage } = await read_stream(
        await openai.chat.completions.create({ ...request, stream_options: { include_usage: true } }),
      );
      assert.equal(last_text(s), 'Mail [EMAIL_1] and [EMAIL_2], card [CARD_1], not [EMAIL_1]');
      assert.equal(text, 'Wrote to ada@example.com and bob@example.com with 4111 1111 1111 1111 [EMAIL_3]');
      assert.equal(usage.prompt_tokens, 7);
    }
    s.fake.queue.push({ kind: 'ok', text: 'Dear [EMAIL_1]' });
    const whole = await openai.chat.completions.create({ model: 'names', messages: [{ role: 'user', content }] });
    assert.equal(whole.choices[0].message.content, 'Dear ada@example.com');
  });

  test('arguments of tools are given back whole and valid', async () => {
    const openai = s.server.client(s.account.key);
    const calls = [{ id: 'call_1', name: 'mail', arguments: '{"to":"[EMAIL_1]","n":1}' }];
    s.fake.queue.push({ kind: 'ok', calls });
    const stream = await openai.chat.completions.create({
      model: 'names',
      stream: true,
      messages: [{ role: 'user', content: 'ada@example.com' }],
    });
    let told = '';
    for await (const chunk of stream)
      for (const call of chunk.choices[0]?.delta.tool_calls ?? []) told += call.function?.arguments ?? '';
    assert.deepEqual(JSON.parse(told), { to: 'ada@example.com', n: 1 });
  });

  test('clients of Messages get their names back too', async () => {
    const anthropic = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0 });
    s.fake.queue.push({ kind: 'ok', text: 'Hello [EMAIL_1] .' });
    const message = await anthropic.messages
      .stream({ model: 'names', max_tokens: 50, messages: [{ role: 'user', content: 'I am ada@example.com' }] })
      .finalMessage();
    assert.equal(last_text(s), 'I am [EMAIL_1]');
    assert.equal(message.content[0].text, 'Hello ada@example.com .');
  });

  test('a blocked answer ends where the match begins, says so, and is charged as the provider counted', async () => {
    const openai = s.server.client(s.account.key);
    const script = { kind: 'ok', text: 'this is about Aurora and more' };
    const request = { model: 'output', messages: [{ role: 'user', content: 'a' }] };
    s.fake.queue.push({ ...script });
    const whole = await charge_of(s.server, s.account, () => openai.chat.completions.create(request));
    assert.equal(whole.result.choices[0].message.content, 'this is about ');
    assert.equal(whole.result.choices[0].finish_reason, 'content_filter');
    for (const packets of ['frame', 'bytes']) {
      s.fake.queue.push({ ...script, packets });
      const { charge, result } = await charge_of(s.server, s.account, async () =>
        read_stream(await openai.chat.completions.create({ ...request, stream: true })),
      );
      assert.equal(result.text, 'this is about ');
      assert.equal(result.chunks.at(-1).choices[0].finish_reason, 'content_filter');
      assert.equal(charge, price_of(7, 6));
      assert.equal(whole.charge, charge);
    }
    const anthropic = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0 });
    s.fake.queue.push({ ...script });
    const message = await anthropic.messages.stream({ ...request, max_tokens: 50 }).finalMessage();
    assert.equal(message.content[0].text, 'this is about ');
    assert.equal(message.stop_reason, 'refusal');
    await s.server.verify_ledger();
  });

  test('a masked answer keeps its usage chunk where it is asked for, and only there', async () => {
    for (const include_usage of [true, false]) {
      s.fake.queue.push({ kind: 'ok', text: 'one aurora two' });
      const body = include_usage ? { stream_options: { include_usage } } : {};
      const response = await ask('output-mask', 'a', { stream: true, body });
      assert_whole_stream(response);
      const chunks = response.events().slice(0, -1).map((event) => JSON.parse(event));
      assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), 'one [removed] two');
      assert.equal(chunks.some((c) => c.usage), include_usage);
    }
  });

  test("OpenRouter's clients read thoughts under its name, guarded or not", async () => {
    for (const id of ['output-mask', 'log'])
      for (const stream of [true, false]) {
        s.fake.queue.push({ kind: 'ok', reasoning: 'an aurora it is', text: 'well' });
        const path = '/api/v1/chat/completions';
        const answer = await ask(id, 'hello', { path, stream });
        assert.equal(answer.status, 200, answer.text);
        assert.ok(!answer.text.includes('reasoning_content'), answer.text);
        const parts = stream
          ? answer.text.split('\n').flatMap((line) => (line.startsWith('data: {') ? [JSON.parse(line.slice(6))] : []))
          : [answer.json()];
        const thoughts = parts.map((one) => (one.choices[0]?.delta ?? one.choices[0]?.message)?.reasoning ?? '').join('');
        assert.equal(thoughts, id === 'log' ? 'an aurora it is' : 'an [removed] it is');
      }
  });

  test('a cached answer is looked at like a fresh one', async () => {
    const headers = { 'x-nebula-cache': 'true' };
    const one = (content) => ask('names', content, { headers });
    s.fake.queue.push({ kind: 'ok', text: 'Hello [EMAIL_1]' });
    const first = await one('cached ada@example.com');
    assert.equal(first.json().choices[0].message.content, 'Hello ada@example.com');
    // To the provider it would be the same request.
    const other = await one('cached bob@example.com');
    assert.equal(other.headers['x-nebula-cache'], 'hit');
    assert.equal(other.json().choices[0].message.content, 'Hello bob@example.com');
  });
});

/** An HTTP service of the operator's: answers with what `answer` returns for a call. */
async function hook_server(answer) {
  const calls = [];
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (piece) => (body += piece));
    request.on('end', () => {
      const call = { ...JSON.parse(body), raw: body, headers: request.headers };
      calls.push(call);
      const said = answer(call);
      if (said === undefined) return; // silence
      response.writeHead(said.status ?? 200, { 'content-type': 'application/json' });
      response.end(typeof said.body === 'string' ? said.body : JSON.stringify(said.body));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    calls,
    url: `http://127.0.0.1:${server.address().port}/check`,
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}

describe('rails that ask somebody', () => {
  const secret = 'a secret of the operator';
  let s, hook, next;
  before(async () => {
    hook = await hook_server((call) => next(call));
    const ask = { kind: 'hook', url: hook.url, secret_env: 'HOOK_SECRET', timeout_ms: 500 };
    const rails = [
      rail('closed', ask),
      rail('open', { ...ask, on_failure: 'open' }),
      rail('both', { ...ask, apply_to: 'output' }),
      rail('watch', { ...ask, mode: 'shadow', send_body: false }),
      rail('moderated', { kind: 'moderation', moderation_model: 'guard', timeout_ms: 500 }),
      rail('lenient', { kind: 'moderation', moderation_model: 'guard', timeout_ms: 500, on_failure: 'open' }),
    ];
    const models = [...models_of(rails), model('guard', { endpoints: ['moderations'] })];
    s = await stage({ models, sections: { guardrail: rails }, env: { HOOK_SECRET: secret } });
  });
  after(async () => {
    await s?.close();
    await hook?.close();
  });
  const ask = (id, content = 'fake:ok frames=3', more = {}) =>
    s.server.chat({ key: s.account.key, model: id, content, ...more });

  test('a request hook sees who asks what, signed, and allows', async () => {
    next = () => ({ body: { action: 'allow' } });
    const response = await ask('closed');
    assert.equal(response.status, 200, response.text);
    const call = hook.calls.at(-1);
    assert.equal(call.request_id, response.headers['x-request-id']);
    assert.equal(call.account, s.account.id);
    assert.equal(call.key, s.account.key_id);
    assert.deepEqual([call.model, call.endpoint, call.stage, call.stream], ['closed', 'chat', 'request', false]);
    assert.equal(call.body.messages[0].content, 'fake:ok frames=3');
    const [, time, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(call.headers['x-nebula-signature']);
    assert.equal(mac, crypto.createHmac('sha256', secret).update(`${time}.${call.raw}`).digest('hex'));
    assert.ok(Math.abs(Number(time) - Date.now() / 1000) < 60);
  });

  test('it refuses with words of its own, or gives another request', async () => {
    next = () => ({ body: { action: 'block', message: 'not on Sundays' } });
    const error = assert_error_body(await ask('closed'), 400, { code: 'content_policy_violation' });
    assert.equal(error.message, 'not on Sundays');
    next = (call) => ({ body: { action: 'replace', body: { ...call.body, messages: [{ role: 'user', content: 'fake:ok frames=2' }] } } });
    const { charge } = await charge_of(s.server, s.account, () => ask('closed'));
    assert.equal(last_text(s), 'fake:ok frames=2');
    assert.equal(charge, price_of(7, 2));
  });

  test('what fails is refused when closed and passes when open', async () => {
    const failures = [
      () => undefined, // too slow
      () => ({ status: 500, body: {} }),
      () => ({ body: 'nonsense' }),
      () => ({ body: { action: 'perhaps' } }),
      () => ({ body: { action: 'allow', more: 'x'.repeat(2_000_000) } }), // too large
      (call) => ({ body: { action: 'replace', body: { ...call.body, model: 'another' } } }),
    ];
    for (const failure of failures) {
      next = failure;
      const from = s.fake.records.length;
      assert_error_body(await ask('closed'), 400, { code: 'content_policy_violation' });
      assert.equal(s.fake.records.length, from);
      assert.equal((await ask('open')).status, 200, `${failure}`);
    }
    assert.equal(await s.server.metric('nebula_guardrail_total', { rail: 'closed', outcome: 'failed' }), failures.length);
  });

  test('in shadow it is asked and cannot refuse, and gets no text that it should not', async () => {
    next = () => ({ body: { action: 'block' } });
    assert.equal((await ask('watch')).status, 200);
    assert.equal(hook.calls.at(-1).body, undefined);
    assert.equal(await s.server.metric('nebula_guardrail_total', { rail: 'watch', outcome: 'block' }), 1);
  });

  test('a response hook changes or withholds a whole answer and hears of a stream', async () => {
    next = (call) => {
      const body = structuredClone(call.body);
      body.choices[0].message.content = 'changed';
      return { body: { action: 'replace', body } };
    };
    assert.equal((await ask('both')).json().choices[0].message.content, 'changed');
    assert.equal(hook.calls.at(-1).stage, 'response');
    next = () => ({ body: { action: 'block' } });
    const { charge, result } = await charge_of(s.server, s.account, () => ask('both'));
    const [choice] = result.json().choices;
    assert.deepEqual([choice.message.content, choice.finish_reason], ['', 'content_filter']);
    assert.equal(charge, price_of(7, 3));
    next = () => ({ body: { action: 'allow' } });
    const stream = await ask('both', 'fake:ok text=hello frames=1', { stream: true });
    assert_whole_stream(stream);
    await eventually('the hook has heard of it', async () => hook.calls.at(-1).stream === true);
    const heard = hook.calls.at(-1);
    assert.deepEqual([heard.stage, heard.text], ['response', 'hello']);
    assert.equal(heard.usage.prompt_tokens, 7);
    await s.server.verify_ledger();
  });

  test('a moderation model is asked for all texts, at nobody\'s cost, and refuses', async () => {
    const flagged = (record) => record.path.endsWith('/moderations');
    const from = s.fake.records.length;
    const { charge, result } = await charge_of(s.server, s.account, () => ask('moderated'));
    assert.equal(result.status, 200, result.text);
    assert.equal(charge, price_of(7, 3), 'the chat alone');
    const [asked, chat] = s.fake.records.slice(from);
    assert.ok(flagged(asked));
    assert.deepEqual(asked.body.input, ['fake:ok frames=3']);
    assert.ok(!flagged(chat));
    s.fake.rules.push(({ request }) => (request.target.endsWith('/moderations') ? { kind: 'status', status: 500 } : null));
    assert_error_body(await ask('moderated'), 400, { code: 'content_policy_violation' });
    assert.equal((await ask('lenient')).status, 200);
    s.fake.rules.length = 0;
  });
});

describe('requests that would pass to a provider of the same API as they are', () => {
  const rails = [
    rail('mask', { kind: 'pii', action: 'mask' }),
    rail('names', { kind: 'pii', action: 'mask', reversible: true }),
    rail('block', { kind: 'words', words: ['aurora'] }),
    rail('output', { kind: 'words', apply_to: 'output', words: ['aurora'] }),
  ];
  let s, anthropic;
  before(async () => {
    s = await stage({
      models: [...models_of(rails), model('free')].map((one) => ({ ...one, cache: 'always' })),
      sections: { guardrail: rails },
      providers: (fake) => [provider('fake', fake.base_url.replace(/\/v1$/, ''), { kind: 'anthropic' })],
    });
    anthropic = new Anthropic({ baseURL: s.server.url, apiKey: s.account.key, maxRetries: 0 });
  });
  after(() => s?.close());
  // What has no name in OpenAI's API tells whether the client's own bytes were sent.
  const own = { service_tier: 'auto' };
  const request = (id, content) => ({ model: id, max_tokens: 50, ...own, messages: [{ role: 'user', content }] });
  const create = (id, content) => anthropic.messages.create(request(id, content));

  test('their texts are masked in their own form', async () => {
    await create('mask', [{ type: 'text', text: 'I am ada@example.com' }]);
    assert.deepEqual(s.fake.last.body.messages[0].content, [{ type: 'text', text: 'I am [EMAIL_1]' }]);
    assert.equal(s.fake.last.body.service_tier, 'auto');
  });

  test('they are blocked like others', async () => {
    const from = s.fake.records.length;
    await assert.rejects(create('block', 'aurora'), Anthropic.BadRequestError);
    assert.equal(s.fake.records.length, from);
  });

  test('where answers must be looked at they are translated instead', async () => {
    s.fake.queue.push({ kind: 'ok', text: 'Dear [EMAIL_1] .' });
    const message = await create('names', 'I am ada@example.com');
    assert.equal(message.content[0].text, 'Dear ada@example.com .');
    assert.equal(s.fake.last.body.service_tier, undefined);
    s.fake.queue.push({ kind: 'ok', text: 'it is Aurora now' });
    const cut = await anthropic.messages.stream(request('output', 'a')).finalMessage();
    assert.deepEqual([cut.content[0].text, cut.stop_reason], ['it is ', 'refusal']);
  });

  test('what cannot be translated is refused then, and passes where no rail must look', async () => {
    const tools = [{ type: 'web_search_20250305', name: 'web_search' }];
    await assert.rejects(anthropic.messages.create({ ...request('output', 'a'), tools }), Anthropic.BadRequestError);
    await assert.rejects(anthropic.messages.create({ ...request('block', 'aurora'), tools }), Anthropic.BadRequestError);
    await anthropic.messages.create({ ...request('block', 'fine'), tools });
    assert.deepEqual(s.fake.last.body.tools, tools);
  });

  test('their answers are cached as they came, JSON and streams', async () => {
    const first = await create('free', 'cached');
    const from = s.fake.records.length;
    assert.deepEqual(await create('free', 'cached'), first);
    assert.equal(s.fake.records.length, from);
    const post = () =>
      s.server.call({ path: '/v1/messages', key: s.account.key, body: { ...request('free', 'streamed'), stream: true } });
    const fresh = await post();
    const again = await post();
    assert.equal(again.headers['x-nebula-cache'], 'hit');
    assert.equal(again.text, fresh.text);
    assert.equal(s.fake.records.length, from + 1);
    await s.server.verify_ledger();
  });
});

describe('a wrong rail', () => {
  test('is named and nothing starts', async () => {
    await assert.rejects(
      stage({ models: models_of([rail('a', {})]), sections: { guardrail: [rail('a', { kind: 'words', patterns: ['('] })] } }),
      /guardrail 'a'.*pattern/s,
    );
  });
});
