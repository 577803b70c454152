// The stand-ins for mail, single sign-on and the network behave as what they stand for: a journey that relies on a
// wrong stand-in proves nothing.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import { createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { once } from 'node:events';
import { FakeSmtp, link_in } from './fake_smtp.mjs';
import { FakeOidc, lies } from './fake_oidc.mjs';
import { Browser, fetch_raw, token_of, totp_code } from './session.mjs';
import { TcpProxy } from './tcp_proxy.mjs';
import { eventually } from './wait.mjs';

async function dialogue(port, lines) {
  const socket = net.connect(port, '127.0.0.1');
  let heard = '';
  socket.on('data', (b) => {
    heard += b;
  });
  await once(socket, 'connect');
  socket.write(lines.join('\r\n') + '\r\n');
  await once(socket, 'close');
  return heard;
}

test('a mail is taken, decoded, and its link is found', async () => {
  const smtp = await FakeSmtp.start({ username: 'u', password: 'p' });
  const plain = Buffer.from('\0u\0p').toString('base64');
  const heard = await dialogue(smtp.port, [
    'EHLO me',
    `AUTH PLAIN ${plain}`,
    'MAIL FROM:<a@example.com>',
    'RCPT TO:<b@example.com>',
    'DATA',
    'Subject: =?utf-8?B?R3LDvMOfZQ==?=',
    'Content-Transfer-Encoding: quoted-printable',
    '',
    'Gr=C3=BC=C3=9Fe https://x.example/verify?token=3Dab=',
    'cd now',
    '..dot',
    '.',
    'QUIT',
  ]);
  assert.match(heard, /235 .*250 taken\r\n221/s);
  const mail = await smtp.mail_to('b@example.com');
  assert.equal(mail.subject, 'Grüße');
  assert.equal(mail.text, 'Grüße https://x.example/verify?token=abcd now\r\n.dot');
  assert.equal(token_of(link_in(mail.text, 'verify')), 'abcd');
  assert.match(await dialogue(smtp.port, ['EHLO me', 'MAIL FROM:<a@example.com>', 'QUIT']), /530/);
  smtp.refuse = () => '550 nobody';
  assert.match(
    await dialogue(smtp.port, ['EHLO me', `AUTH PLAIN ${plain}`, 'MAIL FROM:<a@b>', 'RCPT TO:<x@y>', 'QUIT']),
    /550 nobody/,
  );
  await smtp.stop();
});

test('the identity provider checks codes and PKCE, and its tokens are right until it is told to lie', async () => {
  const oidc = await FakeOidc.start({ client_id: 'c', client_secret: 's' });
  const verifier = randomBytes(32).toString('base64url');
  const challenge = createHash('sha256').update(verifier).digest('base64url');
  const ask = async (given) => {
    const query = new URLSearchParams({
      client_id: 'c',
      response_type: 'code',
      redirect_uri: 'http://127.0.0.1:1/back',
      state: 'st',
      nonce: 'n',
      code_challenge: challenge,
      code_challenge_method: 'S256',
    });
    const sent = await fetch_raw(oidc.issuer, { path: `/authorize?${query}` });
    assert.equal(sent.status, 302);
    const back = new URL(sent.headers.location);
    assert.equal(back.searchParams.get('state'), 'st');
    const form = new URLSearchParams({
      grant_type: 'authorization_code',
      code: back.searchParams.get('code'),
      redirect_uri: 'http://127.0.0.1:1/back',
      client_id: 'c',
      client_secret: 's',
      code_verifier: given,
    });
    return new Browser(oidc.issuer).request('POST', '/token', { form: Object.fromEntries(form) });
  };
  assert.equal((await ask('another')).status, 400);
  const read = (token) => token.split('.').map((part, i) => (i < 2 ? JSON.parse(Buffer.from(part, 'base64url')) : part));
  const { keys } = (await fetch_raw(oidc.issuer, { path: '/jwks' })).json();
  const is_signed = (token) => {
    const at = token.lastIndexOf('.');
    const signature = Buffer.from(token.slice(at + 1), 'base64url');
    const key = createPublicKey({ key: keys[0], format: 'jwk' });
    return verify('RSA-SHA256', Buffer.from(token.slice(0, at)), key, signature);
  };
  const right = (await ask(verifier)).json().id_token;
  assert.ok(is_signed(right));
  const [, claims] = read(right);
  assert.deepEqual([claims.iss, claims.aud, claims.nonce], [oidc.issuer, 'c', 'n']);
  for (const lie of lies) {
    oidc.lies = lie;
    const token = (await ask(verifier)).json().id_token;
    const [header, told] = read(token);
    const as_right = header.alg === 'RS256' && is_signed(token);
    const same = ['iss', 'aud', 'nonce', 'sub', 'email_verified'].every((name) => told[name] === claims[name]);
    assert.ok(!as_right || !same || told.exp * 1000 < Date.now(), lie);
  }
  await oidc.stop();
});

test('a cut network resets, a stalled one is silent and gives late what was sent', async () => {
  const echo = net.createServer((socket) => socket.pipe(socket).on('error', () => {}));
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const proxy = await TcpProxy.start({ host: '127.0.0.1', port: echo.address().port });
  const open = async () => {
    const socket = net.connect(proxy.port, '127.0.0.1');
    socket.heard = '';
    socket.on('data', (b) => {
      socket.heard += b;
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      socket.is_closed = true;
    });
    await once(socket, 'connect');
    return socket;
  };
  const one = await open();
  one.write('a');
  await eventually('an echo', () => one.heard === 'a');
  proxy.stall();
  one.write('b');
  const two = await open();
  two.write('c');
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([one.heard, two.heard], ['a', '']);
  proxy.restore();
  await eventually('what was sent meanwhile', () => one.heard === 'ab' && two.heard === 'c');
  proxy.cut();
  await eventually('both are reset', () => one.is_closed && two.is_closed);
  const three = net.connect(proxy.port, '127.0.0.1').on('error', () => {});
  await new Promise((resolve) => three.once('close', resolve));
  proxy.restore();
  const four = await open();
  four.write('d');
  await eventually('an echo after the cut', () => four.heard === 'd');
  four.destroy();
  await proxy.stop();
  echo.close();
});

test('codes of the second factor are those of RFC 6238', () => {
  // The table of its appendix B for SHA-1, last six digits.
  const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';
  for (const [seconds, code] of [
    [59, '287082'],
    [1111111109, '081804'],
    [20000000000, '353130'],
  ])
    assert.equal(totp_code(secret, 0, seconds * 1000), code);
});
