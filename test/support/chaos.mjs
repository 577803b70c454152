// Clients, operators and databases that behave badly all at once. Afterwards nothing is held, every sum is right, and
// the server serves.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parse_script } from './fake_provider.mjs';
import { model, provider } from './nebula.mjs';
import { RawClient, request_bytes } from './raw_http.mjs';
import { price_of, stage } from './stage.mjs';
import { eventually, nanos, random, seed_of_run } from './wait.mjs';

const million = '1000000';
const timeouts = { first_byte_timeout_ms: 400, idle_timeout_ms: 400, breaker_failures: 1000000 };

/** Nothing held, the ledger right, the balance what the records say, and the server at work. */
export async function assert_books(s, { credit = million, within_ms = 30000 } = {}) {
  await s.server.settled(s.account.id, { within_ms });
  await s.server.verify_ledger();
  const records = await s.server.usage_records();
  const owed = records.reduce((sum, r) => sum + r.charge, 0n);
  // What was in doubt when the database failed comes back when it can be asked again.
  await eventually(
    `the balance is what the records say: ${nanos(credit) - owed}`,
    async () => (await s.server.balance(s.account.id)).available === nanos(credit) - owed,
  );
  for (const r of records) assert.equal(r.charge, price_of(r.prompt_tokens, r.completion_tokens));
  const last = await s.server.chat({ key: s.account.key });
  assert.equal(last.status, 200, last.text);
  return records;
}

const open_files = (pid) => fs.readdirSync(`/proc/${pid}/fd`).length;

const faults = [
  'ok',
  'ok frames=40',
  'ok huge=20000 frames=20',
  'ok packets=bytes frames=3',
  'ok usage=absent',
  'ok delay_ms=90 frames=3',
  'ok delay_ms=200 frames=2',
  'cut_mid_body',
  'cut_mid_body how=rst',
  'cut_before_head',
  'cut_mid_head',
  'cut_mid_frame',
  'stall_mid',
  'stall_head',
  'garbage_head',
  'garbage_frame',
  'bad_chunk',
  'error_event',
  'status status=500',
  'status status=429',
  'status status=400',
  'end_without_done',
  'empty_stream',
];

/** One client that sends something and leaves somewhere. */
async function bad_client(s, dice, models) {
  const wire = new RawClient(s.server.url);
  await wire.connected;
  const bytes = request_bytes({
    key: s.account.key,
    body: {
      model: models[dice.between(0, models.length - 1)],
      stream: dice.between(0, 3) > 0,
      messages: [{ role: 'user', content: 'hello' }],
    },
  });
  switch (dice.between(0, 7)) {
    case 0: // garbage
      await wire.send(Buffer.from(Array.from({ length: dice.between(1, 3000) }, () => dice.between(0, 255))));
      break;
    case 1: {
      // one bit of a request is wrong
      const damaged = Buffer.from(bytes);
      damaged[dice.between(0, damaged.length - 1)] ^= 1 << dice.between(0, 7);
      await wire.send(damaged);
      break;
    }
    case 2: // a part of a request
      await wire.send(bytes.subarray(0, dice.between(1, bytes.length - 1)));
      break;
    case 3: // several at once
      await wire.send(Buffer.concat([bytes, bytes, bytes]));
      break;
    default:
      await wire.send(bytes);
  }
  const enough = dice.between(0, 4000);
  if (dice.between(0, 2) > 0) await wire.until((b) => b.length > enough, { within_ms: dice.between(1, 300) });
  switch (dice.between(0, 2)) {
    case 0:
      wire.socket.resetAndDestroy();
      break;
    case 1:
      wire.socket.end();
      await wire.step(dice.between(1, 100));
      wire.destroy();
      break;
    default:
      wire.destroy();
  }
}

