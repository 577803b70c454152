// Operators and customers ask afterwards what became of a request: by its id, in OpenRouter's words, and as a list. What
// failed is told, too; nobody is told of others' requests; and prompts are kept only where the operator asked for it.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { OpenRouter } from '@openrouter/sdk';
import { engines, model } from '../support/nebula.mjs';
import { price_of, stage } from '../support/stage.mjs';
import { dollars, eventually } from '../support/wait.mjs';

const id = 'demo/chat:1';
const twice = 'demo/twice:1';
const models = [
  model(id, { endpoints: ['chat', 'embeddings'] }),
  model(twice, { routes: ['one', 'two'].map((upstream) => ({ provider: 'fake', model: upstream, weight: 1 })) }),
];
const hello = (content = 'fake:ok frames=3', more = {}) => ({
  model: id,
  messages: [{ role: 'user', content }],
  ...more,
});
const ask = (s, body, { path = '/api/v1/chat/completions', key = s.account.key, ...rest } = {}) =>
  s.server.call({ path, key, body, ...rest });
const get = (s, path, key = s.account.key) => s.server.call({ method: 'GET', path, key });

/** The generation, once it is written. */
const generation = (s, of) =>
  eventually(`generation ${of} is written`, async () => {
    const answer = await get(s, `/api/v1/generation?id=${encodeURIComponent(of)}`);
    return answer.status === 200 && answer.json().data;
  });
const listed = (s, query = '') =>
  get(s, `/console/api/requests${query}`).then((answer) => {
    assert.equal(answer.status, 200, answer.text);
    return answer.json().data;
  });

