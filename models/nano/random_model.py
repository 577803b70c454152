"""Writes a tiny llama-architecture GGUF with random weights: the fixture of the runner's tests. It speaks
nonsense, byte by byte, so it also produces broken characters. usage: random_model.py OUT.gguf [seed]"""
import sys

import numpy as np

from gguf_writer import byte_alphabet, write_llama
from train import SPECIALS, TEMPLATE

DIM, LAYERS, HEADS, FFN, CONTEXT = 64, 2, 4, 128, 512


def main():
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    alpha = byte_alphabet()
    letters = [alpha[b] for b in b"etaoinshrdlu"]
    merges = [(a, b) for a in letters for b in letters if a != b]
    merges += [(alpha[0xC3], alpha[0xA9]), (alpha[0xF0], alpha[0x9F])]  # a whole character, and half of one
    vocab = 256 + len(merges) + len(SPECIALS)
    matrix = lambda r, c, scale=1.0: rng.standard_normal((r, c), dtype=np.float32) * scale * c**-0.5
    weights = {"token_embd.weight": matrix(vocab, DIM, 4.0)}
    for i in range(LAYERS):
        b = f"blk.{i}."
        weights[b + "attn_norm.weight"] = np.ones(DIM, np.float32)
        weights[b + "ffn_norm.weight"] = np.ones(DIM, np.float32)
        for n in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights[b + n + ".weight"] = matrix(DIM, DIM, 2.0)
        weights[b + "ffn_gate.weight"] = matrix(FFN, DIM, 2.0)
        weights[b + "ffn_up.weight"] = matrix(FFN, DIM, 2.0)
        weights[b + "ffn_down.weight"] = matrix(DIM, FFN, 2.0)
    weights["output_norm.weight"] = np.ones(DIM, np.float32)
    # The end-of-text tokens are made unlikely, so that a generation runs as long as a test wants.
    weights["token_embd.weight"][-len(SPECIALS) :] *= 0.01
    cfg = dict(
        dim=DIM, layers=LAYERS, heads=HEADS, kv_heads=HEADS, ffn=FFN, ctx=CONTEXT, rope_base=10000.0, eps=1e-5
    )
    write_llama(
        sys.argv[1], cfg, weights, "q8_0", merges, SPECIALS, TEMPLATE, name="random-test", add_bos=False
    )


if __name__ == "__main__":
    main()
