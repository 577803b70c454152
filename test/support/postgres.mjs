// A private PostgreSQL on a unix socket in a temporary directory: one cluster per run, one database per
// server. The runner (run.mjs) starts the cluster and hands its socket directory on in NEBULA_TEST_PG; a test
// file that is run alone starts its own.

import { spawn, execFile } from 'node:child_process';
import { promisify } from 'node:util';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually } from './wait.mjs';

const run = promisify(execFile);
const is_root = process.getuid() === 0;

function bin_dir() {
  const base = '/usr/lib/postgresql';
  const version = fs.existsSync(base)
    ? fs
        .readdirSync(base)
        .filter((v) => /^\d+$/.test(v))
        .sort((a, b) => b - a)[0]
    : undefined;
  if (!version) throw new Error(`PostgreSQL is not installed under ${base}`);
  return path.join(base, version, 'bin');
}

/** The server refuses to run as root; setpriv becomes its own user without another process in between. */
const as_postgres = () => (is_root ? ['--reuid=postgres', '--regid=postgres', '--init-groups'] : []);

export class Cluster {
  static async start({ fsync = false } = {}) {
    const cluster = new Cluster();
    cluster.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-pg-'));
    cluster.user = is_root ? 'postgres' : os.userInfo().username;
    const data = path.join(cluster.dir, 'data');
    if (is_root) {
      const { stdout } = await run('id', ['-u', 'postgres']);
      fs.chownSync(cluster.dir, Number(stdout), 0);
    }
    const bin = bin_dir();
    await run(
      'setpriv',
      [
        ...as_postgres(),
        '--',
        path.join(bin, 'initdb'),
        '-D',
        data,
        '-U',
        cluster.user,
        '--auth=trust',
        '--no-sync',
        '-E',
        'UTF8',
        '--locale=C',
      ],
      { cwd: '/' },
    );
    const settings = {
      listen_addresses: '',
      unix_socket_directories: cluster.dir,
      max_connections: '200',
      fsync: fsync ? 'on' : 'off',
      full_page_writes: fsync ? 'on' : 'off',
      shared_buffers: '32MB',
      log_min_messages: 'fatal',
    };
    // The kernel ends the server when this process dies, whatever kills it.
    cluster.child = spawn(
      'setpriv',
      [
        ...as_postgres(),
        '--pdeathsig',
        'QUIT',
        '--',
        path.join(bin, 'postgres'),
        '-D',
        data,
        ...Object.entries(settings).flatMap(([k, v]) => ['-c', `${k}=${v}`]),
      ],
      { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] },
    );
    cluster.log = '';
    cluster.child.stderr.on('data', (b) => {
      cluster.log += b;
    });
    cluster.exited = new Promise((resolve) => cluster.child.once('exit', resolve));
    await eventually('PostgreSQL answers', () => cluster.sql('postgres', 'select 1'), { within_ms: 30000 });
    return cluster;
  }

  static attach(dir) {
    const cluster = new Cluster();
    cluster.dir = dir;
    cluster.user = is_root ? 'postgres' : os.userInfo().username;
    return cluster;
  }

  /** Rows as arrays of text. */
  async sql(database, text) {
    const { stdout } = await run(
      path.join(bin_dir(), 'psql'),
      [
        '-X',
        '-q',
        '-A',
        '-t',
        '-F',
        '\t',
        '-v',
        'ON_ERROR_STOP=1',
        '-h',
        this.dir,
        '-U',
        this.user,
        '-d',
        database,
        '-c',
        text,
      ],
      { cwd: '/', maxBuffer: 1 << 28 },
    );
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t'));
  }

  async create_database(name) {
    await this.sql('postgres', `create database "${name}"`);
    return `postgres://${this.user}@/${name}?host=${this.dir}`;
  }

  async drop_database(name) {
    await this.sql('postgres', `drop database if exists "${name}" with (force)`);
  }

  async stop() {
    if (!this.child) return;
    this.child.kill('SIGINT');
    await this.exited;
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

let shared;

/** The cluster of this run. A cluster started here is stopped when the process ends. */
export function shared_cluster() {
  shared ??= process.env.NEBULA_TEST_PG
    ? Promise.resolve(Cluster.attach(process.env.NEBULA_TEST_PG))
    : own_cluster();
  return shared;
}

async function own_cluster() {
  const cluster = await Cluster.start();
  cluster.child.unref();
  cluster.child.stderr.unref();
  process.once('exit', () => {
    cluster.child.kill('SIGQUIT');
    fs.rmSync(cluster.dir, { recursive: true, force: true });
  });
  return cluster;
}
