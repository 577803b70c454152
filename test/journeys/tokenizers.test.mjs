// Providers that report no usage are paid for by our count. With a model's own vocabulary it is exact, in whatever form
// the answer comes and wherever it breaks, and the record says so. The counts expected here are those of the definition,
// and of a real runner.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { FakeProvider } from '../support/fake_provider.mjs';
import { engines, model, Nebula, provider, repository } from '../support/nebula.mjs';
import { charge_of, price_of, read_stream, stage } from '../support/stage.mjs';
import { count, rank_file, tokenizer_json, train } from '../support/vocabulary.mjs';
import { eventually } from '../support/wait.mjs';

const entries = train(fs.readFileSync(path.join(repository, 'README.md'), 'utf8').slice(0, 20_000), 300);
let folder;
let file;
before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-vocabulary-'));
  file = path.join(folder, 'small.tiktoken');
  fs.writeFileSync(file, rank_file(entries));
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const vocabulary = () => ({ tokenizer: file, tokenizer_family: 'gpt2' });
const prompt_of = (messages) =>
  3 + messages.reduce((sum, m) => sum + 3 + count(entries, m.role) + count(entries, m.content), 0);
const user = (content) => [{ role: 'user', content }];
const text = "Nebula's gateway — größer, 東京 and 12345 \n\n  tokens; e\u0301 <|im_start|>🙂";

