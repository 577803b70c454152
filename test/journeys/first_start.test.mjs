// The first minute of a newcomer: an empty database gets an operator, an account with credit and a key, told
// once.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { FakeProvider } from '../support/fake_provider.mjs';
import { Nebula, engines } from '../support/nebula.mjs';
import { nanos } from '../support/wait.mjs';

const key_pattern = /sk-neb-[A-Za-z0-9]{20,}/;

function files_below(dir) {
  return fs
    .readdirSync(dir, { withFileTypes: true })
    .flatMap((e) => (e.isDirectory() ? files_below(path.join(dir, e.name)) : [path.join(dir, e.name)]));
}

for (const engine of engines) {
  test(`the first start prints key and password once and keeps them in a private file, ${engine}`, async () => {
    const fake = await FakeProvider.start();
    const server = await Nebula.start({ engine, upstream: fake });
    try {
      const first = server.output;
      const key = key_pattern.exec(first)?.[0];
      assert.ok(key, `no key was printed:\n${first}`);
      assert.match(first, /password/i);
      const kept = files_below(path.join(server.dir, 'data')).filter((f) => fs.readFileSync(f).includes(key));
      assert.equal(kept.length, 1, `${kept}`);
      assert.equal(fs.statSync(kept[0]).mode & 0o777, 0o600);
      const answer = await server.chat({ key });
      assert.equal(answer.status, 200, answer.text);
      const accounts = await server.cli_json('accounts', 'list', '--json');
      const list = Array.isArray(accounts) ? accounts : accounts.data;
      assert.equal(list.length, 1);
      const users = await server.cli_json('users', 'list', '--json');
      assert.equal((Array.isArray(users) ? users : users.data).length, 1);
      const available = await server.settled(list[0].id);
      assert.ok(available > nanos('9.9') && available < nanos('10'), `${available}`);

      await server.stop();
      await server.launch();
      assert.ok(!key_pattern.test(server.output), 'a second start prints no key');
      assert.equal((await server.chat({ key })).status, 200, 'the key still works');
      assert.equal((await server.cli_json('accounts', 'list', '--json')).length ?? 1, 1);
      await server.verify_ledger();
    } finally {
      await server.remove();
      await fake.stop();
    }
  });

  test(`neither key nor password is stored in the clear, ${engine}`, async () => {
    const fake = await FakeProvider.start();
    const server = await Nebula.start({ engine, upstream: fake });
    try {
      const { key } = await server.account('private', { credit: '1' });
      await server.chat({ key });
      await server.stop();
      if (engine === 'sqlite') {
        for (const file of files_below(path.join(server.dir, 'data'))) {
          assert.ok(!fs.readFileSync(file).includes(key), `${file} contains a key`);
        }
      }
      assert.ok(!server.output.includes(key));
    } finally {
      await server.remove();
      await fake.stop();
    }
  });
}

test('everything that the server writes is private to its user', async () => {
  const fake = await FakeProvider.start();
  const server = await Nebula.start({ upstream: fake });
  try {
    for (const file of files_below(path.join(server.dir, 'data'))) {
      assert.equal(fs.statSync(file).mode & 0o077, 0, `${file} can be read by others`);
    }
  } finally {
    await server.remove();
    await fake.stop();
  }
});
