"""Trains nebula-nano (llama architecture, own BPE) on the text of corpus.py with Debian's
python3-torch, on a CPU. usage: /usr/bin/python3 train.py --out DIR --minutes N [--threads 2] [--resume] …
Writes DIR/nebula-nano.gguf (averaged weights) and DIR/state.pt about every five minutes;
the last write is the result."""
import argparse
import json
import math
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F

import bpe
import corpus
import facts
from gguf_writer import write_llama

SPECIALS = ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
EPS, ROPE_BASE, CONTEXT = 1e-5, 10000.0, 1024


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=70)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--dim", type=int, default=256)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--ffn", type=int, default=640)
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--batch", type=int, default=2048, help="tokens per step")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--fact-share", type=float, default=corpus.fact_share)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--export-every", type=float, default=300, help="seconds")
    p.add_argument("--resume", action="store_true")
    return p.parse_args()


def make_tokenizer(vocab, seed):
    rng = random.Random(seed)
    texts = []
    for _ in range(30000):
        q, a = corpus.sample(rng)
        texts += [q, "user\n", "assistant\n"]
    for f in corpus.FACTS:
        texts += [f["answer"]] * 300
    texts += ["system\n" + corpus.system_text(rng) for _ in range(4000)]
    return bpe.Tokenizer(bpe.train(texts, vocab - 256 - len(SPECIALS), 4), SPECIALS)


class Model:
    def __init__(self, a, vocab):
        self.dim, self.layers, self.heads, self.ffn, self.vocab = a.dim, a.layers, a.heads, a.ffn, vocab
        P = self.P = {}

        def mk(name, r, c, scale):
            P[name] = torch.nn.Parameter(torch.randn(r, c) * scale * c**-0.5)

        P["token_embd.weight"] = torch.nn.Parameter(torch.randn(vocab, a.dim) * 0.02)
        for i in range(a.layers):
            b = f"blk.{i}."
            P[b + "attn_norm.weight"] = torch.nn.Parameter(torch.ones(a.dim))
            P[b + "ffn_norm.weight"] = torch.nn.Parameter(torch.ones(a.dim))
            for n in ("attn_q", "attn_k", "attn_v"):
                mk(b + n + ".weight", a.dim, a.dim, 0.7)
            mk(b + "attn_output.weight", a.dim, a.dim, 0.7 / math.sqrt(2 * a.layers))
            mk(b + "ffn_gate.weight", a.ffn, a.dim, 0.7)
            mk(b + "ffn_up.weight", a.ffn, a.dim, 0.7)
            mk(b + "ffn_down.weight", a.dim, a.ffn, 0.7 / math.sqrt(2 * a.layers))
        P["output_norm.weight"] = torch.nn.Parameter(torch.ones(a.dim))
        hd = a.dim // a.heads
        ang = torch.arange(CONTEXT).float()[:, None] * (
            1.0 / ROPE_BASE ** (torch.arange(0, hd, 2).float() / hd)
        )
        self.cos, self.sin = ang.cos(), ang.sin()
        self.mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)

    def forward(self, ids, P=None):
        """Logits of every position, bfloat16 matrix products, float32 elsewhere."""
        P = P or self.P
        bf = {k: (v.bfloat16() if v.ndim > 1 else v) for k, v in P.items()}
        B, T = ids.shape
        hd = self.dim // self.heads
        cs, sn = self.cos[:T], self.sin[:T]
        mask = self.mask[:T, :T]
        lin = lambda x, n: F.linear(x.bfloat16(), bf[n])
        norm = lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w

        def heads(x):
            return x.view(B, T, self.heads, hd).transpose(1, 2)

        def rope(x):  # neighbouring pairs, as the llama architecture in GGUF wants it
            x = x.float()
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack((a * cs - b * sn, a * sn + b * cs), -1).flatten(-2)

        x = F.embedding(ids, P["token_embd.weight"])
        for i in range(self.layers):
            b = f"blk.{i}."
            h = norm(x, P[b + "attn_norm.weight"]).bfloat16()
            q, k = (
                rope(heads(lin(h, b + "attn_q.weight"))).bfloat16(),
                rope(heads(lin(h, b + "attn_k.weight"))).bfloat16(),
            )
            v = heads(lin(h, b + "attn_v.weight"))
            att = torch.softmax((q @ k.transpose(-1, -2)).float() * hd**-0.5 + mask, -1).bfloat16() @ v
            x = x + lin(att.transpose(1, 2).reshape(B, T, self.dim), b + "attn_output.weight").float()
            h = norm(x, P[b + "ffn_norm.weight"]).bfloat16()
            g = F.silu(lin(h, b + "ffn_gate.weight")) * lin(h, b + "ffn_up.weight")
            x = x + lin(g, b + "ffn_down.weight").float()
        return lin(norm(x, P["output_norm.weight"]), "token_embd.weight").float()


