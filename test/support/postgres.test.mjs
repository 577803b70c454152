// The private PostgreSQL: a journey on the second engine is only as good as the engine under it.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { shared_cluster } from './postgres.mjs';
import { engines } from './nebula.mjs';

test(
  'each server gets a database of its own on a private socket',
  { skip: !engines.includes('postgres') },
  async () => {
    const cluster = await shared_cluster();
    const name = `self_${process.pid}`;
    const url = await cluster.create_database(name);
    assert.match(url, new RegExp(`^postgres://\\w+@/${name}\\?host=/`));
    await cluster.sql(name, 'create table t (a int, b text)');
    await cluster.sql(name, "insert into t values (1, 'x')");
    assert.deepEqual(await cluster.sql(name, 'select * from t'), [['1', 'x']]);
    await cluster.drop_database(name);
  },
);
