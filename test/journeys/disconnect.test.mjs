// A client that leaves must not leave the provider working, and what it pays is the declared policy of the
// model.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { engines, model } from '../support/nebula.mjs';
import { charge_of, price_of, stage } from '../support/stage.mjs';
import { RawClient, request_bytes } from '../support/raw_http.mjs';
import { within } from '../support/wait.mjs';

const models = ['bill_delivered', 'drain', 'cancel'].map((policy) => model(policy, { disconnect: policy }));
let gates = 0;

for (const engine of engines) {
  describe(`a client leaves, ${engine}`, () => {
    let s;
    before(async () => {
      s = await stage({ engine, models });
    });
    after(() => s?.close());

    const start = async (policy, gate, extra = '') => {
      const stream = await s.client.chat.completions.create({
        model: policy,
        stream: true,
        messages: [{ role: 'user', content: `fake:ok frames=40 hold=${gate} hold_after=5 ${extra}` }],
      });
      const record = s.fake.last;
      let text = '';
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta?.content ?? '';
        if (text.trim().split(/\s+/).length === 5) break; // leaving the loop aborts the request
      }
      stream.controller.abort();
      return record;
    };

    test('bill_delivered: the provider is cancelled within a second, what was delivered is paid', async () => {
      const { charge } = await charge_of(s.server, s.account, async () => {
        const record = await start('bill_delivered', `gone${(gates += 1)}`);
        const left = performance.now();
        await within(1000, 'the provider sees the cancellation', record.closed);
        assert.ok(performance.now() - left < 1000);
        await record.finished;
        assert.equal(record.cancelled, true);
      });
      assert.ok(charge > 0n, 'delivered tokens are not free');
      assert.ok(charge <= price_of(60, 15), `five words were delivered, ${charge} charged`);
      await s.server.verify_ledger();
    });

    test('cancel: the provider is cancelled and nothing is paid', async () => {
      const { charge } = await charge_of(s.server, s.account, async () => {
        const record = await start('cancel', `gone${(gates += 1)}`);
        await within(1000, 'the provider sees the cancellation', record.closed);
      });
      assert.equal(charge, 0n);
      await s.server.verify_ledger();
    });

    test('drain: the provider finishes and the whole answer is paid', async () => {
      const { charge } = await charge_of(s.server, s.account, async () => {
        const gate = `gone${(gates += 1)}`;
        const record = await start('drain', gate);
        await new Promise((r) => setTimeout(r, 200));
        assert.equal(record.cancelled, false);
        s.fake.open(gate);
        await within(5000, 'the provider finishes', record.finished);
        assert.equal(record.whole, true);
      });
      assert.equal(charge, price_of(7, 40));
      await s.server.verify_ledger();
    });

    test('a plain call that is left before its answer costs nothing and is cancelled', async () => {
      const { charge } = await charge_of(s.server, s.account, async () => {
        const gate = `gone${(gates += 1)}`;
        const wire = new RawClient(s.server.url);
        await wire.connected;
        await wire.send(
          request_bytes({
            key: s.account.key,
            body: { model: 'bill_delivered', messages: [{ role: 'user', content: `fake:ok hold=${gate}` }] },
          }),
        );
        await within(3000, 'the call arrives', s.fake.reached(gate));
        const record = s.fake.last;
        wire.destroy();
        await within(1000, 'the provider sees the cancellation', record.closed);
      });
      assert.equal(charge, 0n);
    });

    test('a client that resets its connection is treated as one that left', async () => {
      const gate = `gone${(gates += 1)}`;
      const wire = new RawClient(s.server.url);
      await wire.connected;
      await wire.send(
        request_bytes({
          key: s.account.key,
          body: {
            model: 'bill_delivered',
            stream: true,
            messages: [{ role: 'user', content: `fake:ok hold=${gate} hold_after=3` }],
          },
        }),
      );
      await within(3000, 'the call arrives', s.fake.reached(gate));
      const record = s.fake.last;
      wire.socket.resetAndDestroy();
      await within(1000, 'the provider sees the cancellation', record.closed);
      await s.server.settled(s.account.id);
      await s.server.verify_ledger();
    });

    test('leaving a thousand times leaves no hold behind', async () => {
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          for (let round = 0; round < 10; round += 1) {
            const wire = new RawClient(s.server.url);
            await wire.connected;
            await wire.send(
              request_bytes({
                key: s.account.key,
                body: {
                  model: models[i % 3].id,
                  stream: i % 2 === 0,
                  messages: [{ role: 'user', content: 'fake:ok frames=20' }],
                },
              }),
            );
            if (round % 3 > 0) await wire.until((b) => b.length > round * 100, { within_ms: 5000 });
            wire.destroy();
          }
        }),
      );
      await s.server.settled(s.account.id, { within_ms: 20000 });
      await s.server.verify_ledger();
    });
  });
}
