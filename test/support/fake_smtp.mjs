// A small mail server: takes what is sent to it, keeps it, and can refuse, delay or ask for a password. Journeys
// read the links out of the messages as a person would.

import net from 'node:net';
import { once } from 'node:events';
import { eventually } from './wait.mjs';

const lines_end = /\r\n/;

function unfold(head) {
  const headers = {};
  for (const line of head.replace(/\r\n[ \t]+/g, ' ').split(lines_end)) {
    const colon = line.indexOf(':');
    if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return headers;
}

function decode_body(text, encoding = '') {
  if (/^base64$/i.test(encoding)) return Buffer.from(text, 'base64').toString('utf8');
  if (!/^quoted-printable$/i.test(encoding)) return Buffer.from(text, 'latin1').toString('utf8');
  const bytes = text
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** `=?utf-8?B?…?=` and `=?utf-8?Q?…?=` of a header. */
function decode_words(text) {
  return text.replace(/=\?utf-8\?([bq])\?([^?]*)\?=\s*/gi, (_, kind, value) =>
    /b/i.test(kind) ? decode_body(value, 'base64') : decode_body(value.replace(/_/g, ' '), 'quoted-printable'),
  );
}

export class FakeSmtp {
  /**
   * `username`, `password`: then AUTH PLAIN is demanded. `server.refuse = (recipient) => '550 no such user'` refuses;
   * `server.hold()` keeps further messages unanswered until `server.release()`.
   */
  static async start({ username, password } = {}) {
    const server = new FakeSmtp();
    server.credentials = username === undefined ? null : { username, password };
    server.messages = [];
    server.refused = 0;
    server.refuse = null;
    server.sockets = new Set();
    server.listener = net.createServer((socket) => server.#serve(socket));
    server.listener.listen(0, '127.0.0.1');
    await once(server.listener, 'listening');
    server.port = server.listener.address().port;
    server.address = `smtp://127.0.0.1:${server.port}`;
    return server;
  }

  hold() {
    this.held ??= {};
    this.held.promise ??= new Promise((resolve) => {
      this.held.resolve = resolve;
    });
  }
  release() {
    this.held?.resolve();
    this.held = undefined;
  }

  async #serve(socket) {
    this.sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.sockets.delete(socket));
    const say = (line) => socket.write(`${line}\r\n`);
    const state = { from: null, to: [], signed_in: !this.credentials, user: null };
    let buffer = '';
    let in_data = false;
    let waits_for_plain = false;
    const check_plain = (word) => {
      const [, user, pass] = Buffer.from(word, 'base64').toString('utf8').split('\0');
      state.signed_in = user === this.credentials?.username && pass === this.credentials?.password;
      state.user = user;
      say(state.signed_in ? '235 welcome' : '535 wrong user name or password');
    };
    const command = (line) => {
      const [verb] = line.toUpperCase().split(' ', 1);
      if (waits_for_plain) {
        waits_for_plain = false;
        check_plain(line);
      } else if (verb === 'EHLO') {
        say('250-fake');
        if (this.credentials) say('250-AUTH PLAIN');
        say('250-8BITMIME');
        say('250 SMTPUTF8');
      } else if (verb === 'HELO') say('250 fake');
      else if (verb === 'AUTH') {
        const [, kind, word] = line.split(' ');
        if (!/^plain$/i.test(kind ?? '')) say('504 only PLAIN');
        else if (word && word !== '=') check_plain(word);
        else {
          waits_for_plain = true;
          say('334 ');
        }
      } else if (!state.signed_in && ['MAIL', 'RCPT', 'DATA'].includes(verb)) say('530 authentication required');
      else if (verb === 'MAIL') {
        state.from = /<([^>]*)>/.exec(line)?.[1] ?? '';
        state.to = [];
        say('250 fine');
      } else if (verb === 'RCPT') {
        const recipient = /<([^>]*)>/.exec(line)?.[1] ?? '';
        const why = this.refuse?.(recipient);
        if (why) {
          this.refused += 1;
          say(why);
        } else {
          state.to.push(recipient);
          say('250 fine');
        }
      } else if (verb === 'DATA') {
        if (state.to.length === 0) say('503 to whom?');
        else {
          in_data = true;
          say('354 go on');
        }
      } else if (verb === 'RSET' || verb === 'NOOP') say('250 fine');
      else if (verb === 'QUIT') {
        say('221 bye');
        socket.end();
      } else say('502 what?');
    };
    socket.on('data', async (bytes) => {
      buffer += bytes.toString('latin1');
      for (;;) {
        if (in_data) {
          const end = buffer.startsWith('.\r\n') ? 0 : buffer.indexOf('\r\n.\r\n');
          if (end < 0) return;
          const raw = buffer.slice(0, end).replace(/(^|\r\n)\.\./g, '$1.');
          buffer = buffer.slice(end === 0 ? 3 : end + 5);
          in_data = false;
          await this.held?.promise;
          this.#keep(state, raw);
          say('250 taken');
          continue;
        }
        const end = buffer.indexOf('\r\n');
        if (end < 0) return;
        const line = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        command(line);
      }
    });
    say('220 fake mail server');
  }

  #keep(state, raw) {
    const gap = raw.indexOf('\r\n\r\n');
    const headers = unfold(gap < 0 ? raw : raw.slice(0, gap));
    const text = decode_body(gap < 0 ? '' : raw.slice(gap + 4), headers['content-transfer-encoding']);
    const subject = decode_words(headers.subject ?? '');
    this.messages.push({ from: state.from, to: state.to, user: state.user, headers, subject, text, raw });
  }

  to(recipient) {
    return this.messages.filter((m) => m.to.includes(recipient));
  }

  /** The newest message to this address, beyond the first `after` ones. */
  async mail_to(recipient, { after = 0, within_ms = 10000 } = {}) {
    return eventually(`a mail to ${recipient}`, () => this.to(recipient)[after] && this.to(recipient).at(-1), {
      within_ms,
    });
  }

  async stop() {
    this.release();
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.listener.close(resolve));
  }
}

/** The first link in a text whose path or fragment contains the word. */
export function link_in(text, word = '') {
  return (text.match(/https?:\/\/[^\s"'<>\\]+/g) ?? []).find((link) => link.includes(word));
}
