// A network between two processes that can be cut: connections reset, or silent with everything that is sent to them
// lost in the queue, as behind a dead switch. Stands between a node and its database.

import net from 'node:net';
import { once } from 'node:events';

export class TcpProxy {
  /** `target`: options of net.connect (`{ path }` of a unix socket, or `{ host, port }`). */
  static async start(target) {
    const proxy = new TcpProxy();
    proxy.target = target;
    proxy.mode = 'open';
    proxy.pairs = new Set();
    proxy.server = net.createServer({ pauseOnConnect: true }, (socket) => proxy.#join(socket));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  #join(client) {
    client.setNoDelay(true);
    client.on('error', () => {});
    if (this.mode === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const pair = { client, server: null };
    this.pairs.add(pair);
    client.once('close', () => {
      this.pairs.delete(pair);
      pair.server?.destroy();
    });
    if (this.mode === 'open') this.#connect(pair);
  }

  #connect(pair) {
    const { client } = pair;
    const server = net.connect(this.target);
    pair.server = server;
    server.setNoDelay(true);
    server.on('error', () => client.destroy());
    server.once('close', () => client.destroy());
    client.pipe(server);
    server.pipe(client);
    if (this.mode !== 'open') this.#silence(pair);
  }

  #silence({ client, server }) {
    client.unpipe();
    client.pause();
    server?.unpipe();
    server?.pause();
  }

  /** Every connection is reset, new ones too. */
  cut() {
    this.mode = 'cut';
    for (const { client, server } of [...this.pairs]) {
      client.resetAndDestroy();
      server?.destroy(); // may be a unix socket, which knows no reset
    }
  }

  /** Connections stay open and nothing passes; new ones are taken and hear nothing. */
  stall() {
    this.mode = 'stalled';
    for (const pair of this.pairs) this.#silence(pair);
  }

  /** As before. What was sent while stalled arrives late, as it does in a network. */
  restore() {
    this.mode = 'open';
    for (const pair of this.pairs) {
      if (!pair.server) this.#connect(pair);
      else {
        pair.client.pipe(pair.server);
        pair.server.pipe(pair.client);
      }
    }
  }

  async stop() {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
