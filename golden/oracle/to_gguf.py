"""Writes the GGUF forms of a model folder: F16 by gguf-py, then others by libggml.

    python3 golden/oracle/to_gguf.py golden/models/llama-tiny [--types q8_0,q4_k_m]

HF form in, `f16.gguf`, `q8_0.gguf`, `q4_k_m.gguf` beside it. Matrices of F16 files are the bits of
the safetensors file; vectors, learned positions and biases are F32, as llama.cpp's converter writes
them. The quantised files come from the F16 one, quantised by `llama_model_quantize` of
llama-cpp-python (the same choice of types a tensor as published Q4_K_M files).
"""

import argparse
import ctypes
import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "gpt2": {
        "wte.weight": "token_embd.weight",
        "wpe.weight": "position_embd.weight",
        "ln_f": "output_norm",
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    "llama": {
        "embed_tokens.weight": "token_embd.weight",
        "norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
}
NAMES["qwen2"] = NAMES["llama"]

PRE = {"gpt2": "gpt-2", "llama": "llama-bpe", "qwen2": "qwen2"}


def renamed(kind: str, name: str) -> str:
    """The GGUF name of a tensor of the HF form."""
    for prefix in ("transformer.", "model."):
        name = name.removeprefix(prefix)
    if name in NAMES[kind]:
        return NAMES[kind][name]
    parts = name.split(".")
    if parts[0] in ("h", "layers"):
        module, suffix = ".".join(parts[2:-1]), parts[-1]
        return f"blk.{parts[1]}.{NAMES[kind][module]}.{suffix}"
    return f"{NAMES[kind]['.'.join(parts[:-1])]}.{parts[-1]}"


def interleaved(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from halves to neighbouring pairs: what GGUF's `llama` rotates."""
    half = x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:])
    return half.swapaxes(1, 2).reshape(x.shape)


def halves(x: np.ndarray, heads: int) -> np.ndarray:
    """The way back: rows of each head from neighbouring pairs to halves."""
    pairs = x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:])
    return pairs.swapaxes(1, 2).reshape(x.shape)


def rope_divisors(rope: dict, width: int) -> np.ndarray:
    """`rope_freqs.weight` [width / 2]: what llama3's scaling divides each frequency by."""
    inv = rope["rope_theta"] ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    wave = 2 * np.pi / inv
    smooth = (original / wave - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    by = np.where(wave < original / high, 1.0, np.where(wave > original / low, factor, between))
    return by.astype(np.float32)


def metadata(writer: gguf.GGUFWriter, kind: str, c: dict) -> None:
    writer.add_name(f"{kind}-tiny")
    if kind == "gpt2":
        writer.add_block_count(c["n_layer"])
        writer.add_context_length(c["n_positions"])
        writer.add_embedding_length(c["n_embd"])
        writer.add_feed_forward_length(c.get("n_inner") or 4 * c["n_embd"])
        writer.add_head_count(c["n_head"])
        writer.add_layer_norm_eps(c["layer_norm_epsilon"])
        return
    heads = c["num_attention_heads"]
    size = c.get("head_dim") or c["hidden_size"] // heads
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(c["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(c["vocab_size"])


def vocabulary(writer: gguf.GGUFWriter, kind: str, folder: Path, c: dict, rows: int) -> None:
    t = json.loads((folder / "tokenizer.json").read_text())
    ids = dict(t["model"]["vocab"])
    added = {a["content"]: a["id"] for a in t["added_tokens"]}
    ids.update(added)
    tokens = [f"[PAD{i}]" for i in range(rows)]
    types = [gguf.TokenType.UNUSED] * rows
    for text, i in ids.items():
        tokens[i] = text
        types[i] = gguf.TokenType.CONTROL if text in added else gguf.TokenType.NORMAL
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE[kind])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(c["bos_token_id"])
    writer.add_eos_token_id(c["eos_token_id"])
    writer.add_add_bos_token(t.get("post_processor") is not None)


def f16(folder: Path) -> Path:
    c = json.loads((folder / "hf" / "config.json").read_text())
    kind = c["model_type"]
    out = folder / "f16.gguf"
    writer = gguf.GGUFWriter(str(out), kind)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tensors = load_file(str(folder / "hf" / "model.safetensors"))
    metadata(writer, kind, c)
    vocabulary(writer, kind, folder / "hf", c, c["vocab_size"])
    rope = c.get("rope_parameters") or {}
    if rope.get("rope_type") == "llama3":
        size = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
        writer.add_tensor("rope_freqs.weight", rope_divisors(rope, size))
    for name, x in tensors.items():
        if name == "lm_head.weight" and c.get("tie_word_embeddings"):
            continue
        new = renamed(kind, name)
        if kind == "gpt2" and x.ndim == 2 and "blk." in new:
            x = x.T
        if kind == "llama" and ("attn_q." in new or "attn_k." in new):
            key = "num_attention_heads" if "attn_q." in new else "num_key_value_heads"
            x = interleaved(x, c[key])
        wide = x.ndim == 1 or new == "position_embd.weight"
        writer.add_tensor(new, np.ascontiguousarray(x.astype(np.float32) if wide else x))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def quantise(source: Path, types: list[str]) -> None:
    import llama_cpp

    kinds = {
        "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
        "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    }
    for kind in types:
        p = llama_cpp.llama_model_quantize_default_params()
        p.ftype, p.nthread = kinds[kind], 1
        out = source.with_name(f"{kind}.gguf")
        done = llama_cpp.llama_model_quantize(
            str(source).encode(), str(out).encode(), ctypes.byref(p)
        )
        assert done == 0, (out, done)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--types", default="q8_0,q4_k_m")
    given = parser.parse_args()
    source = f16(given.folder)
    quantise(source, [t for t in given.types.split(",") if t])


if __name__ == "__main__":
    main()
