// What no list of cases contains: clients, operators and databases that misbehave together while the server works.
// Whatever happens, no cent is lost or invented, errors are true, and afterwards the server serves.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeProvider } from '../support/fake_provider.mjs';
import { Nebula, engines, model } from '../support/nebula.mjs';
import { assert_error_body, assert_whole_stream, price_of, stage } from '../support/stage.mjs';
import { assert_books, bad_clients, load, lock_database, many_clients, small_disk } from '../support/chaos.mjs';
import { RawClient, events_of, request_bytes } from '../support/raw_http.mjs';
import { eventually, within } from '../support/wait.mjs';

for (const engine of engines) {
  test(`clients that send garbage, damaged and cut requests and leave at random, ${engine}`, () =>
    bad_clients(engine, { workers: 32, calls: 640 }));

  test(`400 clients at once are all served and billed exactly, ${engine}`, () => many_clients(engine, 400, 2));

  test(`a key revoked under its running stream: the stream ends whole and is paid, the next call is refused, ${engine}`, async () => {
    const s = await stage({ engine });
    try {
      const { id, key } = await s.server.key(s.account.id);
      const wire = new RawClient(s.server.url);
      await wire.connected;
      const messages = [{ role: 'user', content: 'fake:ok frames=6 hold=revoked hold_after=3' }];
      await wire.send(request_bytes({ key, body: { model: 'demo/chat:1', stream: true, messages } }));
      await within(5000, 'the stream comes to its gate', s.fake.reached('revoked'));
      await s.server.cli_json('keys', 'revoke', id);
      assert_error_body(await s.server.chat({ key }), 401, { code: 'invalid_api_key' });
      s.fake.open('revoked');
      const answer = await wire.response({ method: 'POST' });
      answer.events = () => events_of(answer.text);
      assert_whole_stream(answer);
      // The kept connection is no way around it.
      await wire.send(request_bytes({ key, body: { model: 'demo/chat:1', messages } }));
      assert.equal((await wire.response({ method: 'POST' })).status, 401);
      wire.destroy();
      const [record] = await s.server.usage_records();
      assert.equal(record.charge, price_of(7, 6));
    } finally {
      await s.close();
    }
  });

  test(`a database that is locked for two seconds delays answers and loses none, ${engine}`, async () => {
    const s = await stage({ engine, credit: '1000000' });
    try {
      await s.server.chat({ key: s.account.key });
      const clients = load(s, 24);
      await eventually('the load runs', () => clients.seen.delivered > 50);
      await lock_database(s, 2);
      const after = clients.seen.delivered;
      await eventually('the load goes on', () => clients.seen.delivered > after + 50, { within_ms: 20000 });
      const { delivered, broken } = await clients.stop();
      assert.equal(broken, 0);
      const records = await assert_books(s, { credit: '1000000' });
      assert.equal(records.length, delivered + 1);
    } finally {
      await s.close();
    }
  });
}

test('SIGHUP a hundred times without pause, with right, wrong and half-written files, drops nothing', async () => {
  const s = await stage({ credit: '1000000' });
  try {
    const clients = load(s, 16);
    const right = structuredClone(s.server.config);
    for (let i = 0; i < 100; i += 1) {
      const change = structuredClone(right);
      if (i % 3 === 0) change.model.push(model(`extra/${i}`));
      if (i % 3 === 1) change.model[0].no_such_setting = i;
      s.server.write_config(change);
      s.server.child.kill('SIGHUP');
      const seen = clients.seen.delivered;
      await eventually('the load goes on', () => clients.seen.delivered > seen);
    }
    s.server.write_config(right);
    s.server.child.kill('SIGHUP');
    const { delivered, broken } = await clients.stop();
    assert.equal(broken, 0);
    assert.equal((await assert_books(s, { credit: '1000000' })).length, delivered);
  } finally {
    await s.close();
  }
});

test('PostgreSQL ends connections under load: they are made again, nothing is lost or doubled', async (t) => {
  if (!engines.includes('postgres')) return t.skip('needs PostgreSQL');
  const s = await stage({ engine: 'postgres', credit: '1000000' });
  try {
    await s.server.chat({ key: s.account.key });
    const clients = load(s, 24);
    for (let i = 0; i < 5; i += 1) {
      const seen = clients.seen.delivered;
      await eventually('the load runs', () => clients.seen.delivered > seen + 30, { within_ms: 20000 });
      // All but the one that holds the ownership: who loses that must stop, another node may have it now.
      await s.server.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${s.server.database}'
           and pid <> pg_backend_pid()
           and pid not in (select pid from pg_locks where locktype = 'advisory' and granted)`,
      );
    }
    const { delivered, broken } = await clients.stop();
    assert.equal(broken, 0);
    assert.equal((await assert_books(s, { credit: '1000000' })).length, delivered + 1);
  } finally {
    await s.close();
  }
});

test('a disk that is full under load: what is not recorded is not delivered whole and not charged; it recovers', async (t) => {
  const fake = await FakeProvider.start();
  const server = await Nebula.start({ start: false, upstream: fake, billing: { commit_retry_ms: 500 } });
  const disk = small_disk(server, 8 << 20);
  if (disk === null) {
    await server.remove();
    await fake.stop();
    return t.skip('needs the right to mount a file system');
  }
  try {
    await server.launch();
    const account = await server.account('small disk', { credit: '1000000' });
    const s = { server, fake, account };
    const clients = load(s, 16, { allowed: [200, 500, 503] });
    await eventually('the load runs', () => clients.seen.delivered > 50);
    const free = disk.fill();
    await eventually('calls fail', () => clients.seen.refused > 20, { within_ms: 20000 });
    assert.equal((await server.call({ method: 'GET', path: '/healthz' })).status, 200);
    free();
    const seen = clients.seen.delivered;
    await eventually('calls are served again', () => clients.seen.delivered > seen + 50, { within_ms: 20000 });
    const { delivered } = await clients.stop();
    const records = await assert_books(s, { credit: '1000000' });
    assert.equal(records.length, delivered, 'billed is what was delivered whole');
  } finally {
    await server.remove().catch(() => {});
    disk.unmount();
    await server.remove();
    await fake.stop();
  }
});
