// Two parties that read one byte stream differently are how requests are smuggled. Whatever is not plain,
// strict HTTP/1.1 gets one correct refusal and a closed connection, and what stands behind it is never
// executed.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { RawClient, request_bytes } from '../support/raw_http.mjs';
import { stage } from '../support/stage.mjs';

let s;
let key;
before(async () => {
  s = await stage({ http: { body_bytes_max: 65536, head_timeout_ms: 2000, body_timeout_ms: 2000 } });
  key = s.account.key;
});
after(() => s?.close());

const body_of = (content) => JSON.stringify({ model: 'demo/chat:1', messages: [{ role: 'user', content }] });
const smuggled = () => {
  const body = body_of('fake:ok smuggled');
  return `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
};
const chat_head = (...lines) =>
  ['POST /v1/chat/completions HTTP/1.1', 'Host: x', `Authorization: Bearer ${key}`, ...lines, '', ''].join(
    '\r\n',
  );
const good = body_of('fake:ok frames=1');
const hex = (n) => n.toString(16);
const chunked = (text) => `${hex(text.length)}\r\n${text}\r\n0\r\n\r\n`;
const get = (...lines) =>
  ['GET /v1/models HTTP/1.1', ...lines, `Authorization: Bearer ${key}`, '', ''].join('\r\n');

/** Sends everything at once and collects every response until the server closes or is silent for a while. */
async function talk(bytes, { linger_ms = 700 } = {}) {
  const wire = new RawClient(s.server.url);
  await wire.connected;
  await wire.send(bytes);
  const responses = [];
  for (;;) {
    const response = await wire
      .response({ method: 'POST', within_ms: responses.length === 0 ? 5000 : linger_ms })
      .catch(() => null);
    if (!response) break;
    responses.push(response);
  }
  const closed = wire.ended || (await wire.closes(linger_ms));
  wire.destroy();
  return { responses, closed };
}

const refused = [
  // [what, bytes, status]
  [
    'two different content-lengths',
    () => chat_head('Content-Length: 4', `Content-Length: ${good.length}`) + good,
    400,
  ],
  [
    'the same content-length twice',
    () => chat_head(`Content-Length: ${good.length}`, `Content-Length: ${good.length}`) + good,
    400,
  ],
  ['a list as content-length', () => chat_head(`Content-Length: ${good.length}, ${good.length}`) + good, 400],
  ...['+5', '-1', '0x5', '5 5', '5a', '', '1e3', '5;x', '18446744073709551617', '9'.repeat(40)].map((v) => [
    `content-length "${v}"`,
    () => chat_head(`Content-Length: ${v}`) + good,
    400,
  ]),
  [
    'transfer-encoding and content-length',
    () => chat_head('Transfer-Encoding: chunked', 'Content-Length: 4') + chunked(good),
    400,
  ],
  [
    'content-length and transfer-encoding',
    () => chat_head(`Content-Length: ${good.length}`, 'Transfer-Encoding: chunked') + good,
    400,
  ],
  ...[
    'gzip',
    'gzip, chunked',
    'chunked, gzip',
    'identity',
    'xchunked',
    'chunked, chunked',
    'chunked,',
    ',chunked',
    '"chunked"',
    'chunked;q=1',
    '\x0bchunked',
    '',
  ].map((v) => [
    `transfer-encoding ${JSON.stringify(v)}`,
    () => chat_head(`Transfer-Encoding: ${v}`) + chunked(good),
    400,
  ]),
  [
    'transfer-encoding twice',
    () => chat_head('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked') + chunked(good),
    400,
  ],
  ['a space before the colon', () => chat_head('Transfer-Encoding : chunked') + chunked(good), 400],
  ['a tab before the colon', () => chat_head(`Content-Length\t: ${good.length}`) + good, 400],
  ['a folded header', () => chat_head('X-Long: a', ' b', `Content-Length: ${good.length}`) + good, 400],
  ['a folded transfer-encoding', () => chat_head('Transfer-Encoding:', ' chunked') + chunked(good), 400],
  [
    'a first header that begins with a space',
    () => `POST /v1/chat/completions HTTP/1.1\r\n Host: x\r\n\r\n`,
    400,
  ],
  ['NUL in a header value', () => chat_head('X-A: a\0b', `Content-Length: ${good.length}`) + good, 400],
  ['NUL in a header name', () => chat_head('X-\0A: a', `Content-Length: ${good.length}`) + good, 400],
  ['NUL in the target', () => `GET /v1/mo\0dels HTTP/1.1\r\nHost: x\r\n\r\n`, 400],
  [
    'a control character in a value',
    () => chat_head('X-A: a\x01b', `Content-Length: ${good.length}`) + good,
    400,
  ],
  ['a bare LF behind the request line', () => `GET /v1/models HTTP/1.1\nHost: x\r\n\r\n`, 400],
  ['bare LFs everywhere', () => `GET /v1/models HTTP/1.1\nHost: x\n\n`, 400],
  ['a bare LF inside the head', () => chat_head(`X-A: b\nContent-Length: ${good.length}`) + good, 400],
  ['a bare CR in a value', () => chat_head('X-A: a\rb', `Content-Length: ${good.length}`) + good, 400],
  ['an empty header name', () => chat_head(': x'), 400],
  ['a header without a colon', () => chat_head('Nonsense'), 400],
  ['a header name with a blank', () => chat_head('X A: b'), 400],
  ['a header name with bytes above 127', () => Buffer.from(chat_head('X-\xe9: b'), 'latin1'), 400],
  ['no host', () => get(), 400],
  ['two hosts', () => get('Host: a', 'Host: b'), 400],
  ['a host that is no host', () => get('Host: a b'), 400],
  ['two blanks in the request line', () => `GET  /v1/models HTTP/1.1\r\nHost: x\r\n\r\n`, 400],
  ['a tab in the request line', () => `GET\t/v1/models HTTP/1.1\r\nHost: x\r\n\r\n`, 400],
  ['a blank in the target', () => `GET /v1/models /x HTTP/1.1\r\nHost: x\r\n\r\n`, 400],
  ['a blank behind the version', () => `GET /v1/models HTTP/1.1 \r\nHost: x\r\n\r\n`, 400],
  ['no version', () => 'GET /v1/models\r\nHost: x\r\n\r\n', 400],
  [
    'bytes above 127 in the target',
    () => Buffer.from('GET /v1/\xe9 HTTP/1.1\r\nHost: x\r\n\r\n', 'latin1'),
    400,
  ],
  ['a target without a slash', () => `GET v1/models HTTP/1.1\r\nHost: x\r\n\r\n`, 400],
  ['lower-case http', () => `GET /v1/models http/1.1\r\nHost: x\r\n\r\n`, 400],
  ['HTTP/2.0', () => `GET /v1/models HTTP/2.0\r\nHost: x\r\n\r\n`, 505],
  ['the preface of HTTP/2', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
  ['HTTP/0.9', () => `GET /v1/models HTTP/0.9\r\nHost: x\r\n\r\n`, 505],
  ['a method nobody knows', () => `FROB /v1/models HTTP/1.1\r\nHost: x\r\n\r\n`, 501],
  ['a method in lower case', () => `get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n`, 501],
  ['CONNECT', () => 'CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n', 501],
  ['a TLS hello on the plain port', () => Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]), 400],
  [
    'a head that is too long',
    () => `GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(200000)}\r\n\r\n`,
    431,
  ],
  ['too many headers', () => get('Host: x', ...Array.from({ length: 2000 }, (_, i) => `X-${i}: y`)), 431],
  [
    'a target that is too long',
    () => `GET /v1/models/${'a'.repeat(200000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    431,
  ],
  ['a body declared too long', () => chat_head('Content-Length: 1000000') + 'x'.repeat(1000), 413],
  ['an empty line before the request line', () => `\r\n${get('Host: x')}`, 400],
  [
    'a chunked body that becomes too long',
    () => chat_head('Transfer-Encoding: chunked') + `4000\r\n${'x'.repeat(0x4000)}\r\n`.repeat(6),
    413,
  ],
  ...['zz', '-1', '+5', '0x5', '5 ', ' 5', '', '1_0', 'fffffffffffffffff', '5\0'].map((size) => [
    `chunk size ${JSON.stringify(size)}`,
    () => `${chat_head('Transfer-Encoding: chunked')}${size}\r\nhello\r\n0\r\n\r\n`,
    400,
  ]),
  [
    'a chunk size that ends in a bare LF',
    () => `${chat_head('Transfer-Encoding: chunked')}5\nhello\r\n0\r\n\r\n`,
    400,
  ],
  [
    'a chunk without its line end',
    () => `${chat_head('Transfer-Encoding: chunked')}5\r\nhelloXX0\r\n\r\n`,
    400,
  ],
  [
    'a chunk extension without end',
    () => `${chat_head('Transfer-Encoding: chunked')}5;${'a'.repeat(100000)}\r\nhello\r\n0\r\n\r\n`,
    400,
  ],
  [
    'trailers without end',
    () => `${chat_head('Transfer-Encoding: chunked')}0\r\n${'X-A: b\r\n'.repeat(10000)}\r\n`,
    400,
  ],
];