for (const engine of engines) {
  describe(engine, () => {
    let s;
    before(async () => {
      s = await stage({ engine, models });
    });
    after(() => s?.close());

    test('a generation tells tokens, price, times and attempts by our id and by the provider’s', async () => {
      const answer = await ask(s, hello(), { headers: { 'http-referer': 'https://app.example', 'x-title': 'App' } });
      assert.equal(answer.status, 200, answer.text);
      const ours = answer.headers['x-generation-id'];
      assert.equal(ours, answer.headers['x-request-id']);
      const told = await generation(s, ours);
      const price = price_of(7, 3);
      assert.equal(told.id, ours);
      assert.equal(told.upstream_id, answer.json().id);
      assert.equal(told.model, id);
      assert.equal(told.provider_name, 'fake');
      assert.deepEqual([told.tokens_prompt, told.tokens_completion, told.native_tokens_cached], [7, 3, 0]);
      assert.equal(`${told.total_cost}`, dollars(price));
      assert.deepEqual([told.streamed, told.cancelled, told.is_byok, told.finish_reason], [false, false, false, 'stop']);
      assert.equal(told.http_referer, 'https://app.example');
      assert.equal(told.api_type, 'completions');
      assert.ok(told.generation_time > 0 && told.latency > 0);
      assert.equal(told.provider_responses.length, 1);
      assert.equal(told.provider_responses[0].status, 200);
      assert.ok(Math.abs(Date.parse(told.created_at) - Date.now()) < 60_000);
      assert.deepEqual(await generation(s, answer.json().id), told);
    });

    test('a request that failed over tells both attempts, and one that failed tells why', async () => {
      s.fake.queue.push({ kind: 'status', status: 503 }, { kind: 'ok', frames: 2 });
      const first = await ask(s, hello('hello', { model: twice }));
      assert.equal(first.status, 200, first.text);
      const told = await generation(s, first.headers['x-generation-id']);
      assert.deepEqual(
        told.provider_responses.map((r) => r.status),
        [503, 200],
      );
      const failed = await ask(s, hello('fake:status status=500'));
      assert.equal(failed.status, 502, failed.text);
      const poor = await s.server.account(`poor ${engine}`, {});
      const unpaid = await ask(s, hello(), { key: poor.key });
      assert.equal(unpaid.status, 402, unpaid.text);
      const entry = await eventually('the refusal is listed', async () => {
        const answer = await get(s, '/console/api/requests', poor.key);
        return answer.json().data.requests[0];
      });
      assert.deepEqual([entry.status, entry.error, entry.model], [402, 'payment_required', id]);
      assert.equal(entry.outcome, undefined, 'nothing was charged');
      await generation(s, failed.headers['x-generation-id']);
      const errors = await listed(s, '?status=error');
      assert.deepEqual(
        errors.requests.map((r) => [r.status, r.error, r.attempts[0].failure]),
        [[502, 'upstream_failed', 'upstream_failed']],
      );
    });

    test('others’ generations look as if there were none', async () => {
      const answer = await ask(s, hello());
      const ours = answer.headers['x-generation-id'];
      await generation(s, ours);
      const other = await s.server.account(`other ${engine}`, { credit: '1' });
      const theirs = await get(s, `/api/v1/generation?id=${ours}`, other.key);
      const none = await get(s, '/api/v1/generation?id=req_0000000000000', other.key);
      assert.deepEqual([theirs.status, none.status], [404, 404]);
      assert.equal(theirs.json().error.code, 404);
      assert.equal((await get(s, `/api/v1/generation?id=${answer.json().id}`, other.key)).status, 404);
      assert.equal((await get(s, `/api/v1/generation?id=${ours}`, 'sk-nb-nonsense')).status, 401);
    });

    test('the list goes back page by page and is narrowed by model, key and status', async () => {
      const account = await s.server.account(`pages ${engine}`, { credit: '1' });
      const as = { account, server: s.server };
      const ids = [];
      for (let i = 0; i < 7; ++i) {
        const answer = await ask(as, hello('fake:ok frames=1', i === 3 ? { model: twice } : {}));
        ids.push(answer.headers['x-request-id']);
      }
      await generation(as, ids.at(-1));
      const seen = [];
      let page = { next: '' };
      do {
        page = await listed(as, `?limit=2${page.next ? `&cursor=${page.next}` : ''}`);
        assert.ok(page.requests.length <= 2);
        seen.push(...page.requests.map((r) => r.id));
      } while (page.next);
      assert.deepEqual(seen, ids.toReversed());
      const narrowed = await listed(as, `?model=${encodeURIComponent(twice)}&status=ok`);
      assert.deepEqual(
        narrowed.requests.map((r) => r.id),
        [ids[3]],
      );
      assert.deepEqual((await listed(as, '?key=key_0000000000000')).requests, []);
      assert.equal((await get(as, '/console/api/requests?cursor=what')).status, 400);
      const printed = await s.server.cli_json('requests', 'list', account.id, '--limit', '3', '--json');
      assert.deepEqual(
        printed.map((r) => r.id),
        ids.toReversed().slice(0, 3),
      );
    });

    test('feedback is taken for a generation of one’s own, in the given words', async () => {
      const answer = await ask(s, hello());
      const ours = answer.headers['x-generation-id'];
      await generation(s, ours);
      const say = (body) => ask(s, body, { path: '/api/v1/generation/feedback' });
      const good = await say({ generation_id: ours, category: 'latency', comment: 'slow' });
      assert.deepEqual([good.status, good.json()], [200, { data: { success: true } }]);
      assert.equal((await say({ generation_id: ours, category: 'latency', comment: 'x'.repeat(1001) })).status, 400);
      assert.equal((await say({ generation_id: ours, category: 'rude' })).status, 400);
      assert.equal((await say({ generation_id: 'req_0000000000000', category: 'other' })).status, 404);
      const rows = await s.server.sql('SELECT category, comment FROM request_feedback');
      assert.equal(JSON.stringify(rows).match(/slow/g)?.length, 1, JSON.stringify(rows));
    });

    test('prompts and answers are not kept unless the operator says so', async () => {
      const secret = 'the prompt that nobody may keep';
      const answer = await ask(s, hello(`fake:ok frames=2 ${secret}`));
      const ours = answer.headers['x-generation-id'];
      await generation(s, ours);
      const content = await get(s, `/api/v1/generation/content?id=${ours}`);
      assert.equal(content.status, 404);
      const kept = await s.server.sql('SELECT entries FROM request_log');
      assert.ok(!JSON.stringify(kept).includes('nobody may keep'));
      assert.ok(!JSON.stringify(kept).includes(s.account.key));
    });
  });
}

describe('bodies', () => {
  let s;
  before(async () => {
    s = await stage({ models, sections: { request_log: { bodies: true, body_bytes_max: 4096, redact: ['user'] } } });
  });
  after(() => s?.close());
  const content = async (answer) => {
    await generation(s, answer.headers['x-generation-id']);
    return get(s, `/api/v1/generation/content?id=${answer.headers['x-generation-id']}`);
  };

  test('are kept where asked for, whole or streamed, without the redacted members', async () => {
    for (const stream of [false, true]) {
      const script = 'fake:ok frames=3';
      const answer = await ask(s, hello(script, { stream, user: 'somebody@example.com' }));
      const kept = await content(answer);
      assert.equal(kept.status, 200, kept.text);
      const { input, output, error } = kept.json().data;
      assert.deepEqual(input.messages, [{ role: 'user', content: script }]);
      assert.equal(output.completion.trim(), 'alpha beta gamma');
      assert.deepEqual([output.reasoning, error], [null, null]);
    }
    const rows = await s.server.sql('SELECT COUNT(*) FROM request_bodies');
    assert.match(JSON.stringify(rows), /2/);
  });

  test('are left out when they are too large', async () => {
    const answer = await ask(s, hello(`fake:ok frames=1 ${'x'.repeat(5000)}`));
    assert.equal((await content(answer)).status, 404);
  });
});