for (const engine of engines) {
  describe(engine, () => {
    let s;
    before(async () => {
      s = await stage({
        engine,
        models: [
          model('exact', { ...vocabulary(), endpoints: ['chat', 'completions'] }),
          model('long', { ...vocabulary(), context_length: 1_000_000 }),
          model('guessed'),
        ],
      });
    });
    after(() => s?.close());

    const logged = (id) =>
      eventually(`request ${id} is logged`, async () => {
        const rows = await s.server.cli_json('requests', 'list', s.account.id, '--json');
        return rows.find((row) => row.id === id);
      });
    const newest = async () => (await s.server.cli_json('usage', 'list', s.account.id, '--json'))[0];

    test('an answer without usage is charged by the vocabulary, whole and streamed', async () => {
      for (const stream of [false, true]) {
        const messages = [{ role: 'system', content: 'Be brief.' }, ...user(text)];
        s.fake.queue.push({ kind: 'ok', text, usage: 'absent', reasoning: 'so let me think about tokens' });
        const { charge, result } = await charge_of(s.server, s.account, () =>
          s.server.call({ path: '/v1/chat/completions', key: s.account.key, body: { model: 'exact', messages, stream } }),
        );
        assert.equal(result.status, 200, result.text);
        // The fake trims the end of a whole answer.
        const told = stream ? text : text.trimEnd();
        const output = count(entries, told) + count(entries, 'so let me think about tokens');
        assert.equal(charge, price_of(prompt_of(messages), output), `stream ${stream}`);
        const row = await logged(result.headers['x-request-id']);
        assert.deepEqual([row.tokenizer, row.input, row.output], ['bpe', prompt_of(messages), output]);
        assert.equal((await newest()).estimated, true, 'nobody but us says so');
      }
      await s.server.verify_ledger();
    });

    test('calls of tools are counted one by one', async () => {
      const calls = [
        { id: 'call_1', name: 'weather', arguments: '{"place":"Berlin","days":3}' },
        { id: 'call_2', name: 'clock', arguments: '{}' },
      ];
      const output = calls.reduce((sum, c) => sum + count(entries, c.name) + count(entries, c.arguments), 0);
      const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }];
      for (const stream of [false, true]) {
        s.fake.queue.push({ kind: 'ok', calls, usage: 'absent' });
        const messages = user('what about the weather');
        const { charge } = await charge_of(s.server, s.account, async () => {
          const answer = await s.client.chat.completions.create({ model: 'exact', messages, tools, stream });
          if (stream) for await (const _ of answer);
        });
        const input = prompt_of(messages) + count(entries, JSON.stringify(tools));
        assert.equal(charge, price_of(input, output), `stream ${stream}`);
      }
    });

    test('what a provider reports is what is charged, and the record names it', async () => {
      s.fake.queue.push({ kind: 'ok', frames: 3 });
      const { charge, result } = await charge_of(s.server, s.account, () =>
        s.server.chat({ key: s.account.key, model: 'exact' }),
      );
      assert.equal(charge, price_of(7, 3));
      assert.equal((await logged(result.headers['x-request-id'])).tokenizer, 'provider');
      s.fake.queue.push({ kind: 'ok', frames: 3, usage: 'absent' });
      const guessed = await s.server.chat({ key: s.account.key, model: 'guessed' });
      assert.equal((await logged(guessed.headers['x-request-id'])).tokenizer, 'estimate');
    });

    test('a stream that breaks, or that its client leaves, is charged for the tokens that were delivered', async () => {
      s.fake.queue.push({ kind: 'cut_mid_body', text, after: 4 });
      const messages = user('hello');
      const broken = await charge_of(s.server, s.account, () =>
        s.server.call({
          path: '/v1/chat/completions',
          key: s.account.key,
          body: { model: 'exact', messages, stream: true },
        }),
      );
      const delivered = text.match(/\s*\S+\s*/g).slice(0, 4).join('');
      assert.equal(broken.charge, price_of(prompt_of(messages), count(entries, delivered)));

      s.fake.queue.push({ kind: 'ok', text, hold: `left-${engine}`, hold_after: 4 });
      const { charge } = await charge_of(s.server, s.account, async () => {
        const stream = await s.client.chat.completions.create({ model: 'exact', messages, stream: true });
        const record = s.fake.last;
        let seen = '';
        for await (const chunk of stream) {
          seen += chunk.choices[0]?.delta?.content ?? '';
          if (seen === delivered) break;
        }
        stream.controller.abort();
        await record.closed;
      });
      assert.equal(charge, price_of(prompt_of(messages), count(entries, delivered)));
      await s.server.verify_ledger();
    });

    test('long prompts and answers are counted to the token, too', async () => {
      const long = `${text} `.repeat(3_000);
      for (const stream of [false, true]) {
        s.fake.queue.push({ kind: 'ok', text: long, usage: 'absent' });
        const messages = user(long.slice(0, 100_000));
        const { charge } = await charge_of(s.server, s.account, async () => {
          const body = { model: 'long', messages, stream };
          const answer = await s.server.call({ path: '/v1/chat/completions', key: s.account.key, body });
          assert.equal(answer.status, 200, answer.text.slice(0, 300));
        });
        const told = stream ? long : long.trimEnd();
        const usage = [prompt_of(messages), count(entries, told)];
        assert.equal(charge, price_of(...usage), `stream ${stream}`);
      }
    });

    test('completions without usage are counted as well', async () => {
      s.fake.queue.push({ kind: 'ok', usage: 'absent', text });
      const completion = await charge_of(s.server, s.account, () =>
        s.client.completions.create({ model: 'exact', prompt: [text, 'two'], max_tokens: 500 }),
      );
      const input = count(entries, text) + count(entries, 'two');
      assert.equal(completion.charge, price_of(input, count(entries, text.trimEnd())));
    });

    test('tokens are counted before they are sent, and the answer says how', async () => {
      const ask = (id, content) =>
        s.server.call({
          path: '/v1/messages/count_tokens',
          key: s.account.key,
          body: { model: id, messages: user(content) },
        });
      const long = `${text} `.repeat(2_000);
      for (const content of [text, long]) {
        const exact = await ask('exact', content);
        assert.deepEqual(
          [exact.headers['x-nebula-tokenizer'], exact.json().input_tokens],
          ['bpe', prompt_of(user(content))],
        );
      }
      const guessed = await ask('guessed', text);
      assert.equal(guessed.headers['x-nebula-tokenizer'], 'estimate');
      const responses = await s.server.call({
        path: '/v1/responses/input_tokens',
        key: s.account.key,
        body: { model: 'exact', input: text },
      });
      assert.equal(responses.headers['x-nebula-tokenizer'], 'bpe');
      assert.equal(responses.json().input_tokens, prompt_of(user(text)));
    });
  });
}

test('a vocabulary that cannot be counted with stops the start, and a reload keeps the one before', async () => {
  const fake = await FakeProvider.start();
  const own = path.join(folder, 'reloaded.tiktoken');
  fs.writeFileSync(own, rank_file(entries));
  const one = (rest = {}) => [model('m', { tokenizer: own, tokenizer_family: 'gpt2', ...rest })];
  const server = await Nebula.start({ upstream: fake, models: one() });
  try {
    const { key } = await server.account('reload', { credit: '1' });
    const counted = async () =>
      (
        await server.call({ path: '/v1/messages/count_tokens', key, body: { model: 'm', messages: user(text) } })
      ).json().input_tokens;
    assert.equal(await counted(), prompt_of(user(text)));
    const reload = async (said) => {
      server.child.kill('SIGHUP');
      await eventually('the reload is told', () => server.output.includes(said));
    };
    fs.writeFileSync(own, `${rank_file(entries)}nonsense\n`);
    await reload(`line ${entries.length + 1} is not an entry in base64 and its rank`);
    assert.equal(await counted(), prompt_of(user(text)));
    const checked = await server.cli('config', 'check');
    assert.notEqual(checked.code, 0);
    assert.match(checked.stdout + checked.stderr, /model "m": tokenizer .*reloaded\.tiktoken: line/);

    fs.writeFileSync(own, rank_file(entries.slice(0, 256)));
    await reload('configuration reloaded');
    await eventually('bytes are counted', async () => (await counted()) === 3 + 3 + 4 + Buffer.byteLength(text));

    server.config.model = one({ tokenizer_family: '' });
    server.write_config();
    const unknown = await server.cli('config', 'check');
    assert.match(unknown.stdout + unknown.stderr, /has 256 entries, which is no vocabulary that is known/);
  } finally {
    await server.remove();
    await fake.stop();
  }
});

