// Flat memory at full size: 10,000 connections within 256 MiB.

import { test } from 'node:test';
import { held_streams, idle_connections } from '../support/idle_load.mjs';

test('10,000 idle connections cost at most 15 KiB each and 256 MiB together', async (t) => {
  const { growth, rss } = await idle_connections(10000, { rss_max: 256 * 1048576 });
  t.diagnostic(`${growth.toFixed(0)} bytes per connection, ${(rss / 1048576).toFixed(1)} MiB resident`);
});

test('5,000 open streams stay within 256 MiB', async (t) => {
  // Each needs two descriptors in this process (client and provider both live here), hence fewer than idle
  // ones.
  const { growth, rss } = await held_streams(5000, { rss_max: 256 * 1048576 });
  t.diagnostic(`${growth.toFixed(0)} bytes per stream, ${(rss / 1048576).toFixed(1)} MiB resident`);
});