for (const [what, bytes, status] of refused) {
  test(`${status}: ${what}`, async () => {
    const calls = s.fake.records.length;
    const { responses, closed } = await talk(
      Buffer.concat([Buffer.from(bytes(), 'latin1'), Buffer.from(smuggled())]),
    );
    assert.deepEqual(
      responses.map((r) => r.status),
      [status],
      responses.map((r) => r.text).join('\n'),
    );
    assert.ok(closed, 'the connection must be closed');
    assert.equal(s.fake.records.length, calls, 'nothing was executed');
    if (responses[0].headers['content-type'] !== undefined) assert.ok(responses[0].json().error.message);
  });
}

const accepted = [
  // [what, bytes, statuses in order, connection stays open]
  [
    'pipelined requests are answered in order',
    () => get('Host: x') + request_bytes({ key, body: good }) + get('Host: x'),
    [200, 200, 200],
    true,
  ],
  [
    'a body behind GET belongs to it',
    () => get('Host: x', 'Content-Length: 5') + 'hello' + get('Host: x'),
    [200, 200],
    true,
  ],
  [
    'an expectation nobody knows is read over',
    () => chat_head('Expect: 200-ok', `Content-Length: ${good.length}`) + good,
    [200],
    true,
  ],
  [
    'chunk extensions are read over',
    () =>
      `${chat_head('Transfer-Encoding: chunked')}${hex(good.length)};a=b;c="d"\r\n${good}\r\n0;last\r\n\r\n${get('Host: x')}`,
    [200, 200],
    true,
  ],
  [
    'trailers are read over',
    () =>
      `${chat_head('Transfer-Encoding: chunked')}${hex(good.length)}\r\n${good}\r\n0\r\nX-T: v\r\n\r\n${get('Host: x')}`,
    [200, 200],
    true,
  ],
  [
    'many chunks',
    () =>
      `${chat_head('Transfer-Encoding: chunked')}${[...good].map((c) => `1\r\n${c}\r\n`).join('')}0\r\n\r\n`,
    [200],
    true,
  ],
  [
    'upper-case hex and leading zeros',
    () =>
      `${chat_head('Transfer-Encoding: Chunked')}000${hex(good.length).toUpperCase()}\r\n${good}\r\n0\r\n\r\n`,
    [200],
    true,
  ],
  [
    'a trailer cannot become a header',
    () =>
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n` +
      `${hex(good.length)}\r\n${good}\r\n0\r\nAuthorization: Bearer ${key}\r\n\r\n`,
    [401],
    null,
  ],
  ['connection: close is honoured', () => get('Host: x', 'Connection: close'), [200], false],
  ['HTTP/1.0 closes', () => `GET /v1/models HTTP/1.0\r\nAuthorization: Bearer ${key}\r\n\r\n`, [200], false],
  [
    'an absolute target is its path',
    () => `GET http://x/v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\n\r\n`,
    [200],
    true,
  ],
  [
    'a query is not part of the path',
    () => `GET /v1/models?limit=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\n\r\n`,
    [200],
    true,
  ],
];

