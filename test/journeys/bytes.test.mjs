// What the provider wrote is what the client reads, byte for byte, with billing on: SHA-256 of both sides.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { engines } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';
import { byte_exact } from '../support/byte_exact.mjs';

for (const engine of engines) {
  test(`64 concurrent streams are byte-exact, ${engine}`, () => byte_exact(engine, 64, { rounds: 2 }));
}

test('JSON answers are byte-exact in every framing', async () => {
  const s = await stage();
  try {
    for (const option of [
      '',
      'framing=chunked',
      'framing=close',
      'huge=100000',
      'multibyte=true',
      'usage=absent',
    ]) {
      const answer = await s.server.chat({ key: s.account.key, content: `fake:ok ${option}` });
      assert.equal(answer.status, 200);
      const record = await s.fake.last.finished;
      assert.equal(createHash('sha256').update(answer.body).digest('hex'), record.sha256, option);
    }
  } finally {
    await s.close();
  }
});

test('a frame reaches the client before the next one is sent', async () => {
  const s = await stage();
  try {
    const stream = await s.client.chat.completions.create({
      model: 'demo/chat:1',
      stream: true,
      messages: [{ role: 'user', content: 'fake:ok frames=4 hold=step hold_after=2' }],
    });
    let text = '';
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? '';
      // The provider waits here: the two words can only come if nothing between us collects frames.
      if (text === 'alpha beta ') s.fake.open('step');
    }
    assert.equal(text, 'alpha beta gamma delta ');
  } finally {
    await s.close();
  }
});
