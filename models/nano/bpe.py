"""Byte-level BPE, trained and applied with the GPT-2 style split (the `gpt-2` pre-tokeniser of llama.cpp)."""
import re
from collections import Counter, defaultdict

from gguf_writer import byte_alphabet

SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
ALPHA = byte_alphabet()


def train(texts, n_merges, min_count=2):
    """The merges, most frequent pair first. Words rarer than min_count (typos, invented) are left out."""
    words = Counter()
    for t in texts:
        words.update(SPLIT.findall(t))
    words = {w: c for w, c in words.items() if c >= min_count}
    seqs = {w: [ALPHA[b] for b in w.encode()] for w in words}
    pairs, where = Counter(), defaultdict(set)
    for w, s in seqs.items():
        for p in zip(s, s[1:]):
            pairs[p] += words[w]
            where[p].add(w)
    merges = []
    for _ in range(n_merges):
        best, count = max(pairs.items(), key=lambda kv: (kv[1], kv[0]), default=(None, 0))
        if count < min_count:
            break
        merges.append(best)
        for w in where.pop(best):
            old = seqs[w]
            for p in zip(old, old[1:]):
                pairs[p] -= words[w]
            new = seqs[w] = apply(old, best)
            for p in zip(new, new[1:]):
                pairs[p] += words[w]
                where[p].add(w)
        pairs.pop(best, None)
    return merges


def apply(s, pair):
    out, i = [], 0
    while i < len(s):
        if i + 1 < len(s) and s[i] == pair[0] and s[i + 1] == pair[1]:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(s[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, merges, specials):
        self.merges, self.specials = merges, specials
        self.rank = {m: i for i, m in enumerate(merges)}
        self.tokens = ALPHA + [a + b for a, b in merges] + list(specials)
        self.id = {t: i for i, t in enumerate(self.tokens)}
        self.cache = {}
        self.byte = {c: i for i, c in enumerate(ALPHA)}

    def encode(self, text):
        ids = []
        for w in SPLIT.findall(text):
            if w not in self.cache:
                s = [ALPHA[b] for b in w.encode()]
                while len(s) > 1:
                    p = min(zip(s, s[1:]), key=lambda p: self.rank.get(p, 1 << 30))
                    if p not in self.rank:
                        break
                    s = apply(s, p)
                if len(self.cache) > 200000:
                    self.cache.clear()
                self.cache[w] = [self.id[t] for t in s]
            ids += self.cache[w]
        return ids

    def decode(self, ids):
        n = len(self.tokens) - len(self.specials)
        return bytes(self.byte[c] for i in ids if i < n for c in self.tokens[i]).decode(errors="replace")
