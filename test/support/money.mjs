// Reading money from answers without losing a digit, and checking receipts as a customer would: offline.

import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { nanos } from './wait.mjs';

/** "1.35E-4" as "0.000135": the same number with its point where people expect it. */
function without_exponent(text) {
  const [mantissa, exponent] = text.toLowerCase().split('e');
  if (exponent === undefined) return text;
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(mantissa);
  const point = whole.length + Number(exponent);
  const digits = (whole + fraction).padStart(whole.length + fraction.length + Math.max(0, 1 - point), '0');
  const at = Math.max(point, 1);
  const padded = digits.padEnd(at, '0');
  const decimals = padded.slice(at).replace(/0+$/, '');
  return `${sign}${padded.slice(0, at)}${decimals ? `.${decimals}` : ''}`;
}

const number = '(-?[0-9]+(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)';

/** All numbers, or texts of numbers, of that name as nano-dollars, in order; floating point never sees them. */
export function exact_members(text, name) {
  const found = text.matchAll(new RegExp(`"${name}":"?${number}"?[,}\\]]`, 'g'));
  return [...found].map((m) => nanos(without_exponent(m[1])));
}

/** The first of them. */
export function exact_member(text, name) {
  const found = exact_members(text, name);
  assert.ok(found.length > 0, `no number "${name}" in ${text.slice(0, 500)}`);
  return found[0];
}

/** Novita's unit of 0.0001 USD, as text, in nano-dollars. */
export function from_units(text) {
  const scaled = nanos(text);
  assert.equal(scaled % 10000n, 0n, `finer than a nano-dollar: ${text}`);
  return scaled / 10000n;
}

export const sum = (values) => values.reduce((a, b) => a + b, 0n);

/** Signature and arithmetic of a receipt's text; returns what it says. Nothing of the program is used. */
export function check_receipt(text, public_key) {
  const { receipt, public_key: named, signature } = JSON.parse(text);
  if (public_key !== undefined) assert.equal(named, public_key, 'signed with the key that the server publishes');
  const from = text.indexOf('{', text.indexOf('"receipt"'));
  const to = text.lastIndexOf(',"public_key"');
  const bytes = Buffer.from(text.slice(from, to));
  const x = Buffer.from(named, 'hex').toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  assert.ok(verify(null, bytes, key, Buffer.from(signature, 'hex')), 'the signature is wrong');
  const damaged = Buffer.from(bytes);
  damaged[damaged.length >> 1] ^= 1;
  assert.ok(!verify(null, damaged, key, Buffer.from(signature, 'hex')), 'any text would do');
  return receipt;
}

/** The text of a PDF file, as pdftotext sees it. */
export function pdf_text(bytes) {
  assert.equal(bytes.subarray(0, 5).toString('latin1'), '%PDF-');
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-pdf-'));
  try {
    const file = path.join(dir, 'a.pdf');
    fs.writeFileSync(file, bytes);
    return execFileSync('pdftotext', ['-layout', file, '-'], { encoding: 'utf8' });
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}
