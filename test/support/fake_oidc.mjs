// A scriptable OpenID provider: discovery, keys, an authorization endpoint that sends the browser back at once, and
// a token endpoint that checks what a provider must check (client, redirect, code once, PKCE). `provider.lies`
// makes the next ID tokens wrong in one named way.

import http from 'node:http';
import { createHash, createHmac, createPublicKey, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { once } from 'node:events';

const b64 = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const make_keys = () => generateKeyPairSync('rsa', { modulusLength: 2048 });

/** What an ID token can be wrong in; each must be refused. */
export const lies = [
  'wrong_nonce',
  'no_nonce',
  'wrong_audience',
  'wrong_issuer',
  'expired',
  'unsigned',
  'other_key',
  'symmetric',
  'broken_signature',
  'no_subject',
  'unverified_email',
];

export class FakeOidc {
  static async start({ client_id = 'nebula', client_secret = 'oidc secret' } = {}) {
    const provider = new FakeOidc();
    Object.assign(provider, { client_id, client_secret, lies: null, codes: new Map(), journal: [] });
    provider.person = { sub: 'sub-1', email: 'ada@example.com', name: 'Ada', email_verified: true };
    provider.keys = make_keys();
    provider.other_keys = make_keys();
    provider.kid = 'k1';
    provider.server = http.createServer((request, response) => provider.#serve(request, response));
    provider.server.listen(0, '127.0.0.1');
    await once(provider.server, 'listening');
    provider.issuer = `http://127.0.0.1:${provider.server.address().port}`;
    return provider;
  }

  /** A new signing key: clients must fetch the key set again. */
  rotate() {
    this.keys = make_keys();
    this.kid = `k${randomUUID()}`;
  }

  async #serve(request, response) {
    const url = new URL(request.url, this.issuer);
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = new URLSearchParams(Buffer.concat(parts).toString('utf8'));
    this.journal.push({ method: request.method, path: url.pathname, query: url.searchParams, body });
    const answer = (status, value) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (url.pathname === '/.well-known/openid-configuration') return answer(200, this.#metadata());
    if (url.pathname === '/jwks') return answer(200, { keys: [this.#jwk()] });
    if (url.pathname === '/authorize') return this.#authorize(url.searchParams, response);
    if (url.pathname === '/token') return this.#token(request, body, answer);
    if (url.pathname === '/userinfo') return answer(200, this.person);
    return answer(404, { error: 'not_found' });
  }

  #metadata() {
    return {
      issuer: this.issuer,
      authorization_endpoint: `${this.issuer}/authorize`,
      token_endpoint: `${this.issuer}/token`,
      userinfo_endpoint: `${this.issuer}/userinfo`,
      jwks_uri: `${this.issuer}/jwks`,
      response_types_supported: ['code'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
      token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
      code_challenge_methods_supported: ['S256'],
      scopes_supported: ['openid', 'email', 'profile'],
    };
  }

  #jwk() {
    return { ...this.keys.publicKey.export({ format: 'jwk' }), kid: this.kid, use: 'sig', alg: 'RS256' };
  }

  #authorize(query, response) {
    const back = new URL(query.get('redirect_uri'));
    const state = query.get('state');
    if (state !== null) back.searchParams.set('state', state);
    const wrong =
      (query.get('client_id') !== this.client_id && 'unauthorized_client') ||
      (query.get('response_type') !== 'code' && 'unsupported_response_type') ||
      (query.get('code_challenge_method') !== 'S256' && 'invalid_request') ||
      (this.denies && 'access_denied');
    if (wrong) back.searchParams.set('error', wrong);
    else {
      const code = randomUUID();
      this.codes.set(code, {
        redirect_uri: query.get('redirect_uri'),
        challenge: query.get('code_challenge'),
        nonce: query.get('nonce'),
      });
      back.searchParams.set('code', code);
    }
    response.writeHead(302, { location: back.href });
    response.end();
  }

  #token(request, body, answer) {
    const basic = /^Basic (.*)$/.exec(request.headers.authorization ?? '')?.[1];
    const [id, secret] = basic
      ? Buffer.from(basic, 'base64').toString('utf8').split(':').map(decodeURIComponent)
      : [body.get('client_id'), body.get('client_secret')];
    if (id !== this.client_id || secret !== this.client_secret) return answer(401, { error: 'invalid_client' });
    const grant = this.codes.get(body.get('code'));
    this.codes.delete(body.get('code'));
    const challenge = createHash('sha256').update(body.get('code_verifier') ?? '').digest('base64url');
    if (!grant || grant.redirect_uri !== body.get('redirect_uri') || grant.challenge !== challenge)
      return answer(400, { error: 'invalid_grant' });
    return answer(200, {
      access_token: randomUUID(),
      token_type: 'Bearer',
      expires_in: 300,
      id_token: this.id_token(grant.nonce),
    });
  }

  id_token(nonce) {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.issuer, aud: this.client_id, iat: now, exp: now + 300, nonce, ...this.person };
    const header = { alg: 'RS256', typ: 'JWT', kid: this.kid };
    if (this.lies === 'wrong_nonce') claims.nonce = 'another';
    if (this.lies === 'no_nonce') delete claims.nonce;
    if (this.lies === 'wrong_audience') claims.aud = 'somebody else';
    if (this.lies === 'wrong_issuer') claims.iss = 'https://evil.example';
    if (this.lies === 'expired') Object.assign(claims, { iat: now - 7200, exp: now - 3600 });
    if (this.lies === 'no_subject') delete claims.sub;
    if (this.lies === 'unverified_email') claims.email_verified = false;
    if (this.lies === 'unsigned') return `${b64({ alg: 'none', typ: 'JWT' })}.${b64(claims)}.`;
    if (this.lies === 'symmetric') {
      // The public key used as the secret of an HMAC: a reader that lets the token choose takes it.
      const text = `${b64({ ...header, alg: 'HS256' })}.${b64(claims)}`;
      const pem = createPublicKey(this.keys.privateKey).export({ type: 'spki', format: 'pem' });
      return `${text}.${createHmac('sha256', pem).update(text).digest('base64url')}`;
    }
    const text = `${b64(header)}.${b64(claims)}`;
    const key = (this.lies === 'other_key' ? this.other_keys : this.keys).privateKey;
    const signature = sign('RSA-SHA256', Buffer.from(text), key);
    if (this.lies === 'broken_signature') signature[7] ^= 1;
    return `${text}.${signature.toString('base64url')}`;
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
