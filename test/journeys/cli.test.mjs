// The command line is an interface for scripts: exit codes, JSON shapes, and the same on a running and a
// stopped server.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Nebula, engines, model, nebula_bin, provider } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';

const items = (answer) => (Array.isArray(answer) ? answer : answer.data);

for (const engine of engines) {
  for (const running of [true, false]) {
    test(`accounts, keys and credits ${running ? 'through the running server' : 'directly on the database'}, ${engine}`, async () => {
      const s = await stage({ engine });
      const { server } = s;
      try {
        if (!running) await server.stop();
        const account = await server.cli_json('accounts', 'create', 'Acme & Söhne', '--json');
        assert.match(account.id, /^acc_/);
        assert.deepEqual(await server.cli_json('credits', 'balance', account.id, '--json'), {
          available: '0',
          held: '0',
          paid: '0',
          bonus: '0',
          debt: '0',
        });
        await server.cli_json('credits', 'grant', account.id, '12.5');
        await server.cli_json('credits', 'grant', account.id, '0.000000001');
        assert.equal(
          (await server.cli_json('credits', 'balance', account.id, '--json')).available,
          '12.500000001',
        );
        const made = await server.cli_json(
          'keys',
          'create',
          '--account',
          account.id,
          '--name',
          'ci',
          '--rpm',
          '5',
          '--json',
        );
        assert.match(made.key, /^sk-neb-/);
        assert.ok(made.id);
        const keys = items(await server.cli_json('keys', 'list', '--account', account.id, '--json'));
        assert.deepEqual(
          keys.map((k) => [k.id, k.name]),
          [[made.id, 'ci']],
        );
        assert.ok(!JSON.stringify(keys).includes(made.key), 'a listing never shows a key');
        const listed = items(await server.cli_json('accounts', 'list', '--json'));
        assert.ok(listed.some((a) => a.id === account.id && a.name === 'Acme & Söhne'));
        assert.equal((await server.cli_json('accounts', 'show', account.id, '--json')).id, account.id);
        await server.cli_json('keys', 'revoke', made.id);
        assert.ok(
          items(await server.cli_json('models', 'list', '--json')).some((m) => m.id === 'demo/chat:1'),
        );
        await server.verify_ledger();
      } finally {
        await s.close();
      }
    });
  }

  test(`ledger verify says what does not balance, ${engine}`, async () => {
    const s = await stage({ engine });
    try {
      await s.server.chat({ key: s.account.key });
      await s.server.stop();
      await s.server.verify_ledger();
      await s.server.tamper_with_ledger();
      const { code, stdout, stderr } = await s.server.cli('ledger', 'verify');
      assert.equal(code, 1, stdout + stderr);
      assert.ok((stdout + stderr).length > 20);
    } finally {
      await s.close();
    }
  });
}

let server;
before(async () => {
  server = await Nebula.start({
    start: false,
    providers: [provider('p', 'http://127.0.0.1:1/v1')],
    models: [model('m', { provider: 'p' })],
  });
});
after(() => server?.remove());

test('help and version exit with 0, mistakes do not', () => {
  const run = (...args) =>
    spawnSync(nebula_bin, args, { encoding: 'utf8', cwd: server.dir, env: server.env });
  for (const args of [
    ['--help'],
    ['serve', '--help'],
    ['keys', '--help'],
    ['keys', 'create', '--help'],
    ['credits', 'grant', '--help'],
    ['version'],
  ]) {
    const { status, stdout } = run(...args);
    assert.equal(status, 0, args.join(' '));
    assert.ok(stdout.length > 5, args.join(' '));
  }
  for (const args of [
    ['frobnicate'],
    ['keys', 'create'],
    ['serve', '--no-such-option'],
    ['credits', 'grant', 'x'],
    [],
  ]) {
    const { status, stdout, stderr } = run(...args);
    if (args.length > 0) assert.notEqual(status, 0, args.join(' '));
    assert.ok((stderr + stdout).length > 5);
  }
});

