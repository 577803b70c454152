// A restart loses nothing: running streams finish, new work is refused, the end is orderly and in time. A
// reload changes models and prices under running streams, and a wrong configuration changes nothing.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { engines, model } from '../support/nebula.mjs';
import { assert_whole_stream, charge_of, price_of, stage } from '../support/stage.mjs';
import { RawClient, call, request_bytes } from '../support/raw_http.mjs';
import { eventually, within } from '../support/wait.mjs';

const say = (content, extra = {}) => ({
  model: 'demo/chat:1',
  stream: true,
  messages: [{ role: 'user', content }],
  ...extra,
});

async function stream_at_gate(s, gate) {
  const wire = new RawClient(s.server.url);
  await wire.connected;
  await wire.send(
    request_bytes({ key: s.account.key, body: say(`fake:ok frames=6 hold=${gate} hold_after=3`) }),
  );
  await within(5000, 'the stream comes to its gate', s.fake.reached(gate));
  await wire.until((b) => b.includes('gamma'));
  return wire;
}

for (const engine of engines) {
  test(`SIGTERM lets a stream finish, refuses new work and ends with 0; a restart knows the charge, ${engine}`, async () => {
    const s = await stage({ engine, http: { drain_timeout_ms: 10000 } });
    try {
      const before_stop = await s.server.settled(s.account.id);
      const wire = await stream_at_gate(s, 'last');
      const idle = new RawClient(s.server.url);
      await idle.connected;
      const { url } = s.server;
      const stopped = s.server.stop();
      stopped.catch(() => {});
      await eventually(
        'no new connection is served',
        async () => {
          try {
            // Without a key, so that a call that comes before the signal has been seen costs nothing.
            const answer = await call(url, { body: say('fake:ok'), within_ms: 1000 });
            return answer.status === 503 || answer.status === 0;
          } catch {
            return true;
          }
        },
        { within_ms: 3000 },
      );
      assert.ok(await idle.closes(3000), 'idle connections are closed');
      s.fake.open('last');
      const answer = await wire.response({ method: 'POST' });
      answer.events = () =>
        answer.text
          .split('\n\n')
          .filter(Boolean)
          .map((f) => f.slice(6));
      assert_whole_stream(answer);
      assert.ok(await wire.closes(3000));
      const exit = await stopped;
      assert.deepEqual([exit.code, exit.signal], [0, null], s.server.output);
      await s.server.verify_ledger();
      await s.server.launch();
      assert.equal(before_stop - (await s.server.settled(s.account.id)), price_of(7, 6));
      assert.equal((await s.server.chat({ key: s.account.key })).status, 200, 'keys survive');
    } finally {
      await s.close();
    }
  });

  test(`a second start on the same data is ready within two seconds and keeps everything, ${engine}`, async () => {
    const s = await stage({ engine });
    try {
      for (let i = 0; i < 20; i += 1) await s.server.chat({ key: s.account.key });
      const balance = await s.server.settled(s.account.id);
      for (const how of ['stop', 'kill']) {
        await s.server[how]();
        await s.server.launch();
        assert.ok(s.server.ready_ms < 2000, `${how}: ready after ${s.server.ready_ms} ms`);
        assert.equal(await s.server.settled(s.account.id), balance);
      }
    } finally {
      await s.close();
    }
  });
}

test('a stream that never ends cannot keep the server beyond its drain limit', async () => {
  const s = await stage({ http: { drain_timeout_ms: 500 } });
  try {
    const wire = await stream_at_gate(s, 'never');
    const exit = await s.server.stop({ within_ms: 8000 });
    assert.equal(exit.code, 0, s.server.output);
    assert.ok(exit.ms < 5000, `${exit.ms} ms`);
    await wire.closes();
    assert.ok(!wire.bytes.includes('[DONE]'));
    assert.ok(!wire.bytes.toString().endsWith('0\r\n\r\n'), 'a cut stream must not look whole');
    await s.server.verify_ledger();
  } finally {
    await s.close();
  }
});

describe('SIGHUP', () => {
  let s;
  before(async () => {
    s = await stage();
  });
  after(() => s?.close());
  const listed = async () =>
    (await s.server.call({ method: 'GET', path: '/v1/models', key: s.account.key }))
      .json()
      .data.map((m) => m.id);

  test('changes models and prices without touching a running stream', async () => {
    const start = await s.server.settled(s.account.id);
    const wire = await stream_at_gate(s, 'reload');
    s.server.reload((c) => {
      c.model[0].price_output_per_m = '20';
      c.model.push(model('new/model:2'));
    });
    await eventually('the new model is listed', async () => (await listed()).includes('new/model:2'));
    s.fake.open('reload');
    const answer = await wire.response({ method: 'POST' });
    answer.events = () =>
      answer.text
        .split('\n\n')
        .filter(Boolean)
        .map((f) => f.slice(6));
    assert_whole_stream(answer);
    assert.equal(
      start - (await s.server.settled(s.account.id)),
      price_of(7, 6),
      'the price is that of its beginning',
    );
    const { charge } = await charge_of(s.server, s.account, () =>
      s.server.chat({ key: s.account.key, content: 'fake:ok frames=3' }),
    );
    assert.equal(charge, price_of(7, 3, { input: '1', output: '20' }));
    assert.equal((await s.server.chat({ key: s.account.key, model: 'new/model:2' })).status, 200);
  });

  test('removes a model', async () => {
    s.server.reload((c) => {
      c.model = c.model.filter((m) => m.id !== 'new/model:2');
    });
    await eventually('it is gone', async () => !(await listed()).includes('new/model:2'));
    assert.equal((await s.server.chat({ key: s.account.key, model: 'new/model:2' })).status, 404);
  });

  test('with a wrong configuration keeps the old one and says why', async () => {
    const before_reload = await listed();
    const said = s.server.output.length;
    fs.appendFileSync(s.server.config_file, '\n[[model]]\nid = "broken"\nno_such_setting = 1\n');
    s.server.child.kill('SIGHUP');
    await eventually('it says what is wrong', () => s.server.output.slice(said).includes('no_such_setting'));
    assert.deepEqual(await listed(), before_reload);
    assert.equal((await s.server.chat({ key: s.account.key })).status, 200);
    s.server.write_config();
  });

  test('many times under load drops nothing', async () => {
    let running = true;
    let done = 0;
    const load = Array.from({ length: 8 }, async () => {
      while (running) {
        const answer = await s.server.chat({ key: s.account.key, stream: true, content: 'fake:ok frames=5' });
        assert_whole_stream(answer);
        done += 1;
      }
    });
    for (let i = 0; i < 20; i += 1) {
      s.server.reload((c) => {
        c.model[0].price_output_per_m = `${1 + (i % 5)}`;
      });
      const seen = done;
      await eventually('load goes on', () => done > seen + 8);
    }
    running = false;
    await Promise.all(load);
    await s.server.settled(s.account.id);
    await s.server.verify_ledger();
  });
});
