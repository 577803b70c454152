// Whoever starts has models somewhere and no list of them yet. Presets and the question to a provider give him the
// [[model]] sections; what they say must reach every list that clients read, with one price for all of them.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { FakeProvider } from '../support/fake_provider.mjs';
import { Nebula, provider } from '../support/nebula.mjs';
import { eventually, nanos } from '../support/wait.mjs';

let fake;
before(async () => {
  fake = await FakeProvider.start();
});
after(() => fake?.stop());

const presets = ['credits', 'nebula-ai', 'nebula-block', 'novita'];
// USD per million tokens, as the documentation of that API has them.
const nebula_ai = {
  'qwen3:latest': ['0.2', '0.6'],
  'gemma3:1b': ['0.05', '0.1'],
  'qwen3-vl:235b-cloud': ['0.5', '1.5'],
  'deepseek-v3.1:671b-cloud': ['0.35', '0.9'],
  'qwen/qwen3-coder:free': ['0', '0'],
};

async function with_server(options, act) {
  const server = await Nebula.start(options);
  try {
    return await act(server);
  } finally {
    await server.remove();
  }
}

test('every preset is served, and all lists agree on its models and prices', async () => {
  await with_server({ upstream: fake, models: [] }, async (server) => {
    const write = ['--write', server.config_file];
    for (const preset of presets) {
      const added = await server.cli('models', 'import', 'fake', '--preset', preset, ...write);
      assert.equal(added.code, 0, added.stderr);
      const size = fs.statSync(server.config_file).size;
      const again = await server.cli('models', 'import', 'fake', '--preset', preset, ...write);
      assert.equal(again.code, 0, again.stderr);
      assert.equal(fs.statSync(server.config_file).size, size, 'what is there already is not added again');
    }
    server.child.kill('SIGHUP');
    const { key } = await server.account('lists', { credit: '10' });
    const get = async (at) => (await server.call({ method: 'GET', path: at, key })).json();
    let ids;
    await eventually('the presets are served', async () => {
      ids = (await get('/v1/models')).data.map((one) => one.id);
      return ids.length > 20;
    });

    const known = await server.cli_json('models', 'list', '--json');
    const openrouter = (await get('/api/v1/models')).data;
    const platform = (await get('/api/v1/serverless/models')).data.models;
    const novita = (await get('/openai/v1/models')).data;
    const lists = {
      cli: known.map((one) => [one.id, nanos(one.price_input_per_m), nanos(one.price_output_per_m)]),
      openrouter: openrouter.map((one) => [one.id, per_million(one.pricing.prompt), per_million(one.pricing.completion)]),
      platform: platform.map((one) => [one.model_name, nanos(`${one.input_price}`), nanos(`${one.output_price}`)]),
      novita: novita.map((one) => [
        one.id,
        BigInt(one.input_token_price_per_m) * 100000n,
        BigInt(one.output_token_price_per_m) * 100000n,
      ]),
    };
    for (const [name, list] of Object.entries(lists)) {
      assert.deepEqual(list, lists.cli, name);
      assert.deepEqual(
        list.map((one) => one[0]),
        ids,
        name,
      );
    }
    for (const at of ['/api/models', '/v3/openai/models'])
      assert.deepEqual((await get(at)).data.map((one) => one.id), ids, at);
    assert.deepEqual((await get('/api/tags')).models.map((one) => one.name), ids);

    for (const [id, [input, output]] of Object.entries(nebula_ai))
      assert.deepEqual(
        lists.cli.find((one) => one[0] === id),
        [id, nanos(input), nanos(output)],
      );
    for (const one of openrouter) {
      const is_credits = /^(groq\/|mistral\/|anthropic\/|openai\/gpt-4$)/.test(one.id);
      assert.equal(one.pricing.request, is_credits ? '1' : '0', one.id);
    }
    const sdxl = 'stabilityai/stable-diffusion-xl-base-1.0';
    const painter = platform.find((one) => one.model_name === sdxl);
    assert.deepEqual([painter.model_type, painter.price, painter.context_length], ['Image', 0.009, null]);
    const in_openrouter = openrouter.find((one) => one.id === sdxl);
    assert.deepEqual([in_openrouter.pricing.image, in_openrouter.architecture.output_modalities], ['0.009', ['image']]);
    const answer = await server.chat({ key, model: 'gemma3:1b' });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(fake.last.model, 'gemma3:1b');
  });
});

