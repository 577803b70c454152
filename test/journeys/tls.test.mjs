// Providers are reached over TLS and checked; the listener speaks TLS when told to.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Authority } from '../support/authority.mjs';
import { FakeProvider } from '../support/fake_provider.mjs';
import { Nebula, model, provider } from '../support/nebula.mjs';
import {
  assert_broken_stream,
  assert_error_body,
  assert_whole_stream,
  charge_of,
  price_of,
} from '../support/stage.mjs';
import { call } from '../support/raw_http.mjs';

async function with_provider({ host = 'localhost', names, trust = true }, act) {
  const authority = new Authority();
  const fake = await FakeProvider.start({ tls_options: authority.issue(names ? { names } : {}), host });
  const server = await Nebula.start({
    providers: [provider('fake', fake.base_url, trust ? { ca_file: authority.ca_file } : {})],
    models: [model('demo/chat:1')],
  });
  try {
    const account = await server.account('tls', { credit: '10' });
    await act({ server, fake, account });
  } finally {
    await server.remove();
    await fake.stop();
    authority.remove();
  }
}

test('a provider with a certificate of the named authority answers, streams, and its connections are kept', () =>
  with_provider({}, async ({ server, fake, account }) => {
    const { charge } = await charge_of(server, account, async () => {
      assert.equal((await server.chat({ key: account.key })).status, 200);
      for (const option of ['', 'packets=bytes frames=3', 'huge=60000', 'multibyte=true packets=odd']) {
        assert_whole_stream(
          await server.chat({
            key: account.key,
            stream: true,
            content: `fake:ok completion_tokens=10 ${option}`,
          }),
        );
      }
    });
    assert.equal(charge, 5n * price_of(7, 10));
    assert.ok(fake.connections <= 3, `${fake.connections} connections`);
  }));

test('a cut TLS stream is a broken stream', () =>
  with_provider({}, async ({ server, account }) => {
    for (const how of ['fin', 'rst']) {
      assert_broken_stream(
        await server.chat({ key: account.key, stream: true, content: `fake:cut_mid_body how=${how}` }),
      );
      assert_broken_stream(
        await server.chat({
          key: account.key,
          stream: true,
          content: `fake:cut_mid_body framing=close how=${how}`,
        }),
      );
    }
  }));

test('an unknown authority and a wrong name are refused: 502, and the request never leaves', async () => {
  for (const options of [{ trust: false }, { names: ['DNS:elsewhere.example'] }]) {
    await with_provider(options, async ({ server, fake, account }) => {
      assert_error_body(await server.chat({ key: account.key }), 502);
      assert.equal(fake.records.length, 0);
      assert.equal(await server.settled(account.id), 10000000000n);
    });
  }
});

test('the listener speaks TLS', async () => {
  const authority = new Authority();
  const { cert_file, key_file } = authority.issue();
  const fake = await FakeProvider.start();
  const server = await Nebula.start({ upstream: fake, http: { tls_cert: cert_file, tls_key: key_file } });
  try {
    const account = await server.account('tls', { credit: '10' });
    const { readFileSync } = await import('node:fs');
    const tls_options = { ca: readFileSync(authority.ca_file), servername: 'localhost' };
    const body = { model: 'demo/chat:1', messages: [{ role: 'user', content: 'fake:ok huge=30000' }] };
    const url = server.url.replace(/^http:/, 'https:');
    const answer = await call(url, { key: account.key, body, tls_options });
    assert.equal(answer.status, 200);
    assert.ok(answer.json().choices[0].message.content.length > 100000);
    assert_whole_stream(await call(url, { key: account.key, body: { ...body, stream: true }, tls_options }));
    await assert.rejects(
      call(url.replace('https:', 'http:'), { method: 'GET', path: '/healthz' }).then((a) => {
        assert.notEqual(a.status, 200);
        throw new Error('refused');
      }),
    );
  } finally {
    await server.remove();
    await fake.stop();
    authority.remove();
  }
});
