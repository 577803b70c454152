// Many connections that do nothing after one request each, and what they cost the server.

import assert from 'node:assert/strict';
import { RawClient, request_bytes } from './raw_http.mjs';
import { stage } from './stage.mjs';

export async function idle_connections(count, { rss_max = Infinity } = {}) {
  const s = await stage({ http: { idle_timeout_ms: 600000, connections_max: count + 200 } });
  const idle = [];
  try {
    const request = request_bytes({ method: 'GET', path: '/v1/models', key: s.account.key });
    const open_one = async () => {
      const wire = new RawClient(s.server.url);
      await wire.connected;
      assert.equal(wire.error, undefined);
      await wire.send(request);
      assert.equal((await wire.response({ within_ms: 20000 })).status, 200);
      return wire;
    };
    // Warm: allocations that are there for any number of connections are not counted against these.
    const warm = await Promise.all(Array.from({ length: 50 }, open_one));
    for (const wire of warm) wire.destroy();
    for (let i = 0; i < 20; i += 1) await s.server.chat({ key: s.account.key });
    const before = s.server.rss();
    while (idle.length < count) {
      idle.push(...(await Promise.all(Array.from({ length: Math.min(100, count - idle.length) }, open_one))));
    }
    const after = s.server.rss();
    const growth = (after - before) / count;
    assert.ok(growth <= 15 * 1024, `${growth.toFixed(0)} bytes per connection`);
    assert.ok(after <= rss_max, `${(after / 1048576).toFixed(1)} MiB resident`);
    assert.equal((await s.server.chat({ key: s.account.key })).status, 200, 'it serves beside them');
    assert.equal(idle.filter((w) => w.ended).length, 0, 'all are still open');
    return { growth, rss: after };
  } finally {
    for (const wire of idle) wire.destroy();
    await s.close();
  }
}

export async function held_streams(count, { rss_max = Infinity } = {}) {
  const s = await stage({
    credit: '100000',
    http: { connections_max: count + 200 },
    provider: { concurrency_max: count + 10 },
  });
  const open = [];
  try {
    const request = request_bytes({
      key: s.account.key,
      body: {
        model: 'demo/chat:1',
        stream: true,
        max_tokens: 10,
        messages: [{ role: 'user', content: 'fake:ok frames=4 hold=streams hold_after=2' }],
      },
    });
    const before = s.server.rss();
    for (let at = 0; at < count; at += 100) {
      open.push(
        ...(await Promise.all(
          Array.from({ length: Math.min(100, count - at) }, async () => {
            const wire = new RawClient(s.server.url);
            await wire.connected;
            await wire.send(request);
            assert.ok(await wire.until((b) => b.includes('beta'), { within_ms: 30000 }), `${wire.bytes}`);
            return wire;
          }),
        )),
      );
    }
    const after = s.server.rss();
    assert.ok(after <= rss_max, `${(after / 1048576).toFixed(1)} MiB resident`);
    s.fake.open('streams');
    const answers = await Promise.all(open.map((w) => w.response({ method: 'POST', within_ms: 60000 })));
    assert.ok(answers.every((a) => a.complete && a.text.endsWith('data: [DONE]\n\n')));
    await s.server.settled(s.account.id, { within_ms: 30000 });
    await s.server.verify_ledger();
    return { growth: (after - before) / count, rss: after };
  } finally {
    for (const wire of open) wire.destroy();
    await s.close();
  }
}