function per_million(text) {
  const [whole, fraction = ''] = text.split('.');
  return BigInt(whole + fraction.padEnd(15, '0'));
}

const tables = {
  openai: {
    target: '/v1/models',
    header: ['authorization', 'Bearer sk-of-the-fake'],
    answer: {
      object: 'list',
      data: [
        { id: 'qwen3:latest', object: 'model', max_model_len: 40960 },
        { id: 'org/own-model', object: 'model', max_model_len: 8192 },
        { id: 'text-embed-1', object: 'model' },
        { id: 'has "quotes"', object: 'model' },
      ],
    },
    ids: ['qwen3:latest', 'org/own-model', 'text-embed-1'],
  },
  ollama: {
    target: '/api/tags',
    answer: { models: [{ name: 'llama3:8b', model: 'llama3:8b', size: 1 }] },
    ids: ['llama3:8b'],
  },
  anthropic: {
    target: '/v1/models?limit=1000',
    header: ['x-api-key', 'sk-of-the-fake'],
    answer: {
      data: [{ type: 'model', id: 'claude-x', max_input_tokens: 200000, max_tokens: 64000 }],
      has_more: false,
    },
    ids: ['claude-x'],
  },
  gemini: {
    target: '/v1beta/models?pageSize=1000',
    header: ['x-goog-api-key', 'sk-of-the-fake'],
    answer: { models: [{ name: 'models/gemini-x', inputTokenLimit: 1048576, outputTokenLimit: 8192 }] },
    ids: ['gemini-x'],
  },
};

