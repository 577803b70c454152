// Small vocabularies for byte-level BPE, and counting by its definition: what the program counts must be that.

import fs from 'node:fs';

const gpt2 = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
const bytes_of = (text) => [...Buffer.from(text)].map((byte) => String.fromCharCode(byte));

function merged(parts, left, right) {
  const out = [];
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] === left && parts[i + 1] === right) out.push(left + parts[++i]);
    else out.push(parts[i]);
  }
  return out;
}

/** Entries (one character a byte) in order of their ranks: all bytes, then the commonest pairs of the text. */
export function train(text, merges) {
  let words = text.match(gpt2).map(bytes_of);
  const entries = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
  for (let i = 0; i < merges; i++) {
    const pairs = new Map();
    for (const word of words)
      for (let k = 1; k < word.length; k++) {
        const pair = `${word[k - 1].length}:${word[k - 1]}${word[k]}`;
        pairs.set(pair, { count: (pairs.get(pair)?.count ?? 0) + 1, left: word[k - 1], right: word[k] });
      }
    const best = [...pairs.values()].sort((a, b) => b.count - a.count)[0];
    if (!best || best.count < 2) break;
    words = words.map((word) => merged(word, best.left, best.right));
    if (!entries.includes(best.left + best.right)) entries.push(best.left + best.right);
  }
  return entries;
}

/** The entries as an OpenAI rank file. */
export const rank_file = (entries) =>
  entries.map((entry, rank) => `${Buffer.from(entry, 'latin1').toString('base64')} ${rank}\n`).join('');

/** Tokens of a text by the definition, with gpt2's splitting. */
export function count(entries, text) {
  const ranks = new Map(entries.map((entry, rank) => [entry, rank]));
  let tokens = 0;
  for (const word of text.match(gpt2) ?? []) {
    let parts = bytes_of(word);
    if (ranks.has(parts.join(''))) parts = [parts.join('')];
    for (;;) {
      let best = -1;
      let rank = Infinity;
      for (let i = 1; i < parts.length; i++) {
        const of = ranks.get(parts[i - 1] + parts[i]) ?? Infinity;
        if (of < rank) [best, rank] = [i, of];
      }
      if (best < 0) break;
      parts.splice(best - 1, 2, parts[best - 1] + parts[best]);
    }
    tokens += parts.length;
  }
  return tokens;
}

/** Metadata of a GGUF file (its head only). */
export function gguf_facts(file) {
  const data = fs.readFileSync(file);
  let at = 8;
  const u32 = () => data.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(data.readBigUInt64LE((at += 8) - 8));
  const text = () => {
    const length = u64();
    return data.toString('utf8', at, (at += length));
  };
  const sizes = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
  const value = (type) => {
    if (type === 8) return text();
    if (type === 9) {
      const of = u32();
      return Array.from({ length: u64() }, () => value(of));
    }
    at += sizes[type];
    return null;
  };
  u64(); // tensors
  const facts = {};
  for (let left = u64(); left > 0; left--) {
    const key = text();
    facts[key] = value(u32());
  }
  return facts;
}

/** The vocabulary of a GGUF model with gpt2's splitting, as a tokenizer.json. */
export function tokenizer_json(file) {
  const facts = gguf_facts(file);
  const tokens = facts['tokenizer.ggml.tokens'];
  return JSON.stringify({
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: facts['tokenizer.ggml.merges'],
    },
  });
}
