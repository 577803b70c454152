// Clients that dribble, stop reading or only sit there: each has a limit, and none may hold memory or a
// provider.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { RawClient, request_bytes } from '../support/raw_http.mjs';
import { stage } from '../support/stage.mjs';
import { eventually, within } from '../support/wait.mjs';
import { held_streams, idle_connections } from '../support/idle_load.mjs';

describe('slow clients', () => {
  let s;
  before(async () => {
    s = await stage({
      http: { head_timeout_ms: 600, body_timeout_ms: 600, idle_timeout_ms: 1500, write_timeout_ms: 1000 },
    });
  });
  after(() => s?.close());

  /** Sends one byte every 50 ms until the server closes; milliseconds until then. */
  async function dribble(prefix, text) {
    const wire = new RawClient(s.server.url);
    await wire.connected;
    const began = performance.now();
    await wire.send(prefix);
    for (const c of text) {
      if (wire.ended) break;
      await wire.send(c);
      await wire.step(50);
    }
    const took = performance.now() - began;
    const response = wire.bytes.length > 0 ? await wire.response({ method: 'POST' }) : null;
    wire.destroy();
    return { took, response, closed: wire.ended };
  }

  test('a head that dribbles is ended by its limit, however steadily it comes', async () => {
    const { took, response, closed } = await dribble(
      'GET /v1/models HTTP/1.1\r\nHost: x\r\n',
      `X-A: ${'a'.repeat(100)}`,
    );
    assert.ok(closed, 'closed');
    assert.ok(took < 2500, `${took} ms`);
    assert.equal(response?.status, 408);
  });

  test('a body that stops is ended', async () => {
    const wire = new RawClient(s.server.url);
    await wire.connected;
    const began = performance.now();
    await wire.send(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${s.account.key}\r\nContent-Length: 1000\r\n\r\n{"mo`,
    );
    const response = await wire.response({ method: 'POST', within_ms: 5000 });
    assert.equal(response.status, 408);
    assert.ok(await wire.closes());
    assert.ok(performance.now() - began < 3000);
  });

  test('an idle connection is closed after its time, a fresh one that never speaks too', async () => {
    for (const bytes of ['', request_bytes({ method: 'GET', path: '/healthz' })]) {
      const wire = new RawClient(s.server.url);
      await wire.connected;
      if (bytes.length > 0) {
        await wire.send(bytes);
        await wire.response();
      }
      const began = performance.now();
      assert.ok(await wire.closes(5000));
      const took = performance.now() - began;
      assert.ok(took > 300 && took < 4000, `${took} ms`);
      wire.destroy();
    }
  });

  test('a client that does not read slows its provider down and is ended; nothing piles up here', async () => {
    const before_rss = s.server.rss();
    const wire = new RawClient(s.server.url, { paused: true });
    await wire.connected;
    wire.socket.pause();
    await wire.send(
      request_bytes({
        key: s.account.key,
        body: {
          model: 'demo/chat:1',
          stream: true,
          messages: [{ role: 'user', content: 'fake:ok frames=1200 huge=50000 completion_tokens=5' }],
        },
      }),
    );
    const record = await eventually('the call arrives', () =>
      s.fake.records.find((r) => r.body_bytes.includes('frames=1200')),
    );
    await within(10000, 'the provider is cancelled', record.closed);
    assert.equal(record.whole, false);
    assert.ok(record.bytes < 40e6, `${record.bytes} bytes were taken for a client that reads nothing`);
    assert.ok(s.server.rss() - before_rss < 32e6, `grew by ${s.server.rss() - before_rss}`);
    wire.destroy();
    await s.server.settled(s.account.id);
    await s.server.verify_ledger();
  });

  test('a client that reads slowly but steadily gets everything', async () => {
    const wire = new RawClient(s.server.url, { paused: true });
    await wire.connected;
    await wire.send(
      request_bytes({
        key: s.account.key,
        body: {
          model: 'demo/chat:1',
          stream: true,
          messages: [{ role: 'user', content: 'fake:ok frames=60 huge=50000 completion_tokens=5' }],
        },
      }),
    );
    let total = 0;
    const done = new Promise((resolve) => {
      wire.socket.on('data', (bytes) => {
        total += bytes.length;
        wire.parts.push(bytes);
        wire.socket.pause();
        setTimeout(() => wire.socket.resume(), 5);
        if (bytes.includes('[DONE]')) resolve();
      });
    });
    await within(20000, 'the whole stream', done);
    assert.ok(total > 3e6);
    wire.destroy();
  });

  test('slow clients do not disturb others', async () => {
    const slow = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const wire = new RawClient(s.server.url);
        await wire.connected;
        await wire.send('POST /v1/chat/completions HTTP/1.1\r\nHo');
        return wire;
      }),
    );
    const began = performance.now();
    for (let i = 0; i < 20; i += 1) assert.equal((await s.server.chat({ key: s.account.key })).status, 200);
    assert.ok(performance.now() - began < 5000);
    for (const wire of slow) wire.destroy();
  });
});

test('connections beyond the maximum are refused, not queued, and the server recovers', async () => {
  const s = await stage({ http: { connections_max: 20 } });
  const wires = [];
  try {
    for (let i = 0; i < 40; i += 1) {
      const wire = new RawClient(s.server.url);
      await wire.connected;
      await wire.send(request_bytes({ method: 'GET', path: '/v1/models', key: s.account.key }));
      wires.push(wire);
    }
    const answers = await Promise.all(wires.map((w) => w.response({ within_ms: 5000 }).catch(() => null)));
    const served = answers.filter((a) => a?.status === 200).length;
    const shed = answers.filter((a) => a === null || a.status === 503).length;
    assert.equal(served + shed, 40);
    assert.ok(served >= 15 && served <= 20, `${served} served`);
    for (const wire of wires) wire.destroy();
    await eventually(
      'it serves again',
      async () => (await s.server.chat({ key: s.account.key })).status === 200,
    );
  } finally {
    for (const wire of wires) wire.destroy();
    await s.close();
  }
});

test('1,000 idle connections cost at most 15 KiB each', async (t) => {
  const { growth, rss } = await idle_connections(1000, { rss_max: 256 * 1048576 });
  t.diagnostic(`${growth.toFixed(0)} bytes per connection, ${(rss / 1048576).toFixed(1)} MiB resident`);
});

test('300 open streams all end whole', async (t) => {
  const { growth, rss } = await held_streams(300);
  t.diagnostic(`${growth.toFixed(0)} bytes per stream, ${(rss / 1048576).toFixed(1)} MiB resident`);
});
