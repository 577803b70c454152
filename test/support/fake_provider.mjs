// A scriptable upstream over raw sockets, so that it can misbehave in every way that a real one does. The path
// of a request chooses the API that it speaks (fake_wires.mjs). It keeps a journal: one entry per response, with
// what it reported and whether it was sent whole. Run it alone with `node fake_provider.mjs --port 0 --journal FILE`.
//
// What a request gets is decided by, in this order: the first entry of `provider.queue`; the first rule of
// `provider.rules` that returns a script; the last message when its text begins with `fake:`
// (`fake:cut_mid_body after=2`); the model when it begins with `fake/` (`fake/ok?frames=3`); the plain
// correct answer.

import net from 'node:net';
import tls from 'node:tls';
import fs from 'node:fs';
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { once } from 'node:events';
import { scripts } from './fake_scripts.mjs';
import { wire_of } from './fake_wires.mjs';

const value_of = (text) => {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d+$/.test(text) ? Number(text) : text;
};

/** `cut_mid_body after=2 how=rst` (any of space, `?`, `&` between the parts) as a script object. */
export function parse_script(text) {
  const [kind, ...rest] = text.split(/[\s?&]+/).filter(Boolean);
  const out = { kind };
  for (const part of rest) {
    const [name, ...value] = part.split('=');
    out[name] = value_of(value.join('='));
  }
  return out;
}

class Closed extends Error {}

/** Reads requests from one connection, byte for byte. */
class RequestReader {
  constructor(socket) {
    this.socket = socket;
    this.buffer = Buffer.alloc(0);
    this.ended = false;
    this.wake = null;
    const poke = () => {
      const w = this.wake;
      this.wake = null;
      w?.();
    };
    socket.on('data', (bytes) => {
      this.buffer = Buffer.concat([this.buffer, bytes]);
      poke();
    });
    socket.on('end', () => {
      this.ended = true;
      poke();
    });
    socket.on('close', () => {
      this.ended = true;
      poke();
    });
    socket.on('error', () => {});
  }

  async more() {
    if (this.ended) throw new Closed('connection ended');
    await new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  async take(n) {
    while (this.buffer.length < n) await this.more();
    const out = this.buffer.subarray(0, n);
    this.buffer = this.buffer.subarray(n);
    return out;
  }

  async until(mark) {
    let at;
    while ((at = this.buffer.indexOf(mark)) < 0) await this.more();
    return (await this.take(at + mark.length)).subarray(0, at);
  }

  async next() {
    const head = (await this.until('\r\n\r\n')).toString('latin1').split('\r\n');
    const [method, target] = head[0].split(' ');
    const headers = {};
    for (const line of head.slice(1)) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    let body = Buffer.alloc(0);
    if (headers['transfer-encoding']) {
      const parts = [];
      for (;;) {
        const size = parseInt((await this.until('\r\n')).toString(), 16);
        parts.push(await this.take(size));
        await this.until('\r\n');
        if (size === 0) break;
      }
      body = Buffer.concat(parts);
    } else if (headers['content-length'])
      body = Buffer.from(await this.take(Number(headers['content-length'])));
    return { method, target, headers, head, body };
  }
}

/** One request and the answer being written to it. Scripts see only this. */
class Exchange {
  constructor(provider, socket, request, record, options, wire) {
    Object.assign(this, { provider, socket, request, record, options, wire });
    this.framing = 'close';
    this.hash = createHash('sha256');
    this.trimmed = createHash('sha256');
    this.finished = false;
  }

