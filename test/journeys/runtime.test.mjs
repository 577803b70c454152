// The demonstration model through the bundled runner: real tokens on a machine without any model, and no
// runner that outlives its server.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Nebula, repository } from '../support/nebula.mjs';
import { charge_of, price_of, read_stream } from '../support/stage.mjs';
import { eventually } from '../support/wait.mjs';

const alive = (pid) => {
  try {
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};
const id = 'nebula-nano';
const ask = (content, extra = {}) => ({
  model: id,
  max_tokens: 40,
  temperature: 0,
  messages: [{ role: 'user', content }],
  ...extra,
});

async function start() {
  const server = await Nebula.start({
    runtime: { models_dir: path.join(repository, 'models') },
    providers: [{ name: 'local', kind: 'runtime' }],
    models: [
      {
        id,
        context_length: 1024,
        max_output_tokens: 512,
        price_input_per_m: '1',
        price_output_per_m: '2',
        endpoints: ['chat'],
        routes: [{ provider: 'local', model: id, weight: 1 }],
      },
    ],
  });
  const account = await server.account('local', { credit: '10' });
  return { server, account, client: server.client(account.key, { timeout: 60000 }) };
}

describe('the bundled runner', () => {
  let s;
  before(async () => {
    s = await start();
  });
  after(() => s?.server.remove());

  test('the model is listed by its file name', async () => {
    assert.equal((await s.client.models.retrieve(id)).id, id);
  });

  test('an answer has words, usage, and exactly their price', async () => {
    const { charge, result } = await charge_of(s.server, s.account, () =>
      s.client.chat.completions.create(ask('What is Nebula?')),
    );
    assert.ok(result.choices[0].message.content.length > 10);
    assert.ok(['stop', 'length'].includes(result.choices[0].finish_reason));
    const { prompt_tokens, completion_tokens, total_tokens } = result.usage;
    assert.ok(prompt_tokens > 0 && completion_tokens > 0 && completion_tokens <= 40);
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
    assert.equal(charge, price_of(prompt_tokens, completion_tokens));
    await s.server.verify_ledger();
  });

  test('a stream says the same as the plain answer, in pieces', async () => {
    const plain = await s.client.chat.completions.create(ask('How do I start Nebula?'));
    const { charge, result } = await charge_of(s.server, s.account, async () =>
      read_stream(
        await s.client.chat.completions.create(
          ask('How do I start Nebula?', { stream: true, stream_options: { include_usage: true } }),
        ),
      ),
    );
    assert.equal(result.text, plain.choices[0].message.content);
    assert.deepEqual(
      [result.usage.prompt_tokens, result.usage.completion_tokens],
      [plain.usage.prompt_tokens, plain.usage.completion_tokens],
    );
    assert.ok(result.chunks.length > 3);
    assert.equal(charge, price_of(result.usage.prompt_tokens, result.usage.completion_tokens));
  });

  test('prompts are counted by the model’s own tokenizer, as they are charged', async () => {
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'What is Nebula? Größe, 東京, <|im_start|>' },
    ];
    const answer = await s.client.chat.completions.create(ask('', { messages }));
    const [system, user] = messages.map((m) => m.content);
    const count = (path, body) => s.server.call({ path, key: s.account.key, body: { model: id, ...body } });
    for (const counted of [
      await count('/v1/messages/count_tokens', { system, messages: [{ role: 'user', content: user }] }),
      await count('/v1/responses/input_tokens', { instructions: system, input: user }),
    ]) {
      assert.equal(counted.status, 200, counted.text);
      assert.equal(counted.headers['x-nebula-tokenizer'], 'runtime');
      assert.equal(counted.json().input_tokens, answer.usage.prompt_tokens);
    }
    // Long ones are estimated: nobody waits for somebody else's counting.
    const long = await count('/v1/responses/input_tokens', { input: 'word '.repeat(60_000) });
    assert.equal(long.headers['x-nebula-tokenizer'], 'estimate');
    assert.ok(long.json().input_tokens > 60_000);
    // So is what the key may not use.
    const narrow = await s.server.key(s.account.id, { model: ['other'] });
    const foreign = await s.server.call({
      path: '/v1/responses/input_tokens',
      key: narrow.key,
      body: { model: id, input: 'hello' },
    });
    assert.equal(foreign.headers['x-nebula-tokenizer'], 'estimate');
  });

  test('several conversations at once are all answered', async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => s.client.chat.completions.create(ask(`What is Nebula? (${i})`))),
    );
    assert.ok(answers.every((a) => a.choices[0].message.content.length > 0 && a.usage.completion_tokens > 0));
    await s.server.settled(s.account.id);
    await s.server.verify_ledger();
  });

  test('a killed runner is started again', async () => {
    const [runner] = s.server.descendants();
    assert.ok(runner, 'a runner runs');
    process.kill(runner, 'SIGKILL');
    const answer = await eventually(
      'the model answers again',
      () => s.client.chat.completions.create(ask('What is Nebula?')),
      { within_ms: 20000, every_ms: 200 },
    );
    assert.ok(answer.choices[0].message.content);
    assert.ok(!s.server.descendants().includes(runner));
    await s.server.settled(s.account.id);
    await s.server.verify_ledger();
  });
});

for (const how of ['kill', 'stop']) {
  test(`no runner is left two seconds after ${how === 'kill' ? 'kill −9' : 'SIGTERM'}`, async () => {
    const { server, client } = await start();
    try {
      await client.chat.completions.create(ask('What is Nebula?'));
      const runners = server.descendants();
      assert.ok(runners.length > 0);
      await server[how]();
      await eventually('all runners are gone', () => runners.every((pid) => !alive(pid)), {
        within_ms: 2000,
      });
    } finally {
      await server.remove();
    }
  });
}

test('a file that is no model harms nobody', async () => {
  const server = await Nebula.start({ start: false });
  try {
    fs.writeFileSync(path.join(server.dir, 'models/broken.gguf'), 'GGUF but not really');
    await server.launch();
    const { key } = await server.account('x', { credit: '1' });
    const answer = await server.chat({ key, model: 'broken', content: 'hello' });
    assert.ok([404, 502, 503].includes(answer.status), `${answer.status}`);
    assert.equal((await server.call({ method: 'GET', path: '/healthz' })).status, 200);
  } finally {
    await server.remove();
  }
});