describe('OpenRouter’s client', () => {
  let s;
  let router;
  before(async () => {
    s = await stage({ models });
    router = new OpenRouter({ apiKey: s.account.key, serverURL: `${s.server.url}/api/v1` });
  });
  after(() => s?.close());

  test('reads what an answer cost, whole and streamed', async () => {
    const chatRequest = { model: id, messages: [{ role: 'user', content: 'fake:ok frames=3' }] };
    const whole = await router.chat.send({ chatRequest });
    assert.equal(whole.choices[0].message.content, 'alpha beta gamma');
    assert.equal(`${whole.usage.cost}`, dollars(price_of(7, 3)));
    const stream = await router.chat.send({ chatRequest: { ...chatRequest, stream: true } });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const told = chunks.filter((c) => c.usage);
    assert.equal(told.length, 1);
    assert.equal(`${told[0].usage.cost}`, dollars(price_of(7, 3)));
    assert.equal(chunks.at(-1), told[0]);
  });

  test('gets a generation past its checks', async () => {
    const answer = await ask(s, hello());
    const ours = answer.headers['x-generation-id'];
    await generation(s, ours);
    const { data } = await router.generations.getGeneration({ id: ours });
    assert.equal(data.id, ours);
    assert.equal(`${data.totalCost}`, dollars(price_of(7, 3)));
    const done = await router.generations.submitFeedback({
      submitGenerationFeedbackRequest: { generationId: ours, category: 'other' },
    });
    assert.equal(done.data.success, true);
  });
});

describe('costs below /api/v1', () => {
  let s;
  before(async () => {
    s = await stage({ models });
  });
  after(() => s?.close());

  test('stand in every stream, also when the provider reports no usage or reports it elsewhere', async () => {
    for (const usage of ['present', 'absent', 'with_finish', 'every', 'null']) {
      const answer = await ask(s, hello(`fake:ok frames=3 usage=${usage}`, { stream: true }));
      const events = answer.events();
      assert.equal(events.at(-1), '[DONE]', usage);
      const last = JSON.parse(events.at(-2));
      assert.equal(last.provider, 'fake', usage);
      assert.deepEqual(last.choices, [], usage);
      assert.equal(last.object, 'chat.completion.chunk');
      const price = price_of(last.usage.prompt_tokens, last.usage.completion_tokens);
      assert.equal(`${last.usage.cost}`, dollars(price), usage);
      assert.equal(last.usage.is_byok, false);
      assert.equal(JSON.parse(events[0]).id, last.id, usage);
    }
  });

  test('are exact to the last digit, beside what the provider said itself', async () => {
    s.fake.queue.push({ kind: 'ok', frames: 3, prompt_tokens: 123, completion_tokens: 457 });
    const answer = (await ask(s, hello('hello'))).text;
    assert.match(answer, new RegExp(`"cost":${dollars(price_of(123, 457)).replace('.', '\\.')},`));
    const body = JSON.parse(answer);
    assert.deepEqual([body.provider, body.system_fingerprint ?? null], ['fake', null]);
    assert.ok('system_fingerprint' in body);
    assert.equal(body.usage.total_tokens, 580);
    // The same without the prefix is OpenAI's own answer, byte for byte.
    const plain = await ask(s, hello(), { path: '/v1/chat/completions' });
    assert.deepEqual(Object.keys(plain.json().usage).sort(), ['completion_tokens', 'prompt_tokens', 'total_tokens']);
    assert.equal(plain.headers['x-generation-id'], undefined);
  });

  test('embeddings tell theirs', async () => {
    const answer = await ask(s, { model: id, input: 'words' }, { path: '/api/v1/embeddings' });
    assert.equal(answer.status, 200, answer.text);
    const { usage } = answer.json();
    assert.equal(`${usage.cost}`, dollars(price_of(usage.prompt_tokens, 0)));
  });
});

test('a log whose queue is full loses entries and counts them; bills lose nothing', async () => {
  const s = await stage({ models, sections: { request_log: { queue_max: 2, flush_ms: 60000 } } });
  try {
    const answers = [];
    for (let i = 0; i < 5; ++i) answers.push(await ask(s, hello('fake:ok frames=1')));
    assert.deepEqual(
      answers.map((a) => a.status),
      [200, 200, 200, 200, 200],
    );
    assert.equal(await s.server.metric('nebula_request_log_dropped_total'), 3);
    assert.equal((await s.server.usage_records()).length, 5);
    // Stopping writes what waits.
    await s.server.stop();
    await s.server.launch();
    const { requests } = await listed(s);
    assert.equal(requests.length, 2);
  } finally {
    await s.close();
  }
});