  raw(bytes) {
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed) return reject(new Closed('peer left'));
      this.socket.write(bytes, (e) => (e ? reject(new Closed(e.message)) : resolve()));
    });
  }

  async head(status, headers, { framing, length } = {}) {
    this.framing = framing ?? 'close';
    this.record.status = status;
    this.pending_head = [
      `HTTP/1.1 ${status} ${status === 200 ? 'OK' : 'Fake'}`,
      'server: fake',
      ...Object.entries(headers).map(([k, v]) => `${k}: ${v}`),
    ];
    if (this.framing === 'chunked') this.pending_head.push('transfer-encoding: chunked');
    if (this.framing === 'length' && length !== undefined)
      this.pending_head.push(`content-length: ${length}`);
    if (this.framing === 'close') this.pending_head.push('connection: close');
    if (this.framing !== 'length' || length !== undefined) await this.flush_head();
  }

  /** Length of a stream that is sent with content-length; the head waits for it. */
  declare(length) {
    this.pending_head.push(`content-length: ${length}`);
  }

  async flush_head() {
    if (!this.pending_head) return;
    const text = this.pending_head.join('\r\n') + '\r\n\r\n';
    this.pending_head = null;
    await this.raw(text);
  }

  async write(bytes, { trimmed = false } = {}) {
    await this.flush_head();
    if (bytes.length === 0) return;
    this.hash.update(bytes);
    if (!trimmed) this.trimmed.update(bytes);
    this.record.bytes += bytes.length;
    if (this.framing === 'chunked') {
      await this.raw(
        Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]),
      );
    } else await this.raw(bytes);
  }

  async end() {
    await this.flush_head();
    // The journal says "whole" before the last bytes leave, so that nobody can hold a whole response which
    // the journal does not know; it is taken back when the write fails.
    this.finished = true;
    this.record.whole = true;
    this.provider.journal_line(this.record);
    if (this.framing === 'chunked') await this.raw('0\r\n\r\n');
    if (this.framing === 'close') this.socket.end();
  }

  async cut() {
    this.finished = true;
    this.record.cut = true;
    // Over TLS an unclean end is one without the closing alert.
    if (this.options.how === 'rst') this.provider.tls ? this.socket.destroy() : this.socket.resetAndDestroy();
    else this.socket.destroySoon();
  }

  /** Waits until the test opens the gate, or the peer leaves. */
  async gate(name) {
    const gate = this.provider.gate(name);
    gate.arrived += 1;
    gate.arrivals.splice(0).forEach((wake) => wake());
    await Promise.race([gate.opened, this.record.closed]);
    if (this.socket.destroyed) throw new Closed('peer left at a gate');
  }

  async forever() {
    await this.record.closed;
    throw new Closed('peer left a stalled answer');
  }
}

export class FakeProvider {
  constructor({ journal_file, tls_options, models } = {}) {
    this.queue = [];
    this.rules = [];
    this.records = [];
    this.gates = new Map();
    this.sockets = new Set();
    this.connections = 0;
    this.serial = 0;
    this.prefix = `r${process.pid.toString(36)}`;
    this.models = models ?? ['fake/ok'];
    this.lists = new Map(); // answers to GET by path, instead of the list of `models`
    this.gets = []; // every GET that came
    this.journal_fd = journal_file ? fs.openSync(journal_file, 'a') : null;
    const accept = (socket) => this.#serve(socket);
    this.tls = Boolean(tls_options);
    this.server = tls_options
      ? tls.createServer(tls_options, accept)
      : net.createServer({ allowHalfOpen: true }, accept);
    this.server.on('tlsClientError', () => {});
  }

  static async start(options = {}) {
    const provider = new FakeProvider(options);
    provider.server.listen({ host: '127.0.0.1', port: options.port ?? 0, backlog: 4096 });
    await once(provider.server, 'listening');
    provider.port = provider.server.address().port;
    provider.base_url = `${provider.tls ? 'https' : 'http'}://${options.host ?? '127.0.0.1'}:${provider.port}/v1`;
    return provider;
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy();
    if (this.server.listening) {
      this.server.close();
      await once(this.server, 'close');
    }
    if (this.journal_fd !== null) fs.closeSync(this.journal_fd);
    this.journal_fd = null;
  }

  gate(name) {
    let gate = this.gates.get(name);
    if (!gate) {
      gate = { arrived: 0, arrivals: [] };
      gate.opened = new Promise((resolve) => {
        gate.open = resolve;
      });
      this.gates.set(name, gate);
    }
    return gate;
  }

  /** Lets every request pass that waits at this gate or will come to it. */
  open(name) {
    this.gate(name).open();
  }

  /** Resolves when `count` requests have come to the gate. */
  async reached(name, count = 1) {
    const gate = this.gate(name);
    while (gate.arrived < count) await new Promise((resolve) => gate.arrivals.push(resolve));
  }

