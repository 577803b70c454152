// An HTTP/1.1 client that shows exactly what is on the wire: whether a body ended as its framing says,
// whether the server closed, and every response that came on one connection. Needed wherever a correct client
// hides it.

import net from 'node:net';
import tls from 'node:tls';

/** `http://127.0.0.1:80` as the options of net.connect / tls.connect. */
export function address_of(url) {
  const u = new URL(url);
  return { host: u.hostname, port: Number(u.port), secure: u.protocol === 'https:' };
}

export class RawClient {
  constructor(url, { tls_options, paused = false } = {}) {
    const { host, port, secure } = address_of(url);
    this.received = Buffer.alloc(0);
    this.parts = [];
    this.ended = false;
    this.socket = secure ? tls.connect({ host, port, ...tls_options }) : net.connect({ host, port });
    this.socket.setNoDelay(true);
    this.waiters = [];
    const poke = () => this.waiters.splice(0).forEach((wake) => wake());
    if (!paused)
      this.socket.on('data', (b) => {
        this.parts.push(b);
        poke();
      });
    this.closed = new Promise((resolve) => {
      this.socket.once('close', () => {
        this.ended = true;
        poke();
        resolve();
      });
    });
    this.socket.once('end', () => {
      this.ended = true;
      poke();
    });
    this.socket.on('error', (e) => {
      this.error = e;
    });
    this.connected = new Promise((resolve) => {
      this.socket.once(secure ? 'secureConnect' : 'connect', resolve);
      this.socket.once('close', resolve);
    });
  }

  send(bytes) {
    return new Promise((resolve) => {
      this.socket.write(bytes, () => resolve());
    });
  }

  get bytes() {
    if (this.parts.length > 0) this.received = Buffer.concat([this.received, ...this.parts.splice(0)]);
    return this.received;
  }

  /** Waits for the next bytes, the end, or the time limit. */
  async step(ms) {
    let timer;
    const waited = new Promise((resolve) => {
      this.waiters.push(resolve);
    });
    const limit = new Promise((resolve) => {
      timer = setTimeout(resolve, ms, 'late');
    });
    const which = await Promise.race([waited, limit]);
    clearTimeout(timer);
    return which !== 'late';
  }

  /** The next response of this connection (1xx ones too); `complete` tells whether its body ended as declared. */
  async response({ method = 'GET', within_ms = 10000 } = {}) {
    const until = performance.now() + within_ms;
    for (;;) {
      const parsed = parse_response(this.bytes, { method, ended: this.ended });
      if (parsed && (parsed.complete || this.ended)) {
        this.received = this.bytes.subarray(parsed.consumed);
        return parsed;
      }
      if (this.ended) return null;
      const left = until - performance.now();
      if (left <= 0 || !(await this.step(left))) {
        if (performance.now() >= until) throw new Error(`no response in ${within_ms} ms: ${this.bytes}`);
      }
    }
  }

  /** The head alone, as soon as it is there. */
  async head({ within_ms = 10000 } = {}) {
    const until = performance.now() + within_ms;
    for (;;) {
      const head = parse_head(this.bytes);
      if (head) return head;
      if (this.ended) return null;
      if (!(await this.step(Math.max(1, until - performance.now()))))
        throw new Error(`no head in ${within_ms} ms`);
    }
  }

  /** Waits until the bytes received so far satisfy the predicate. */
  async until(predicate, { within_ms = 10000 } = {}) {
    const end = performance.now() + within_ms;
    while (!predicate(this.bytes)) {
      if (this.ended || !(await this.step(Math.max(1, end - performance.now())))) return false;
    }
    return true;
  }

  /** True when the server closes within the limit. */
  async closes(within_ms = 5000) {
    const until = performance.now() + within_ms;
    while (!this.ended) {
      const left = until - performance.now();
      if (left <= 0) return false;
      await this.step(left);
    }
    return true;
  }

  destroy() {
    this.socket.destroy();
  }
}