test('mistakes in values are refused with a sentence on stderr', async () => {
  for (const args of [
    ['credits', 'grant', 'acc_nothing', '1'],
    ['credits', 'balance', 'acc_nothing'],
    ['accounts', 'show', 'acc_nothing'],
    ['keys', 'revoke', 'key_nothing'],
    ['keys', 'create', '--account', 'acc_nothing', '--name', 'x'],
  ]) {
    const { code, stderr } = await server.cli(...args);
    assert.equal(code, 1, args.join(' '));
    assert.ok(stderr.length > 5, args.join(' '));
  }
  const { id } = await server.cli_json('accounts', 'create', 'values', '--json');
  for (const amount of ['', 'ten', '1e3', '0.0000000001', '1.', '99999999999999999999']) {
    const { code } = await server.cli('credits', 'grant', id, amount);
    assert.notEqual(code, 0, `amount ${amount}`);
  }
  assert.equal((await server.cli_json('credits', 'balance', id, '--json')).available, '0');
});

test('config check reports every mistake at once with its line', () => {
  const file = path.join(server.dir, 'wrong.toml');
  fs.writeFileSync(
    file,
    [
      '[http]',
      'listen = 8080',
      'no_such = 1',
      '',
      '[billing]',
      'durability = "sometimes"',
      '',
      '[[model]]',
      'id = "m"',
      'price_input_per_m = 0.2',
      'routes = [{ provider = "nobody", model = "x" }]',
      '',
    ].join('\n'),
  );
  for (const args of [['config', 'check'], ['serve']]) {
    const { status, stdout, stderr } = spawnSync(nebula_bin, [...args, '--config', file], {
      encoding: 'utf8',
      cwd: server.dir,
      env: server.env,
      timeout: 10000,
    });
    assert.ok(status !== 0 && status !== null, `${args}: ${status}`);
    const said = stdout + stderr;
    for (const [line, word] of [
      [2, 'listen'],
      [3, 'no_such'],
      [6, 'durability'],
      [10, 'price_input_per_m'],
    ]) {
      assert.match(said, new RegExp(`(:|line )${line}\\b[^\\n]*${word}`), said);
    }
  }
});

test('config check takes a right configuration, a syntax error has its line', () => {
  assert.equal(
    spawnSync(nebula_bin, ['config', 'check', '--config', server.config_file], {
      cwd: server.dir,
      env: server.env,
    }).status,
    0,
  );
  const file = path.join(server.dir, 'syntax.toml');
  fs.writeFileSync(file, '[http]\nlisten = \n');
  const { status, stdout, stderr } = spawnSync(nebula_bin, ['config', 'check', '--config', file], {
    encoding: 'utf8',
    cwd: server.dir,
    env: server.env,
  });
  assert.notEqual(status, 0);
  assert.match(stdout + stderr, /(:|line )2\b/);
});

test('config explain names every setting, its environment variable, and hides secrets', () => {
  const text = execFileSync(nebula_bin, ['config', 'explain', '--config', server.config_file], {
    encoding: 'utf8',
    cwd: server.dir,
    env: server.env,
  });
  for (const word of [
    'NEBULA_HTTP_LISTEN',
    'NEBULA_STORE_URL',
    'NEBULA_RUNTIME_MODELS_DIR',
    'durability',
    'body_bytes_max',
  ]) {
    assert.ok(text.includes(word), word);
  }
});

test('the environment wins over the file', async () => {
  const s = await stage({ env: { NEBULA_HTTP_BODY_BYTES_MAX: '2048' } });
  try {
    const answer = await s.server.chat({ key: s.account.key, content: 'x'.repeat(3000) });
    assert.equal(answer.status, 413);
  } finally {
    await s.close();
  }
});

test('chat asks once and streams the answer', async () => {
  const s = await stage();
  try {
    s.server.options.env = { ...s.server.options.env, NEBULA_API_KEY: s.account.key };
    const { code, stdout, stderr } = await s.server.cli(
      'chat',
      '--key',
      s.account.key,
      '--model',
      'demo/chat:1',
      'fake:ok frames=3',
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /alpha beta gamma/);
  } finally {
    await s.close();
  }
});

test('a listener that is taken ends the start with a sentence', async () => {
  const s = await stage();
  const other = await Nebula.start({ start: false, upstream: s.fake, http: { listen: s.server.listens.api } });
  try {
    await assert.rejects(other.launch(), (e) => e.message.includes(`cannot listen on ${s.server.listens.api}`));
    assert.equal(other.exit.code, 1);
  } finally {
    await other.remove();
    await s.close();
  }
});
