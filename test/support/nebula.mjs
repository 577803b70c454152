// Starts, configures, kills and questions the built program. Nothing here knows how it works inside: the
// command line, the HTTP listeners and the configuration file are the whole contract. (The one exception is
// `usage_records` and its neighbour, which look into the server's own database.)

import { spawn, execFile } from 'node:child_process';
import { promisify } from 'node:util';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { shared_cluster } from './postgres.mjs';
import { call } from './raw_http.mjs';
import { eventually, nanos, within } from './wait.mjs';

const run = promisify(execFile);
export const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const nebula_bin = path.resolve(process.env.NEBULA_BIN ?? path.join(repository, 'build/nebula'));
export const prices = { input: '1', output: '2' };

/** Engines a parametrised test runs on; NEBULA_TEST_ENGINES=sqlite narrows it. */
export const engines = (process.env.NEBULA_TEST_ENGINES ?? 'sqlite,postgres').split(',');

const bare = (value) => {
  if (typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(bare).join(', ')}]`;
  if (value && typeof value === 'object') {
    return `{ ${Object.entries(value)
      .map(([k, v]) => `${k} = ${bare(v)}`)
      .join(', ')} }`;
  }
  return `${value}`;
};

/** The TOML text of `{ http: {…}, provider: [{…}], … }`: arrays of objects become `[[table]]`s. */
export function toml(config) {
  const lines = [];
  for (const [name, section] of Object.entries(config)) {
    for (const table of Array.isArray(section) ? section : [section]) {
      lines.push(Array.isArray(section) ? `[[${name}]]` : `[${name}]`);
      for (const [key, value] of Object.entries(table))
        if (value !== undefined) lines.push(`${key} = ${bare(value)}`);
      lines.push('');
    }
  }
  return lines.join('\n');
}

/** A model of the default price, routed to `upstream` at the provider named "fake". */
export function model(id, { upstream = id, provider = 'fake', ...rest } = {}) {
  return {
    id,
    context_length: 32768,
    max_output_tokens: 8192,
    price_input_per_m: prices.input,
    price_output_per_m: prices.output,
    endpoints: ['chat'],
    routes: [{ provider, model: upstream, weight: 1 }],
    ...rest,
  };
}

export function provider(name, base_url, rest = {}) {
  return { name, kind: 'openai', base_url, concurrency_max: 4096, ...rest };
}

let serial = 0;

export class Nebula {
  /**
   * Options: `engine`; `upstream` (a FakeProvider: becomes provider "fake"); `providers`, `models` (defaults: one
   * model "demo/chat:1"); sections `http`, `admin`, `billing`, `limits`, `runtime`, any others in `sections`; `env`;
   * `store_url` (with `database` and `cluster`: a PostgreSQL database that others use too); `start: false`.
   */
  static async start(options = {}) {
    const server = new Nebula();
    serial += 1;
    server.options = options;
    server.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-test-'));
    server.engine = options.engine ?? 'sqlite';
    if (options.store_url) {
      server.store_url = options.store_url;
      server.shared_database = options.database;
      server.cluster = options.cluster;
    } else if (server.engine === 'postgres') {
      server.cluster = await shared_cluster();
      server.database = `nebula_${process.pid}_${serial}`;
      server.store_url = await server.cluster.create_database(server.database);
    } else server.store_url = `sqlite:${path.join(server.dir, 'data/nebula.db')}`;
    fs.mkdirSync(path.join(server.dir, 'models'));
    server.config = server.#default_config(options);
    server.config_file = path.join(server.dir, 'nebula.toml');
    server.cli_config_file = path.join(server.dir, 'cli.toml');
    server.write_config();
    try {
      if (options.start !== false) await server.launch();
    } catch (error) {
      await server.remove();
      throw error;
    }
    return server;
  }

  #default_config(o) {
    const upstream = o.upstream ? [provider('fake', o.upstream.base_url, o.provider)] : [];
    return {
      http: { listen: '127.0.0.1:0', ...o.http },
      admin: { listen: '127.0.0.1:0', ...o.admin },
      store: { url: this.store_url },
      billing: { durability: 'strict', ...o.billing },
      runtime: { models_dir: path.join(this.dir, 'models'), ...o.runtime },
      limits: { key_rpm: 0, key_tpm: 0, account_rpm: 0, account_tpm: 0, ip_rpm: 0, ...o.limits },
      provider: o.providers ?? upstream,
      model: o.models ?? (o.upstream ? [model('demo/chat:1')] : []),
      ...o.sections,
    };
  }

  /** The CLI finds the running server by the addresses it really has. */
  write_config(config = this.config) {
    this.config = config;
    fs.writeFileSync(this.config_file, toml(config));
    const known = {
      ...config,
      http: { ...config.http, listen: this.listens?.api ?? config.http.listen },
      admin: { ...config.admin, listen: this.listens?.admin ?? config.admin.listen },
    };
    fs.writeFileSync(this.cli_config_file, toml(known));
  }

  get env() {
    // A program elsewhere does not find the runner beside itself.
    const elsewhere = process.env.NEBULA_BIN ? { NEBULA_RUNNER_DIR: path.join(repository, 'runtime/runner') } : {};
    return { ...process.env, ...elsewhere, NEBULA_DATA_DIR: path.join(this.dir, 'data'), ...this.options.env };
  }

  async launch({ within_ms = 20000 } = {}) {
    if (!fs.existsSync(nebula_bin))
      throw new Error(`${nebula_bin} is not built (make build, or set NEBULA_BIN)`);
    this.output = '';
    const started = performance.now();
    // The kernel ends the server when this test process dies, whatever kills it.
    this.child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '--', nebula_bin, 'serve', '--config', this.config_file],
      { cwd: this.dir, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.pid = this.child.pid;
    this.exited = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => {
        this.exit = { code, signal };
        resolve(this.exit);
      });
    });
    this.exit = null;
    this.is_ending = false;
    let wake;
    const ready = new Promise((resolve) => {
      wake = resolve;
    });
    this.stdout = '';
    this.child.stdout.on('data', (bytes) => {
      this.stdout += bytes;
      this.output += bytes;
      if (/^ready\b/m.test(this.stdout)) wake();
    });
    this.child.stderr.on('data', (bytes) => {
      this.output += bytes;
    });
    const failed = this.exited.then((e) => {
      throw new Error(`nebula ended before ready (${JSON.stringify(e)}):\n${this.output}`);
    });
    failed.catch(() => {});
    try {
      await within(within_ms, 'nebula prints "ready"', Promise.race([ready, failed]));
    } catch (error) {
      this.child.kill('SIGKILL');
      throw error instanceof Error && error.message.includes(this.output)
        ? error
        : new Error(`${error.message}\n${this.output}`);
    }
    this.ready_ms = performance.now() - started;
    this.url = /^listening on (https?:\/\/\S+)/m.exec(this.stdout)?.[1];
    this.admin_url = /^admin on (https?:\/\/\S+)/m.exec(this.stdout)?.[1];
    if (!this.url || !this.admin_url) throw new Error(`no listener lines before "ready":\n${this.stdout}`);
    this.listens = { api: new URL(this.url).host, admin: new URL(this.admin_url).host };
    this.write_config();
    this.exited.then((exit) => {
      // A server that died by itself fails the test at once, whatever the test is waiting for.
      if (this.is_ending) return;
      const said = `nebula ended by itself: ${JSON.stringify(exit)}\n${this.output.slice(-4000)}`;
      process.nextTick(() => {
        throw new Error(said);
      });
    });
    return this;
  }

  /** SIGTERM; resolves to `{ code, signal, ms }` when it has ended. */
  async stop({ within_ms = 15000 } = {}) {
    const began = performance.now();
    this.is_ending = true;
    this.child.kill('SIGTERM');
    const exit = await within(
      within_ms,
      `nebula ends after SIGTERM\n${this.output.slice(-2000)}`,
      this.exited,
    );
    this.listens = undefined;
    this.write_config();
    return { ...exit, ms: performance.now() - began };
  }

  async kill() {
    this.is_ending = true;
    this.child.kill('SIGKILL');
    await this.exited;
    this.listens = undefined;
    this.write_config();
  }

  /** Ends the server if it runs and removes everything it has written. */
  async remove() {
    if (this.child && !this.exit) {
      this.is_ending = true;
      this.child.kill('SIGKILL');
      await this.exited;
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
    if (this.database) await this.cluster.drop_database(this.database);
  }

  /** Writes a changed configuration and asks the server to take it. */
  reload(change) {
    const next = structuredClone(this.config);
    change?.(next);
    this.write_config(next);
    this.child.kill('SIGHUP');
  }

  /** Runs a subcommand; resolves to `{ code, stdout, stderr }` and never rejects. */
  async cli(...args) {
    try {
      const { stdout, stderr } = await run(nebula_bin, [...args, '--config', this.cli_config_file], {
        cwd: this.dir,
        env: this.env,
        timeout: 30000,
        maxBuffer: 1 << 26,
      });
      return { code: 0, stdout, stderr };
    } catch (error) {
      return { code: error.code, stdout: error.stdout ?? '', stderr: error.stderr ?? `${error}` };
    }
  }

  async cli_json(...args) {
    const { code, stdout, stderr } = await this.cli(...args);
    if (code !== 0) throw new Error(`nebula ${args.join(' ')} exited ${code}: ${stderr}${stdout}`);
    return args.includes('--json') ? JSON.parse(stdout) : stdout;
  }

  async account(name, { credit, rpm, tpm } = {}) {
    const { id } = await this.cli_json('accounts', 'create', name, '--json');
    if (credit !== undefined) await this.cli_json('credits', 'grant', id, credit);
    const { key, id: key_id } = await this.key(id, { rpm, tpm });
    return { id, key, key_id };
  }

  /** Other options are the command's, by name: `{ budget: '1', expires_at, model: ['a'], permission: [] }`. */
  async key(account, { name = 'test', ...options } = {}) {
    const more = Object.entries(options).flatMap(([option, value]) =>
      value === undefined ? [] : [value].flat().flatMap((one) => [`--${option.replaceAll('_', '-')}`, `${one}`]),
    );
    return this.cli_json('keys', 'create', '--account', account, '--name', name, ...more, '--json');
  }

  /** Nano-dollars: `{ available, held }`. */
  async balance(account) {
    const { available, held } = await this.cli_json('credits', 'balance', account, '--json');
    return { available: nanos(available), held: nanos(held) };
  }

  /** The available balance once nothing is held any more. */
  async settled(account, { within_ms = 10000 } = {}) {
    let now;
    await eventually(
      `account ${account} holds nothing`,
      async () => {
        now = await this.balance(account);
        return now.held === 0n;
      },
      { within_ms },
    );
    return now.available;
  }

  /** Fails unless every sum of the ledger is right. */
  async verify_ledger() {
    const { code, stdout, stderr } = await this.cli('ledger', 'verify');
    if (code !== 0) throw new Error(`ledger verify exited ${code}: ${stdout}${stderr}`);
  }

  client(key, options = {}) {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: key, maxRetries: 0, timeout: 20000, ...options });
  }

  call(request) {
    return call(this.url, request);
  }

  /** A chat request with the given last message on a connection of its own. */
  chat({ key, content = 'fake:ok', model: id = 'demo/chat:1', stream, body = {}, ...rest }) {
    return call(this.url, {
      key,
      ...rest,
      body: {
        model: id,
        messages: [{ role: 'user', content }],
        ...(stream ? { stream: true } : {}),
        ...body,
      },
    });
  }

  async metrics_text() {
    const response = await call(this.admin_url, { method: 'GET', path: '/metrics' });
    if (response.status !== 200) throw new Error(`/metrics answered ${response.status}`);
    return response.text;
  }

  /** Sum of all samples whose name matches and whose labels contain the given ones. */
  async metric(name, labels = {}) {
    let sum = 0;
    for (const line of (await this.metrics_text()).split('\n')) {
      const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
      if (!match || !(name instanceof RegExp ? name.test(match[1]) : name === match[1])) continue;
      if (Object.entries(labels).every(([k, v]) => (match[2] ?? '').includes(`${k}="${v}"`)))
        sum += Number(match[3]);
    }
    return sum;
  }

  /** Rows of a query against the server's own database, as arrays of text. */
  async sql(text) {
    if (this.engine === 'postgres') return this.cluster.sql(this.database ?? this.shared_database, text);
    const { stdout } = await run(
      'sqlite3',
      [
        '-batch',
        '-noheader',
        '-separator',
        '\t',
        '-cmd',
        '.timeout 5000',
        path.join(this.dir, 'data/nebula.db'),
        text,
      ],
      { maxBuffer: 1 << 28 },
    );
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t'));
  }

  /** Every metered request of this server, charged or not. */
  async usage_records() {
    const rows = await this.sql(
      'select input_tokens, output_tokens, is_estimated, charge, outcome, model from usage_records',
    );
    return rows.map(([input, output, estimated, charge, outcome, model_id]) => ({
      prompt_tokens: Number(input),
      completion_tokens: Number(output),
      estimated: estimated === '1',
      charge: BigInt(charge),
      outcome,
      model: model_id,
    }));
  }

  /** Makes one balance of the ledger wrong, as a damaged or edited database would be. */
  async tamper_with_ledger() {
    await this.sql("update ledger_accounts set balance = balance + 1 where kind = 'revenue'");
  }

  /** Resident memory in bytes. */
  rss() {
    const text = fs.readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)[1]) * 1024;
  }

  /** Process ids of all descendants. */
  descendants() {
    const parents = new Map();
    for (const name of fs.readdirSync('/proc').filter((n) => /^\d+$/.test(n))) {
      try {
        const stat = fs.readFileSync(`/proc/${name}/stat`, 'utf8');
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
        parents.set(Number(name), parent);
      } catch {
        /* it ended meanwhile */
      }
    }
    const found = [];
    const visit = (pid) => {
      for (const [child, parent] of parents)
        if (parent === pid) {
          found.push(child);
          visit(child);
        }
    };
    visit(this.pid);
    return found;
  }
}