  journal_line(record) {
    if (this.journal_fd === null) return;
    const { id, model, status, stream, whole, usage } = record;
    fs.writeSync(this.journal_fd, `${JSON.stringify({ id, model, status, stream, whole, usage })}\n`);
  }

  /** Chat requests only, oldest first. */
  get chats() {
    return this.records;
  }
  get last() {
    return this.records.at(-1);
  }

  #script_for(request, body, { model, text }) {
    if (this.queue.length > 0) return { ...this.queue.shift() };
    for (const rule of this.rules) {
      const script = rule({ request, body });
      if (script) return { ...script };
    }
    if (typeof text === 'string' && text.startsWith('fake:')) return parse_script(text.slice(5));
    if (typeof model === 'string' && model.startsWith('fake/')) return parse_script(model.slice(5));
    return { kind: 'ok' };
  }

  async #serve(socket) {
    this.connections += 1;
    this.sockets.add(socket);
    socket.setNoDelay(true);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    closed.then(() => this.sockets.delete(socket));
    const reader = new RequestReader(socket);
    // A peer that half-closes has left: a gateway never does that while it still wants the answer.
    socket.once('end', () => socket.destroy());
    try {
      for (;;) {
        const request = await reader.next();
        await this.#answer(socket, request, closed);
        if (socket.destroyed || !socket.writable) return;
      }
    } catch (error) {
      socket.destroy();
      if (!(error instanceof Closed)) throw error;
    }
  }

  async #answer(socket, request, closed) {
    const path = request.target.split('?')[0];
    if (request.method !== 'POST') {
      this.gets.push({ target: request.target, headers: request.headers });
      const list = this.lists.get(path) ?? {
        object: 'list',
        data: this.models.map((id) => ({ id, object: 'model' })),
      };
      const known = this.lists.has(path) || path.endsWith('/v1/models');
      const body = known ? JSON.stringify(list) : '{}';
      socket.write(
        `HTTP/1.1 ${known ? 200 : 404} X\r\ncontent-type: application/json\r\n` +
          `content-length: ${body.length}\r\n\r\n${body}`,
      );
      return;
    }
    let body = null;
    try {
      body = JSON.parse(request.body.toString());
    } catch {
      /* kept as null: the test looks at the bytes */
    }
    this.serial += 1;
    const wire = wire_of(path);
    const asked = await wire.read({ path, body, request });
    const record = {
      id: `chatcmpl-${this.prefix}-${this.serial}`,
      path,
      headers: request.headers,
      head: request.head,
      body,
      body_bytes: request.body,
      model: asked.model,
      stream: asked.stream,
      include_usage: asked.include_usage,
      form: asked.form,
      at: performance.now(),
      status: 0,
      usage: null,
      whole: false,
      cut: false,
      cancelled: false,
      bytes: 0,
      content_frames: 0,
      closed,
    };
    const options = this.#script_for(request, body, asked);
    record.kind = options.kind;
    record.finished = new Promise((resolve) => {
      record.finish = resolve;
    });
    this.records.push(record);
    const x = new Exchange(this, socket, request, record, options, wire);
    const script = scripts[options.kind];
    closed.then(() => {
      if (!x.finished && !record.whole) {
        record.cancelled = true;
        record.cancelled_at = performance.now();
      }
    });
    try {
      if (!script) throw new Error(`fake provider has no script ${options.kind}`);
      await script(x);
    } catch (error) {
      if (error instanceof Closed) record.whole = false;
      throw error;
    } finally {
      record.sha256 = x.hash.digest('hex');
      record.sha256_without_usage = x.trimmed.digest('hex');
      if (!record.whole) this.journal_line(record);
      record.finish(record);
    }
    if (record.cut) await closed;
  }
}

async function main(argv) {
  const option = (name, fallback) => {
    const at = argv.indexOf(`--${name}`);
    return at < 0 ? fallback : argv[at + 1];
  };
  const provider = await FakeProvider.start({
    port: Number(option('port', '0')),
    journal_file: option('journal'),
  });
  process.stdout.write(`${JSON.stringify({ base_url: provider.base_url, port: provider.port })}\n`);
  const leave = () => provider.stop().then(() => process.exit(0));
  process.on('SIGTERM', leave);
  process.on('SIGINT', leave);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
