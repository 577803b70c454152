"""Small GGUF v3 writer: metadata, F32/F16/Q8_0/Q4_0 tensors, llama architecture helper.
Needs only numpy. The file layout follows the public GGUF description; nothing copied."""
import struct
import numpy as np

U32, I32, F32, BOOL, STR, ARR, U64 = 4, 5, 6, 7, 8, 9, 10
T_F32, T_F16, T_Q4_0, T_Q8_0 = 0, 1, 2, 8
TYPES = {"f32": T_F32, "f16": T_F16, "q4_0": T_Q4_0, "q8_0": T_Q8_0}
FILE_TYPE = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}


def _s(b):
    if isinstance(b, str):
        b = b.encode("utf-8")
    return struct.pack("<Q", len(b)) + b


def _value(t, v):
    if t == U32:
        return struct.pack("<I", v)
    if t == I32:
        return struct.pack("<i", v)
    if t == F32:
        return struct.pack("<f", v)
    if t == BOOL:
        return struct.pack("<?", v)
    if t == U64:
        return struct.pack("<Q", v)
    if t == STR:
        return _s(v)
    raise ValueError(t)


def quantise(a, kind):
    """numpy float array (rows, cols) -> bytes in the ggml layout."""
    a = np.ascontiguousarray(a, dtype=np.float32)
    if kind == "f32":
        return a.tobytes()
    if kind == "f16":
        return a.astype(np.float16).tobytes()
    assert a.shape[-1] % 32 == 0
    b = a.reshape(-1, 32)
    if kind == "q8_0":
        d = np.abs(b).max(axis=1) / 127.0
        inv = np.where(d > 0, 1.0 / np.where(d > 0, d, 1), 0)
        q = np.rint(b * inv[:, None]).astype(np.int8)
        out = np.empty((b.shape[0], 34), np.uint8)
        out[:, :2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
        out[:, 2:] = q.view(np.uint8)
        return out.tobytes()
    if kind == "q4_0":
        idx = np.abs(b).argmax(axis=1)
        m = b[np.arange(b.shape[0]), idx]
        d = m / -8.0
        inv = np.where(d != 0, 1.0 / np.where(d != 0, d, 1), 0)
        q = np.clip(np.floor(b * inv[:, None] + 8.5), 0, 15).astype(np.uint8)
        out = np.empty((b.shape[0], 18), np.uint8)
        out[:, :2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
        out[:, 2:] = q[:, :16] | (q[:, 16:] << 4)
        return out.tobytes()
    raise ValueError(kind)


class Writer:
    def __init__(self, path, align=32):
        self.path, self.align, self.kv, self.tensors = path, align, [], []

    def put(self, key, t, v):
        self.kv.append(_s(key) + struct.pack("<I", t) + _value(t, v))

    def put_array(self, key, t, values):
        body = b"".join(_value(t, v) for v in values)
        self.kv.append(_s(key) + struct.pack("<IIQ", ARR, t, len(values)) + body)

    def tensor(self, name, a, kind):
        a = np.asarray(a)
        self.tensors.append((name, a.shape, kind, quantise(a, kind)))

    def write(self):
        pad = lambda n: (-n) % self.align
        with open(self.path, "wb") as f:
            f.write(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.kv)))
            for kv in self.kv:
                f.write(kv)
            off = 0
            for name, shape, kind, data in self.tensors:
                f.write(_s(name) + struct.pack("<I", len(shape)))
                for n in reversed(shape):  # innermost dimension first
                    f.write(struct.pack("<Q", n))
                f.write(struct.pack("<IQ", TYPES[kind], off))
                off += len(data) + pad(len(data))
            f.write(b"\0" * pad(f.tell()))
            for _, _, _, data in self.tensors:
                f.write(data + b"\0" * pad(len(data)))


def byte_alphabet():
    """The printable stand-in for each byte used by GPT-2 style byte-level BPE vocabularies."""
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + n)
            n += 1
    return [table[b] for b in range(256)]


def write_llama(
    path,
    cfg,
    weights,
    kind,
    merges=(),
    specials=(),
    chat_template=None,
    name="tiny",
    licence=None,
    description=None,
    add_bos=True,
):
    """cfg: dim, layers, heads, kv_heads, ffn, ctx, rope_base, eps. weights: name -> (rows, cols) arrays in
    ggml naming. Vocabulary: 256 bytes, then one token per merge, then the specials (control tokens).
    specials[0] is BOS, specials[1] is EOS."""
    w = Writer(path)
    p = "llama."
    w.put("general.architecture", STR, "llama")
    w.put("general.name", STR, name)
    if licence:
        w.put("general.license", STR, licence)
    if description:
        w.put("general.description", STR, description)
    w.put("general.file_type", U32, FILE_TYPE[kind])
    w.put("general.quantization_version", U32, 2)
    w.put(p + "context_length", U32, cfg["ctx"])
    w.put(p + "embedding_length", U32, cfg["dim"])
    w.put(p + "block_count", U32, cfg["layers"])
    w.put(p + "feed_forward_length", U32, cfg["ffn"])
    w.put(p + "attention.head_count", U32, cfg["heads"])
    w.put(p + "attention.head_count_kv", U32, cfg["kv_heads"])
    w.put(p + "attention.layer_norm_rms_epsilon", F32, cfg["eps"])
    w.put(p + "rope.dimension_count", U32, cfg["dim"] // cfg["heads"])
    w.put(p + "rope.freq_base", F32, cfg["rope_base"])
    alpha = byte_alphabet()
    toks = list(alpha) + [a + b for a, b in merges] + list(specials)
    n_sp = len(specials)
    w.put(p + "vocab_size", U32, len(toks))
    w.put("tokenizer.ggml.model", STR, "gpt2")
    w.put("tokenizer.ggml.pre", STR, "gpt-2")
    w.put_array("tokenizer.ggml.tokens", STR, toks)
    w.put_array("tokenizer.ggml.token_type", I32, [1] * (len(toks) - n_sp) + [3] * n_sp)
    w.put_array("tokenizer.ggml.merges", STR, [a + " " + b for a, b in merges])
    first = len(toks) - n_sp
    w.put("tokenizer.ggml.bos_token_id", U32, first)
    w.put("tokenizer.ggml.eos_token_id", U32, first + 1)
    w.put("tokenizer.ggml.add_bos_token", BOOL, add_bos)
    w.put("tokenizer.ggml.add_eos_token", BOOL, False)
    if chat_template:
        w.put("tokenizer.chat_template", STR, chat_template)
    for n, a in weights.items():
        a = np.asarray(a)
        small = a.ndim == 1
        w.tensor(n, a, "f32" if small else kind)
    w.write()
    return len(toks)