for (const [what, bytes, statuses, stays] of accepted) {
  test(what, async () => {
    const { responses, closed } = await talk(bytes());
    assert.deepEqual(
      responses.map((r) => r.status),
      statuses,
      responses.map((r) => r.text).join('\n'),
    );
    if (stays !== null) assert.equal(closed, !stays);
  });
}

test('a request that arrives byte by byte is one request', async () => {
  const wire = new RawClient(s.server.url);
  await wire.connected;
  for (const byte of request_bytes({ key, body: good })) await wire.send(Buffer.of(byte));
  assert.equal((await wire.response({ method: 'POST' })).status, 200);
  wire.destroy();
});

test('100-continue: asked for, granted, then the answer', async () => {
  const wire = new RawClient(s.server.url);
  await wire.connected;
  await wire.send(chat_head('Expect: 100-continue', `Content-Length: ${good.length}`));
  assert.equal((await wire.response({ method: 'POST' })).status, 100);
  await wire.send(good);
  assert.equal((await wire.response({ method: 'POST' })).status, 200);
  wire.destroy();
});

test('100-continue is not granted to a wrong key or a body that is too long', async () => {
  for (const [lines, status] of [
    [['Authorization: Bearer nothing', 'Content-Length: 10'], 401],
    [[`Authorization: Bearer ${key}`, 'Content-Length: 70000'], 413],
  ]) {
    const wire = new RawClient(s.server.url);
    await wire.connected;
    await wire.send(
      ['POST /v1/chat/completions HTTP/1.1', 'Host: x', 'Expect: 100-continue', ...lines, '', ''].join(
        '\r\n',
      ),
    );
    assert.equal((await wire.response({ method: 'POST' })).status, status);
    assert.ok(await wire.closes(), 'the body that was not read would be taken for a request');
    wire.destroy();
  }
});

test('a path cannot climb or hide', async () => {
  for (const path of [
    '/v1/../metrics',
    '/v1/%2e%2e/metrics',
    '//v1/models',
    '/v1//models',
    '/v1/models%00',
    '/%76%31/models/../..',
  ]) {
    const { responses } = await talk(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\n\r\n`,
    );
    assert.ok(
      [400, 404].includes(responses[0].status),
      `${path}: ${responses[0].status} ${responses[0].text}`,
    );
  }
});

test('after all of this the server serves', async () => {
  assert.equal((await s.server.chat({ key })).status, 200);
  assert.equal(s.fake.records.filter((r) => JSON.stringify(r.body).includes('smuggled')).length, 0);
});