export async function bad_clients(engine, { workers, calls, seed = seed_of_run }) {
  const policies = ['bill_delivered', 'drain', 'cancel'];
  // Its streams are asked of two routes; who wins is up to chance.
  const routes = ['fake', 'fake2'].map((name) => ({ provider: name, model: 'hedged' }));
  const hedged = model('hedged', { strategy: 'ordered', hedge_ms: 60, hedge_percent_max: 100, routes });
  const bad = [...policies, 'hedged'];
  const models = [model('demo/chat:1'), ...policies.map((p) => model(p, { disconnect: p })), hedged];
  const s = await stage({
    engine,
    models,
    credit: million,
    providers: (fake) => ['fake', 'fake2'].map((name) => provider(name, fake.base_url, timeouts)),
    http: { head_timeout_ms: 2000, body_timeout_ms: 2000, idle_timeout_ms: 3000 },
  });
  try {
    // Not named in the request: a damaged one would name what there is not.
    const fault_dice = random(seed - 1);
    s.fake.rules.push(({ body }) =>
      bad.includes(body?.model) ? parse_script(faults[fault_dice.between(0, faults.length - 1)]) : { kind: 'ok' },
    );
    for (let i = 0; i < 10; i += 1) await s.server.chat({ key: s.account.key });
    const files = open_files(s.server.pid);
    await Promise.all(
      Array.from({ length: workers }, async (_, i) => {
        const dice = random(seed + i);
        for (let n = 0; n < calls / workers; n += 1) await bad_client(s, dice, bad);
      }),
    );
    await assert_books(s);
    assert.ok((await s.server.metric('nebula_hedges_total')) > 0, 'some were asked twice');
    assert.equal(await s.server.metric('nebula_upstream_in_flight'), 0);
    await eventually(
      'connections of clients that left are closed',
      () => open_files(s.server.pid) <= files + 2 * workers,
      { within_ms: 10000 },
    );
    assert.equal(s.server.exit, null, s.server.output.slice(-2000));
    const stopped = await s.server.stop();
    assert.deepEqual([stopped.code, stopped.signal], [0, null], s.server.output.slice(-2000));
  } catch (error) {
    error.message += ` (seed ${seed})`;
    throw error;
  } finally {
    await s.close();
  }
}

/** So many clients on connections of their own at the same time, each with several calls; nobody is turned away. */
export async function many_clients(engine, count, each = 3) {
  const s = await stage({ engine, credit: million, http: { connections_max: count + 100 } });
  try {
    const statuses = new Map();
    await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        for (let n = 0; n < each; n += 1) {
          const stream = (i + n) % 2 === 0;
          const answer = await s.server.chat({ key: s.account.key, stream, within_ms: 60000, content: 'fake:ok' });
          const well = answer.complete && (!stream || answer.events().at(-1) === '[DONE]');
          const outcome = well ? answer.status : 'broken';
          statuses.set(outcome, (statuses.get(outcome) ?? 0) + 1);
        }
      }),
    );
    assert.deepEqual([...statuses], [[200, count * each]]);
    const records = await assert_books(s);
    assert.equal(records.length, count * each);
    assert.ok(records.every((r) => r.charge === price_of(7, 10)));
  } finally {
    await s.close();
  }
}

/** Load that goes on until the returned function is called, which gives `{ delivered, refused }`. */
export function load(s, workers, { allowed = [200] } = {}) {
  let running = true;
  const seen = { delivered: 0, refused: 0, broken: 0, statuses: new Set() };
  const work = async (i) => {
    for (let n = 0; running; n += 1) {
      const stream = (i + n) % 2 === 0;
      const answer = await s.server.chat({ key: s.account.key, stream, within_ms: 60000, content: 'fake:ok frames=5' });
      seen.statuses.add(answer.status);
      assert.ok(allowed.includes(answer.status), `${answer.status} ${answer.text}`);
      const well = answer.complete && (!stream || answer.status !== 200 || answer.events().at(-1) === '[DONE]');
      if (!well) seen.broken += 1;
      else if (answer.status === 200) seen.delivered += 1;
      else seen.refused += 1;
      if (answer.status !== 200) await new Promise((r) => setTimeout(r, 20));
    }
  };
  const done = Promise.all(Array.from({ length: workers }, (_, i) => work(i)));
  done.catch(() => {});
  return {
    seen,
    async stop() {
      running = false;
      await done;
      return seen;
    },
  };
}

/** Runs a statement that holds the write lock of the server's database for so long. */
export async function lock_database(s, seconds) {
  if (s.server.engine === 'postgres') {
    await s.server.sql(`begin; lock table usage_records in exclusive mode; select pg_sleep(${seconds}); commit`);
    return;
  }
  const child = spawn('sqlite3', ['-batch', path.join(s.server.dir, 'data/nebula.db')], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  child.stdin.write('.timeout 10000\nbegin immediate;\n');
  await new Promise((r) => setTimeout(r, seconds * 1000));
  child.stdin.end('rollback;\n');
  await new Promise((resolve) => child.once('exit', resolve));
}

/** Puts a file system of so many bytes under the data of a server that does not run yet; null where none is allowed. */
export function small_disk(server, bytes) {
  const dir = path.join(server.dir, 'data');
  fs.mkdirSync(dir, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=700`, 'tmpfs', dir], { stdio: 'ignore' });
  } catch {
    return null;
  }
  return {
    /** Fills what is left; the returned function frees it again. */
    fill() {
      const file = path.join(dir, 'filler');
      const fd = fs.openSync(file, 'w');
      const block = Buffer.alloc(4096);
      try {
        for (;;) fs.writeSync(fd, block);
      } catch {
        /* full */
      }
      fs.closeSync(fd);
      return () => fs.rmSync(file);
    },
    unmount: () => execFileSync('umount', ['-l', dir]),
  };
}
