// Runs a suite: `node support/run.mjs [--slow] [--concurrency N] [FILE…]`. One PostgreSQL cluster serves the
// run.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster } from './postgres.mjs';
import { engines } from './nebula.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

function files_of(suffix) {
  return ['support', 'journeys'].flatMap((dir) =>
    fs
      .readdirSync(path.join(root, dir))
      .filter((name) => name.endsWith(suffix))
      .sort()
      .map((name) => path.join(root, dir, name)),
  );
}

function parse(argv) {
  const out = { slow: false, concurrency: 2, files: [], passed_on: [] };
  for (let i = 0; i < argv.length; i += 1) {
    if (argv[i] === '--slow') out.slow = true;
    else if (argv[i] === '--concurrency') out.concurrency = Number(argv[++i]);
    else if (argv[i].startsWith('--')) out.passed_on.push(argv[i]);
    else out.files.push(path.resolve(argv[i]));
  }
  if (out.files.length === 0) out.files = files_of(out.slow ? '.slow.mjs' : '.test.mjs');
  return out;
}

const { slow, concurrency, files, passed_on } = parse(process.argv.slice(2));
const cluster = engines.includes('postgres') ? await Cluster.start() : null;
const limit = slow ? 1800000 : 240000;
const child = spawn(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${slow ? 1 : concurrency}`,
    `--test-timeout=${limit}`,
    // A stray socket or timer of a test's own must not keep a finished file from ending.
    '--test-force-exit',
    '--test-reporter=spec',
    ...passed_on,
    ...files,
  ],
  { stdio: 'inherit', env: { ...process.env, ...(cluster ? { NEBULA_TEST_PG: cluster.dir } : {}) } },
);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
const code = await new Promise((resolve) => child.once('exit', (c) => resolve(c ?? 1)));
await cluster?.stop();
process.exitCode = code;