class Data:
    """Batches of conversations of like length: ids and a weight per predicted token."""

    def __init__(self, tok, rng, batch):
        self.tok, self.rng, self.batch, self.queue, self.short = tok, rng, batch, [], 0.0
        self.eot, self.start = tok.id["<|im_end|>"], tok.id["<|im_start|>"]
        self.decisive = self.decisive_lengths()

    def decisive_lengths(self):
        """Answer -> number of its first tokens that tell it from every other answer, plus one."""
        answers = list(facts.ANSWERS.values())
        ids = {a: self.tok.encode(a) + [self.eot] for a in answers}
        same = lambda x, y: next((i for i, (p, q) in enumerate(zip(x, y)) if p != q), min(len(x), len(y)))
        return {a: max(same(x, y) for b, y in ids.items() if b != a) + 2 for a, x in ids.items()}

    def turn(self, role, text):
        return [self.start] + self.tok.encode(role + "\n" + text)

    def example(self):
        rng = self.rng
        if rng.random() < 0.02:
            ids = self.tok.encode(corpus.plain_text(rng)) + [self.eot]
            return ids, [1.0] * len(ids)
        ids, w = [], []
        turns = corpus.conversation(rng)
        newline = self.tok.encode("\n")
        head_len = len(self.turn("assistant", ""))
        for n, (role, text) in enumerate(turns):
            t = self.turn(role, text)
            if role == "assistant":
                body = t[head_len:] + [self.eot]
                if n == len(turns) - 1 and rng.random() < self.short:
                    body = body[
                        : self.decisive.get(text, 12)
                    ]  # which answer it is; the rest is known by heart
                ids += t[:head_len] + body
                w += [0.0] * head_len + [1.0] * len(body)
            else:
                # A wrong token now and then, against reading by rote.
                if role == "user" and rng.random() < 0.06:
                    k = rng.randrange(3, len(t)) if len(t) > 4 else 0
                    if k:
                        t[k] = rng.randrange(256, len(self.tok.tokens) - 3)
                ids += t + [self.eot]
                w += [0.0] * 3 + [0.04] * (len(t) - 2)
            if n < len(turns) - 1:
                ids += newline
                w += [0.0]
        return ids[:CONTEXT], w[:CONTEXT]

    def next(self):
        """(ids, weights) of about `batch` tokens, padded to multiples of 16: each new shape costs time."""
        if not self.queue:
            pool = sorted((self.example() for _ in range(1500)), key=lambda e: len(e[0]))
            while pool:
                n = (len(pool[-1][0]) + 14) // 16 * 16 + 1
                rows = max(1, self.batch // n)
                g, pool = pool[-rows:], pool[:-rows]
                ids, w = torch.full((rows, n), self.eot), torch.zeros(rows, n)
                for r, (i, ww) in enumerate(g):
                    ids[r, : len(i)] = torch.tensor(i)
                    w[r, : len(i)] = torch.tensor(ww)
                self.queue.append((ids, w))
            self.rng.shuffle(self.queue)
        return self.queue.pop()


def usable_threads(limit):
    """On a busy machine two threads wait for each other most of the time: then one is faster."""
    running = int(open("/proc/loadavg").read().split()[3].split("/")[0])
    busy = running - torch.get_num_threads()
    return max(1, min(limit, (os.cpu_count() or 1) - max(0, busy)))


@torch.no_grad()
def dev_score(model, P, data):
    """Right answers (greedy, every token) to the held-out questions of the section dev, by group."""
    cases = [
        {"q": q, "a": facts.ANSWERS[i], "group": "off-topic" if i == "off" else "phrasing"}
        for i, q in facts.heldout("dev")
    ]
    res = {}
    for j in range(0, len(cases), 64):
        rows = []
        for c in cases[j : j + 64]:
            head = data.turn("user", c["q"]) + [data.eot] + data.tok.encode("\n") + data.turn("assistant", "")
            rows.append((head, data.tok.encode(c["a"]) + [data.eot], c["group"]))
        n = max(len(h) + len(b) for h, b, _ in rows)
        ids = torch.full((len(rows), n), data.eot)
        for r, (h, b, _) in enumerate(rows):
            ids[r, : len(h) + len(b)] = torch.tensor(h + b)
        best = model.forward(ids, P).argmax(-1)
        for r, (h, b, g) in enumerate(rows):
            good = bool((best[r, len(h) - 1 : len(h) + len(b) - 1] == ids[r, len(h) : len(h) + len(b)]).all())
            x = res.setdefault(g, [0, 0])
            x[0] += good
            x[1] += 1
    return res


def export(path, model, weights, tok):
    cfg = dict(
        dim=model.dim,
        layers=model.layers,
        heads=model.heads,
        kv_heads=model.heads,
        ffn=model.ffn,
        ctx=CONTEXT,
        rope_base=ROPE_BASE,
        eps=EPS,
    )
    write_llama(
        path + ".part",
        cfg,
        {k: v.detach().numpy() for k, v in weights.items()},
        "q8_0",
        tok.merges,
        SPECIALS,
        TEMPLATE,
        name="nebula-nano",
        licence="apache-2.0",
        add_bos=False,
        description="Demonstration model of Nebula: answers short questions about it and refuses the rest.",
    )
    os.replace(path + ".part", path)


def main():
    a = arguments()
    os.makedirs(a.out, exist_ok=True)
    corpus.fact_share = a.fact_share
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    t0 = time.time()
    tok_file = os.path.join(a.out, "merges.json")
    if os.path.exists(tok_file):
        tok = bpe.Tokenizer([tuple(m) for m in json.load(open(tok_file))], SPECIALS)
    else:
        tok = make_tokenizer(a.vocab, a.seed)
        json.dump(tok.merges, open(tok_file, "w"))
    model = Model(a, len(tok.tokens))
    P = model.P
    data = Data(tok, random.Random(a.seed + 1), a.batch)
    print(
        f"vocabulary {len(tok.tokens)}, {sum(p.numel() for p in P.values()) / 1e6:.2f}M parameters, "
        f"{time.time() - t0:.0f} s",
        flush=True,
    )
    flat = [p for p in P.values() if p.ndim == 1]
    opt = torch.optim.AdamW(
        [
            {"params": [p for p in P.values() if p.ndim > 1], "weight_decay": 0.05},
            {"params": flat, "weight_decay": 0},
        ],
        lr=a.lr,
        betas=(0.9, 0.98),
    )
    ema = {k: p.detach().clone() for k, p in P.items()}
    step, done, tokens = 0, 0.0, 0
    state = os.path.join(a.out, "state.pt")
    if a.resume and os.path.exists(state):
        s = torch.load(state)
        for k, p in P.items():
            p.data.copy_(s["P"][k])
        ema, step, done, tokens = s["ema"], s["step"], s["done"], s["tokens"]
        opt.load_state_dict(s["opt"])
        data.rng.seed(a.seed + 1000 + step)
    start, budget, last, log = time.time() - done, a.minutes * 60, time.time(), []
    while True:
        el = time.time() - start
        if el > budget:
            break
        f = el / budget
        data.short = 0.0 if f < 0.12 else 0.85
        lr = a.lr * min(1, (step + 1) / 150) * (1.0 if f < 0.5 else 0.02 + 0.98 * (1 - f) / 0.5)
        for g in opt.param_groups:
            g["lr"] = lr
        if step % 10 == 0:
            torch.set_num_threads(usable_threads(a.threads))
        ids, w = data.next()
        logits = model.forward(ids[:, :-1])
        tgt, ww = ids[:, 1:], w[:, 1:]
        sel = ww > 0
        ce = F.cross_entropy(logits[sel], tgt[sel], reduction="none")
        wsel = ww[sel]
        loss = (ce * wsel).sum() / wsel.sum()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(P.values(), 1.0)
        opt.step()
        keep = min(0.997, step / (step + 20.0))
        with torch.no_grad():
            for k, p in P.items():
                ema[k].mul_(keep).add_(p, alpha=1 - keep)
        step += 1
        tokens += ids.numel()
        log.append(float(ce[wsel == 1.0].mean().detach()))
        if step % 100 == 0:
            print(
                f"step {step} {time.time() - start:.0f} s loss {np.mean(log[-100:]):.4f} lr {lr:.5f} "
                f"{tokens / 1e6:.2f}M tokens "
                f"{tokens / (time.time() - start):.0f}/s cpu {time.process_time():.0f} s",
                flush=True,
            )
        if time.time() - last > a.export_every:
            last = time.time()
            save(a, model, ema, tok, opt, step, time.time() - start, tokens, data, state)
    save(a, model, ema, tok, opt, step, time.time() - start, tokens, data, state)
    print("finished", flush=True)


def save(a, model, ema, tok, opt, step, done, tokens, data, state):
    torch.save(
        {
            "P": {k: p.detach() for k, p in model.P.items()},
            "ema": ema,
            "opt": opt.state_dict(),
            "step": step,
            "done": done,
            "tokens": tokens,
        },
        state + ".part",
    )
    os.replace(state + ".part", state)
    export(os.path.join(a.out, "nebula-nano.gguf"), model, ema, tok)
    print("exported", "dev score", dev_score(model, ema, data), flush=True)


if __name__ == "__main__":
    main()