function parse_head(bytes) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const lines = bytes.subarray(0, end).toString('latin1').split('\r\n');
  const match = /^HTTP\/1\.([01]) (\d{3}) ?(.*)$/.exec(lines[0]);
  if (!match) throw new Error(`not a status line: ${JSON.stringify(lines[0])}`);
  const headers = {};
  for (const line of lines.slice(1)) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return { status: Number(match[2]), reason: match[3], version: `1.${match[1]}`, headers, length: end + 4 };
}

/** Strict chunked decoder. */
function dechunk(bytes) {
  const parts = [];
  let at = 0;
  for (;;) {
    const eol = bytes.indexOf('\r\n', at);
    if (eol < 0) return { body: Buffer.concat(parts), done: false, used: at };
    const size_text = bytes.subarray(at, eol).toString('latin1');
    if (!/^[0-9a-fA-F]+$/.test(size_text)) throw new Error(`bad chunk size ${JSON.stringify(size_text)}`);
    const size = parseInt(size_text, 16);
    const start = eol + 2;
    if (size === 0) {
      const done = bytes.length >= start + 2;
      return { body: Buffer.concat(parts), done, used: start + 2 };
    }
    parts.push(bytes.subarray(start, Math.min(start + size, bytes.length)));
    if (bytes.length < start + size + 2)
      return { body: Buffer.concat(parts), done: false, used: bytes.length };
    at = start + size + 2;
  }
}

export function parse_response(bytes, { method = 'GET', ended = false } = {}) {
  const head = parse_head(bytes);
  if (!head) return null;
  const rest = bytes.subarray(head.length);
  const out = { ...head, framing: 'none', body: Buffer.alloc(0), complete: true, consumed: head.length };
  if (head.status < 200 || head.status === 204 || head.status === 304 || method === 'HEAD') {
    // no body by definition
  } else if (head.headers['transfer-encoding'] === 'chunked') {
    const { body, done, used } = dechunk(rest);
    Object.assign(out, { framing: 'chunked', body, complete: done, consumed: head.length + used });
  } else if (head.headers['content-length'] !== undefined) {
    const length = Number(head.headers['content-length']);
    const body = rest.subarray(0, length);
    Object.assign(out, {
      framing: 'length',
      body,
      complete: body.length === length,
      consumed: head.length + body.length,
    });
  } else Object.assign(out, { framing: 'close', body: rest, complete: ended, consumed: bytes.length });
  Object.defineProperty(out, 'text', {
    get() {
      return this.body.toString('utf8');
    },
  });
  out.json = () => JSON.parse(out.body.toString('utf8'));
  return out;
}

/** The `data:` payloads of an event stream, in order. */
export function events_of(text) {
  return text.split(/\r?\n\r?\n/).flatMap((frame) => {
    const lines = frame
      .split(/\r?\n/)
      .filter((l) => l.startsWith('data:'))
      .map((l) => l.slice(5).trimStart());
    return lines.length > 0 ? [lines.join('\n')] : [];
  });
}

export function request_bytes({ method = 'POST', path = '/v1/chat/completions', key, body, headers = {} }) {
  const payload =
    body === undefined ? '' : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const all = {
    host: 'nebula.test',
    ...(key ? { authorization: `Bearer ${key}` } : {}),
    ...(body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
    ...headers,
  };
  const lines = Object.entries(all)
    .filter(([, v]) => v !== null)
    .map(([k, v]) => `${k}: ${v}`);
  return Buffer.concat([
    Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'),
    Buffer.from(payload),
  ]);
}

/** One request on its own connection; the connection is closed afterwards. `closed` = the server closed first. */
export async function call(url, request = {}) {
  const client = new RawClient(url, { tls_options: request.tls_options });
  try {
    await client.connected;
    if (client.error) throw client.error;
    await client.send(request_bytes(request));
    const response = await client.response({
      method: request.method ?? 'POST',
      within_ms: request.within_ms ?? 20000,
    });
    if (!response)
      return { status: 0, headers: {}, body: Buffer.alloc(0), text: '', complete: false, closed: true };
    response.events = () => events_of(response.text);
    response.closed = client.ended || !response.complete;
    return response;
  } finally {
    client.destroy();
  }
}
