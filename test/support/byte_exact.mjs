// Many concurrent streams whose bytes are compared with what the provider sent, with billing on.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { price_of, stage } from './stage.mjs';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

export const layouts = [
  '',
  'packets=bytes frames=6',
  'packets=odd',
  'packets=pairs',
  'crlf=true',
  'comments=true',
  'multibyte=true packets=odd',
  'huge=9000 frames=12',
  'framing=close',
  'framing=length packets=odd',
  'crlf=true comments=true packets=bytes frames=5 multibyte=true',
  'usage=with_finish',
  'usage_null_frames=true',
];

export async function byte_exact(engine, count, { rounds = 1 } = {}) {
  const s = await stage({ engine, credit: '1000' });
  try {
    let owed = 0n;
    for (let round = 0; round < rounds; round += 1) {
      const gate = `all${round}`;
      const answers = Promise.all(
        Array.from({ length: count }, async (_, i) => {
          const asked = i % 2 === 0;
          const layout = layouts[(i >> 1) % layouts.length];
          const answer = await s.server.chat({
            key: s.account.key,
            stream: true,
            within_ms: 120000,
            content: `fake:ok frames=30 hold_head=${gate} ${layout}`,
            body: asked ? { stream_options: { include_usage: true } } : {},
          });
          return { answer, asked, layout };
        }),
      );
      await s.fake.reached(gate, count); // all of them are open at the same time
      s.fake.open(gate);
      const by_id = new Map(s.fake.records.map((r) => [r.id, r]));
      for (const { answer, asked, layout } of await answers) {
        const what = `layout "${layout}", usage ${asked ? '' : 'not '}asked for`;
        assert.equal(answer.status, 200, `${what}: ${answer.text}`);
        assert.equal(answer.complete, true, what);
        const record = by_id.get(JSON.parse(answer.events()[0]).id);
        assert.ok(record, `${what}: the provider never sent\n${answer.text.slice(0, 2000)}`);
        assert.equal(record.whole, true);
        assert.equal(sha256(answer.body), asked ? record.sha256 : record.sha256_without_usage, what);
        owed += price_of(record.usage.prompt_tokens, record.usage.completion_tokens);
      }
    }
    const credit = 1000000000000n;
    assert.equal(credit - (await s.server.settled(s.account.id)), owed);
    await s.server.verify_ledger();
  } finally {
    await s.close();
  }
}
