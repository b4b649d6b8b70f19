"""Writes models whose every matrix is stored in another type: random weights, no tokenizer.

    python3 golden/oracle/make_types.py [OUT]

OUT (golden/models) gets <architecture>-types/<form>.gguf. The forms of a model are the same numbers
in other types, and over all of them each of the ten types stands in a matrix of attention, in one
of the feed-forward, and as an embedding or an output. Plain types and blocks of 32 are written by
gguf-py. It writes no K-quants: theirs are encoded here, plainly and not as well as ggml does, and
read back by gguf-py, which must find what was meant.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

MODELS = Path(__file__).resolve().parent.parent / "models"
TYPES = ("f32", "f16", "bf16", "q4_0", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k", "mxfp4")

# Widths: hidden, a head, heads, heads of k and v, feed-forward, vocabulary, positions.
WIDTHS = {
    "gpt2": (64, 32, 2, 2, 96, 37, 24),
    "llama": (256, 16, 4, 1, 32, 23, 96),
    "qwen2": (64, 48, 2, 1, 32, 31, 72),
}
# Of each form the type of: embedding, output, q, k, v (GPT-2: of all three), o, gate, up, down.
LLAMA = ("token_embd", "output", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
         "ffn_down")
GPT2 = ("token_embd", "attn_qkv", "attn_output", "ffn_up", "ffn_down")
FORMS = {
    "gpt2": {
        "a": "bf16 q5_0 q8_0 mxfp4 q4_0",
    },
    "llama": {
        "a": "q6_k q4_0 q4_k q5_k q6_k mxfp4 q5_k q6_k q4_0",
        "b": "q5_k q4_k q5_k q4_k q6_k q4_0 q4_k mxfp4 q5_0",
    },
    "qwen2": {
        "a": "f32 mxfp4 q4_0 bf16 q8_0 q5_0 f32 q8_0 bf16",
        "b": "q8_0 f16 mxfp4 f32 q5_0 q4_0 f16 q5_0 q4_0",
        "c": "bf16 q5_0 q8_0 mxfp4 f16 q8_0 q4_0 mxfp4 q5_0",
    },
}
SEEDS = {"gpt2": 41, "llama": 42, "qwen2": 43}


def steps(b: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """Of blocks [n, 8, 32]: d and dmin, f16 [n, 1]; six-bit scales and minima; codes to `most`."""
    low = np.maximum(0, -b.min(-1))
    scale = (b.max(-1) + low) / most
    d, dmin = ((x.max(-1, keepdims=True) / 63).astype(np.float16) for x in (scale, low))
    sc, m = (np.rint(x / np.maximum(of, 1e-7)).clip(0, 63).astype(np.uint8)
             for x, of in ((scale, d.astype(float)), (low, dmin.astype(float))))
    one, away = (d.astype(float) * sc)[..., None], (dmin.astype(float) * m)[..., None]
    codes = np.rint((b + away) / np.maximum(one, 1e-9)).clip(0, most)
    return d, dmin, sc, m, codes.astype(np.uint8)


def halves_of_bytes(d: np.ndarray) -> np.ndarray:
    """f16 [n, 1] as bytes [n, 2]."""
    return np.ascontiguousarray(d).view(np.uint8).reshape(len(d), 2)


def k_head(d: np.ndarray, dmin: np.ndarray, sc: np.ndarray, m: np.ndarray) -> list[np.ndarray]:
    """The 16 bytes that q4_k and q5_k begin with."""
    return [halves_of_bytes(d), halves_of_bytes(dmin), sc[:, :4] | (sc[:, 4:] >> 4 << 6),
            m[:, :4] | (m[:, 4:] >> 4 << 6), (sc[:, 4:] & 15) | ((m[:, 4:] & 15) << 4)]


def nibbles(q: np.ndarray) -> np.ndarray:
    """Codes [n, 8, 32] as 128 bytes: of each pair of rows the first is the low nibbles."""
    pairs = (q & 15).reshape(len(q), 4, 2, 32)
    return (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(len(q), 128)


def q4_k(b: np.ndarray) -> np.ndarray:
    """Blocks of 256 as 144 bytes each."""
    *head, q = steps(b.reshape(-1, 8, 32), 15)
    return np.concatenate([*k_head(*head), nibbles(q)], 1)


def q5_k(b: np.ndarray) -> np.ndarray:
    """Blocks of 256 as 176 bytes each: bit g of byte i is the fifth bit of code i of row g."""
    *head, q = steps(b.reshape(-1, 8, 32), 31)
    fifth = np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[None, :, None], axis=1)
    return np.concatenate([*k_head(*head), fifth, nibbles(q)], 1)


def q6_k(b: np.ndarray) -> np.ndarray:
    """Blocks of 256 as 210 bytes each: sixteen signed scales of 16 elements, f16 d last."""
    b = b.reshape(-1, 16, 16)
    scale = np.abs(b).max(-1) / 31
    d = (scale.max(-1, keepdims=True) / 127).astype(np.float16)
    sc = np.rint(scale / d.astype(float)).clip(1, 127)
    q = np.rint(b / (d.astype(float) * sc)[..., None]).clip(-32, 31) + 32
    c = q.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([c[:, :, i] & 15 | (c[:, :, i + 2] & 15) << 4 for i in (0, 1)], axis=2)
    high = np.bitwise_or.reduce((c >> 4) << (2 * np.arange(4, dtype=np.uint8))[:, None], axis=2)
    parts = low.reshape(-1, 128), high.reshape(-1, 64), sc.astype(np.int8).view(np.uint8)
    return np.concatenate([*parts, halves_of_bytes(d)], 1)


K_QUANTS = {"q4_k": q4_k, "q5_k": q5_k, "q6_k": q6_k}
# What a code may be off, in rms over the rms of the weights: those of oracles that agree.
OFF = {"f32": 0, "f16": 3e-4, "bf16": 3e-3, "q4_0": 0.11, "q5_0": 0.055, "q8_0": 8e-3,
       "q4_k": 0.09, "q5_k": 0.045, "q6_k": 0.025, "mxfp4": 0.15}


def stored(x: np.ndarray, kind: str) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """A matrix in a type, and the type; gguf-py must read back nearly what went in."""
    known = gguf.GGMLQuantizationType[kind.upper()]
    if kind in K_QUANTS:
        data = K_QUANTS[kind](x.astype(np.float64).reshape(-1, 256)).reshape(len(x), -1)
    else:
        data = gguf.quants.quantize(x, known)
    back = np.asarray(gguf.quants.dequantize(data, known), np.float64)
    off = np.sqrt(((back - x) ** 2).mean() / (x.astype(np.float64) ** 2).mean())
    assert back.shape == x.shape and off <= OFF[kind], (kind, off)
    return data, known


def weights(kind: str) -> dict[str, np.ndarray]:
    """Tensors of a model of one layer by their names in a GGUF file, each drawn once, in order."""
    hidden, size, heads, kv_heads, ffn, vocabulary, context = WIDTHS[kind]
    source = np.random.default_rng(SEEDS[kind])
    q, kv = heads * size, kv_heads * size
    shapes = {"token_embd": (vocabulary, hidden), "output": (vocabulary, hidden),
              "position_embd": (context, hidden), "attn_qkv": (q + 2 * kv, hidden),
              "attn_q": (q, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
              "attn_output": (hidden, q), "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden),
              "ffn_down": (hidden, ffn)}
    names = (*GPT2, "position_embd") if kind == "gpt2" else LLAMA
    biased = {"gpt2": GPT2[1:], "llama": (), "qwen2": LLAMA[2:5]}[kind]
    out = {}

    def put(part: str, suffix: str, x: np.ndarray) -> None:
        block = "blk.0." if part.startswith(("attn", "ffn")) else ""
        out[f"{block}{part}.{suffix}"] = x.astype(np.float32)

    for norm in ("attn_norm", "ffn_norm", "output_norm"):
        # Between 1 and 3, so that what follows is not near zero.
        put(norm, "weight", source.uniform(1, 3, hidden))
        if kind == "gpt2":
            put(norm, "bias", source.normal(0, 0.3, hidden))
    for name in names:
        high, wide = shapes[name]
        table = 0.15 if kind == "gpt2" else 1.0  # what is the head too stays small
        std = table if name.endswith("embd") else 0.6 / np.sqrt(wide)
        put(name, "weight", source.normal(0, std, (high, wide)))
        if name in biased:
            put(name, "bias", source.normal(0, 0.3, high))
    return out


def metadata(writer: gguf.GGUFWriter, kind: str) -> None:
    """What a reader must know, and nothing else."""
    hidden, size, heads, kv_heads, ffn, vocabulary, context = WIDTHS[kind]
    writer.add_name(f"{kind}-types")
    writer.add_block_count(1)
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    if kind == "gpt2":
        writer.add_layer_norm_eps(2e-5)
        return
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(2e-5)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(50000.0)
    writer.add_vocab_size(vocabulary)


def write(path: Path, kind: str, types: dict[str, str]) -> None:
    """One form: matrices in their types, all else in f32."""
    writer = gguf.GGUFWriter(str(path), kind)
    metadata(writer, kind)
    for name, x in weights(kind).items():
        part = name.removeprefix("blk.0.").removesuffix(".weight")
        if part not in types:
            writer.add_tensor(name, x)
            continue
        data, known = stored(x, types[part])
        writer.add_tensor(name, data, raw_dtype=known)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Writes every form, once each type is known to stand everywhere that it can."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    rooms: dict[str, set[str]] = {"attn": set(), "ffn": set(), "table": set()}
    whole = 0
    for kind, forms in FORMS.items():
        folder = out / f"{kind}-types"
        folder.mkdir(parents=True, exist_ok=True)
        for form, words in forms.items():
            types = dict(zip(GPT2 if kind == "gpt2" else LLAMA, words.split(), strict=True))
            for part, stands in types.items():
                room = part.split("_")[0]
                rooms[room if room in rooms else "table"].add(stands)
            path = folder / f"{form}.gguf"
            write(path, kind, types)
            whole += path.stat().st_size
            print(path, path.stat().st_size)
    assert all(room == set(TYPES) for room in rooms.values()), rooms
    print(whole, "bytes")


if __name__ == "__main__":
    main()