test('models are imported with their vocabulary, once it is known to be one', async () => {
  const fake = await FakeProvider.start();
  const server = await Nebula.start({ upstream: fake, models: [] });
  try {
    const import_with = (...more) => server.cli('models', 'import', 'fake', '--preset', 'nebula-ai', ...more);
    const done = await import_with('--tokenizer', file, '--tokenizer-family', 'gpt2', '--write', server.config_file);
    assert.equal(done.code, 0, done.stderr);
    assert.match(done.stderr, new RegExp(`tokenizer: gpt2, ${entries.length} entries`));
    assert.ok(fs.readFileSync(server.config_file, 'utf8').includes(`tokenizer = "${file}"\ntokenizer_family = "gpt2"\n`));
    server.child.kill('SIGHUP');
    const { key } = await server.account('import', { credit: '1' });
    await eventually('an imported model counts', async () => {
      const body = { model: 'qwen3:latest', messages: user(text) };
      const answer = await server.call({ path: '/v1/messages/count_tokens', key, body });
      return answer.status === 200 && answer.json().input_tokens === prompt_of(user(text));
    });
    const refused = await import_with('--tokenizer', server.config_file);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /tokenizer .*: line 1 is not an entry/);
    assert.equal(refused.stdout, '');
  } finally {
    await server.remove();
    await fake.stop();
  }
});

test('a count by the vocabulary is that of the runner of the same model', async () => {
  const exported = path.join(folder, 'tokenizer.json');
  fs.writeFileSync(exported, tokenizer_json(path.join(repository, 'models/nebula-nano.gguf')));
  const fake = await FakeProvider.start();
  const local = { context_length: 1024, max_output_tokens: 512, routes: [{ provider: 'local', model: 'nebula-nano' }] };
  const server = await Nebula.start({
    runtime: { models_dir: path.join(repository, 'models') },
    providers: [{ name: 'local', kind: 'runtime' }, provider('fake', fake.base_url)],
    models: [model('nebula-nano', local), model('twin', { tokenizer: exported })],
  });
  try {
    const account = await server.account('twins', { credit: '5' });
    const counted = async (id, content, by) => {
      const body = { model: id, messages: user(content) };
      const answer = await server.call({ path: '/v1/messages/count_tokens', key: account.key, body });
      assert.equal(answer.headers['x-nebula-tokenizer'], by);
      return answer.json().input_tokens;
    };
    const template = (await counted('nebula-nano', 'x', 'runtime')) - (await counted('twin', 'x', 'bpe'));
    const units = ['Nebula', ' gateway', "'s", "don't", ' ', '  ', '\n', '\n\n', '\t', '1', '123', 'é', 'e\u0301', '東京'];
    units.push('Größe', '🙂', '!', '...', '/', '_', '{"a":[1]}', 'и', '\u00a0', '\u3000', 'ABC', 'camelCase', '²', '½');
    let seed = 20260101;
    const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
    for (let i = 0; i < 120; i++) {
      // Behind the template's line feed, white space would join it.
      let content = 'x';
      for (let k = random(40); k > 0; k--) content += units[random(units.length)];
      const exact = await counted('nebula-nano', content, 'runtime');
      assert.equal((await counted('twin', content, 'bpe')) + template, exact, JSON.stringify(content));
    }
    const answer = await server.chat({ key: account.key, model: 'nebula-nano', content: 'What is Nebula?' });
    assert.equal(answer.status, 200, answer.text);
    const row = await eventually('the request is logged', async () =>
      (await server.cli_json('requests', 'list', account.id, '--json')).find((r) => r.model === 'nebula-nano'),
    );
    assert.equal(row.tokenizer, 'runtime');
  } finally {
    await server.remove();
    await fake.stop();
  }
});