for (const [kind, { target, header, answer, ids }] of Object.entries(tables)) {
  test(`a provider of kind ${kind} is asked for its models`, async () => {
    const origin = new URL(fake.base_url).origin;
    const base_url = kind === 'openai' ? `${origin}/v1` : origin;
    const providers = [provider('up', base_url, { kind, api_key_env: header ? 'FAKE_KEY' : undefined })];
    await with_server({ providers, models: [], env: { FAKE_KEY: 'sk-of-the-fake' } }, async (server) => {
      fake.lists.set(target.split('?')[0], answer);
      fake.gets.length = 0;
      const list = await server.cli_json('models', 'import', 'up', '--json');
      assert.deepEqual(
        list.map((one) => one.id),
        ids,
      );
      assert.equal(fake.gets.length, 1);
      assert.equal(fake.gets[0].target, target);
      if (header) assert.equal(fake.gets[0].headers[header[0]], header[1]);
      if (kind === 'anthropic') assert.equal(fake.gets[0].headers['anthropic-version'], '2023-06-01');

      const text = await server.cli_json('models', 'import', 'up');
      assert.match(text, new RegExp(`id = "${ids[0]}"`));
      assert.match(text, /routes = \[\{ provider = "up" \}\]/);
      if (kind === 'openai') {
        assert.match(text, /price_input_per_m = "0.20"\n.*\n.*\n# prices: preset nebula-ai\n/, 'a known model has its price');
        assert.match(text, /id = "org\/own-model"\ncontext_length = 8192\n# Set its prices/);
        assert.match(text, /id = "text-embed-1"\nendpoints = \["embeddings"\]/);
      }
      if (kind === 'gemini') assert.match(text, /context_length = 1048576\nmax_output_tokens = 8192\n/);
      const file = path.join(server.dir, 'more.toml');
      fs.writeFileSync(file, `# no line feed at the end\n[[model]]\nid = "${ids[0]}"`);
      const done = await server.cli('models', 'import', 'up', '--write', file);
      assert.equal(done.code, 0, done.stderr);
      const written = fs.readFileSync(file, 'utf8');
      assert.equal(written.split(`id = "${ids[0]}"`).length, 2, 'never twice');
      for (const id of ids) assert.ok(written.includes(`id = "${id}"`), id);
      fake.lists.delete(target.split('?')[0]);
    });
  });
}

test('mistakes are told and nothing is written', async () => {
  const origin = new URL(fake.base_url).origin;
  const providers = [provider('up', `${origin}/v1`), provider('dead', 'http://127.0.0.1:1/v1')];
  await with_server({ providers, models: [] }, async (server) => {
    const file = path.join(server.dir, 'untouched.toml');
    const broken = path.join(server.dir, 'broken.toml');
    fs.writeFileSync(broken, 'this is = = no toml');
    const wrong = [
      [['up', '--preset', 'nobody'], /there is no preset "nobody", but credits, nebula-ai/],
      [['nobody'], /there is no provider "nobody"/],
      [['dead'], /.+/],
      [['up with spaces', '--preset', 'novita'], /name must have no spaces/],
      [['new', '--url', 'ftp://x'], /.+/],
      [['new', '--url', `${origin}/v1`, '--kind', 'telepathy'], /kind/],
      [['new', '--url', `${origin}/not-there`], /answered 404/],
    ];
    for (const [args, said] of wrong) {
      const done = await server.cli('models', 'import', ...args, '--write', file);
      assert.equal(done.code, 1, args.join(' '));
      assert.match(done.stderr, said, args.join(' '));
    }
    fake.lists.set('/v1/models', { object: 'list', data: 'none' });
    const nonsense = await server.cli('models', 'import', 'up', '--write', file);
    assert.match(nonsense.stderr, /no list of models/);
    fake.lists.delete('/v1/models');
    assert.ok(!fs.existsSync(file));
    const unreadable = await server.cli('models', 'import', 'up', '--preset', 'novita', '--write', broken);
    assert.match(unreadable.stderr, /line 1/);
    assert.equal(fs.readFileSync(broken, 'utf8'), 'this is = = no toml');
  });
});

test('a server of models on this machine is offered once after the start, and its command works', async () => {
  const origin = new URL(fake.base_url).origin;
  fake.lists.set('/v1/models', {
    object: 'list',
    data: [{ id: 'local-model.gguf', object: 'model', owned_by: 'llamacpp', meta: { n_ctx_train: 4096 } }],
  });
  try {
    const catalog = { discover_at: [origin, 'http://127.0.0.1:1'] };
    await with_server({ providers: [], models: [], sections: { catalog } }, async (server) => {
      await eventually('the offer is logged', () => server.output.includes('nebula models import'));
      const command = /"(nebula models import [^"]+)"/.exec(server.output)[1].split(' ');
      assert.deepEqual(command.slice(0, 5), ['nebula', 'models', 'import', 'llamacpp', '--url']);
      const done = await server.cli(...command.slice(1));
      assert.equal(done.code, 0, done.stderr);
      server.child.kill('SIGHUP');
      const { key } = await server.account('local', { credit: '1' });
      await eventually('its model is served', async () => {
        const answer = await server.chat({ key, model: 'local-model.gguf' });
        return answer.status === 200;
      });
      // What is configured is not offered again.
      const written = fs.readFileSync(server.config_file);
      await server.stop();
      fs.writeFileSync(server.config_file, written);
      fake.gets.length = 0;
      await server.launch();
      await server.chat({ key, model: 'local-model.gguf' });
      assert.equal(fake.gets.length, 0);
    });
    fake.gets.length = 0;
    const off = { discover: false, discover_at: [origin] };
    await with_server({ providers: [], models: [], sections: { catalog: off } }, async (server) => {
      await server.account('nobody asks');
      assert.equal(fake.gets.length, 0, 'switched off, nobody is asked');
      assert.ok(!server.output.includes('nebula models import'));
    });
  } finally {
    fake.lists.delete('/v1/models');
  }
});
