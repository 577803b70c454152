// SSH keys in the platform's shapes: named, listed, renamed, removed; the same key twice is refused in its words.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { generateKeyPairSync } from 'node:crypto';
import { assert_platform_error, assert_status, people_stage } from '../support/session.mjs';

let s;
let browser;
before(async () => {
  s = await people_stage();
  browser = (await s.customer('ssh@example.com')).browser;
});
after(() => s?.close());

/** A public key as ssh-keygen writes it. */
function ssh_ed25519(comment = 'me@host') {
  const raw = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const text = (bytes) => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes]);
  return `ssh-ed25519 ${Buffer.concat([text(Buffer.from('ssh-ed25519')), text(raw)]).toString('base64')} ${comment}`;
}

test('a key is added, listed, renamed and removed', async () => {
  const key_data = ssh_ed25519();
  const made = assert_status(await browser.post('/api/v1/ssh-keys', { key_name: 'laptop', key_data }), 200).json();
  assert.equal(made.message, 'SSH key created successfully');
  assert.deepEqual([made.data.key_name, made.data.key_data], ['laptop', key_data]);
  assert.match(made.data.create_time, /^\d{10}$/);
  const listed = assert_status(await browser.get('/api/v1/ssh-keys?limit=100&offset=0'), 200).json();
  assert.equal(listed.message, 'SSH keys retrieved successfully');
  assert.equal(listed.data.total_ssh_keys, 1);
  assert.equal(listed.data.ssh_keys[0].key_name, 'laptop');
  assert.match(listed.data.ssh_keys[0].create_time, /^[A-Z]{3} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  const renamed = assert_status(await browser.put(`/api/v1/ssh-keys/${made.data.id}`, { key_name: 'desk' }), 200).json();
  assert.deepEqual([renamed.message, renamed.data.key_name], ['SSH key updated successfully', 'desk']);
  const gone = assert_status(await browser.delete(`/api/v1/ssh-keys/${made.data.id}`), 200).json();
  assert.deepEqual([gone.message, gone.data], ['SSH key deleted successfully', {}]);
  assert.equal((await browser.data('GET', '/api/v1/ssh-keys')).total_ssh_keys, 0);
});

test('the older spelling of the name is understood', async () => {
  const made = await browser.data('POST', '/api/v1/ssh-keys', { name: 'old', key_data: ssh_ed25519() });
  assert.equal(made.key_name, 'old');
});

test('the same key twice is refused, with another comment too', async () => {
  const key_data = ssh_ed25519('one@host');
  await browser.data('POST', '/api/v1/ssh-keys', { key_name: 'first', key_data });
  for (const again of [key_data, key_data.replace('one@host', 'two@host')]) {
    const answer = await browser.post('/api/v1/ssh-keys', { key_name: 'second', key_data: again });
    assert.ok([400, 409].includes(answer.status), answer.text);
    assert.match(answer.text, /You already have an SSH key with the same public key content\./);
  }
});

test('what is not a public key is refused, a private key above all', async () => {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' });
  for (const key_data of ['', 'hello', 'ssh-ed25519 AAAA', 'ssh-rsa !!!', pem, `command="rm -rf /" ${ssh_ed25519()}`])
    assert_platform_error(await browser.post('/api/v1/ssh-keys', { key_name: 'bad', key_data }), 400, 'invalid_request');
});

test('keys that ssh-keygen makes are accepted', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-ssh-'));
  try {
    for (const kind of ['rsa', 'ecdsa', 'ed25519']) {
      try {
        execFileSync('ssh-keygen', ['-q', '-t', kind, '-N', '', '-f', path.join(dir, kind)]);
      } catch (error) {
        if (error.code === 'ENOENT') return; // not installed here
        throw error;
      }
      const key_data = fs.readFileSync(path.join(dir, `${kind}.pub`), 'utf8').trim();
      await browser.data('POST', '/api/v1/ssh-keys', { key_name: kind, key_data });
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});

test('keys of others look like none', async () => {
  const { id } = await browser.data('POST', '/api/v1/ssh-keys', { key_name: 'mine', key_data: ssh_ed25519() });
  const stranger = (await s.customer('ssh-stranger@example.com')).browser;
  assert.equal((await stranger.put(`/api/v1/ssh-keys/${id}`, { key_name: 'x' })).status, 404);
  assert.equal((await stranger.delete(`/api/v1/ssh-keys/${id}`)).status, 404);
  assert.equal((await stranger.data('GET', '/api/v1/ssh-keys')).total_ssh_keys, 0);
});
