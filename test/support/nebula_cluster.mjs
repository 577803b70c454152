// Several `nebula serve` on one PostgreSQL database, each reaching it through a network of its own that can be cut.

import { Nebula } from './nebula.mjs';
import { FakeProvider } from './fake_provider.mjs';
import { shared_cluster } from './postgres.mjs';
import { TcpProxy } from './tcp_proxy.mjs';

let serial = 0;

export class NebulaCluster {
  /**
   * Options of Nebula.start and `nodes` (4); `proxied: true` puts a TcpProxy before each node's database connection;
   * `at_once: true` starts all on an empty database at the same time; `node`: the section of that name; `fake`:
   * options of the provider.
   */
  static async start({ nodes = 4, proxied = false, at_once = false, node, fake, sections, ...options } = {}) {
    const all = new NebulaCluster();
    serial += 1;
    all.nodes = [];
    all.proxies = [];
    all.cluster = await shared_cluster();
    all.database = `nebula_nodes_${process.pid}_${serial}`;
    all.direct_url = await all.cluster.create_database(all.database);
    all.fake = await FakeProvider.start(fake);
    try {
      for (let i = 0; i < nodes; i += 1) {
        const proxy = proxied ? await TcpProxy.start({ path: `${all.cluster.dir}/.s.PGSQL.5432` }) : null;
        if (proxy) all.proxies.push(proxy);
        const server = await Nebula.start({
          upstream: all.fake,
          ...options,
          engine: 'postgres',
          store_url: proxy ? all.url_through(proxy) : all.direct_url,
          database: all.database,
          cluster: all.cluster,
          sections: { ...sections, ...(node ? { node } : {}) },
          start: false,
        });
        all.nodes.push(server);
        if (!at_once) await server.launch();
      }
      if (at_once) await Promise.all(all.nodes.map((server) => server.launch()));
    } catch (error) {
      await all.close();
      throw error;
    }
    return all;
  }

  url_through(proxy) {
    return `postgres://${this.cluster.user}@127.0.0.1:${proxy.port}/${this.database}?sslmode=disable&gssencmode=disable`;
  }

  get first() {
    return this.nodes[0];
  }
  /** Nodes that run now. */
  get running() {
    return this.nodes.filter((node) => node.child && !node.exit);
  }

  sql(text) {
    return this.cluster.sql(this.database, text);
  }

  async close() {
    await Promise.all(this.nodes.map((node) => node.remove()));
    await Promise.all(this.proxies.map((proxy) => proxy.stop()));
    await this.fake.stop();
    await this.cluster.drop_database(this.database);
  }
}
