"""Opens a model: an HF folder or a GGUF file becomes one `Model`, plain names, plain layouts.

Whatever the file does, a `Model` has matrices as [out, in], q, k and v apart, rotary halves (never
pairs), and these names: `embed`, `positions`, `head`, `final.norm`, `layer.N.attn.{norm,q,k,v,o}`,
`layer.N.ffn.{norm,gate,up,down}`, each with `.weight` and, where the file has one, `.bias`.
Values are those of the file, widened exactly; block types are dequantised by gguf-py.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

from stored import widen

# Above this many numbers weights stay in float32, which holds every stored value as it is, and
# are widened product by product.
KEPT_WIDE = 300_000_000
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
KINDS = ("gpt2", "llama", "qwen2")


class Unreadable(Exception):
    """The model is of a form or kind that the reference does not know; the message says what."""


@dataclass
class Config:
    """The numbers of a model. `window` has a layer's width, or 0 for all that came before."""

    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    context: int
    eps: float
    tied: bool
    gelu: str = "tanh"
    theta: float = 10000.0
    rotary: int = 0
    scaling: dict | None = None
    divisors: np.ndarray | None = None
    window: list[int] = field(default_factory=list)


@dataclass
class Model:
    """A configuration and its weights by name."""

    config: Config
    weights: dict[str, np.ndarray]

    def widened(self) -> "Model":
        """The same with float64 weights, unless they are too many."""
        if sum(w.size for w in self.weights.values()) <= KEPT_WIDE:
            self.weights = {k: np.asarray(w, np.float64) for k, w in self.weights.items()}
        return self


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The floating tensors of a safetensors file; f16 and bf16 widened to float32."""
    data = np.memmap(path, np.uint8, "r")
    length = struct.unpack("<Q", data[:8].tobytes())[0]
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        if entry["dtype"] not in STORED:  # masks that old files carry
            continue
        begin, end = (8 + length + at for at in entry["data_offsets"])
        bits = np.frombuffer(data[begin:end].tobytes(), STORED[entry["dtype"]])
        wide = widen(bits, "bf16").astype(np.float32) if entry["dtype"] == "BF16" else bits
        out[name] = np.asarray(wide.astype(np.float32, copy=False)).reshape(entry["shape"])
    return out


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder: one file, or the shards that the index names."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read_safetensors(folder / "model.safetensors")
    shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return {k: v for shard in shards for k, v in read_safetensors(folder / shard).items()}


HF_GPT2 = {
    "ln_1": "attn.norm",
    "attn.c_attn": "attn.qkv",
    "attn.c_proj": "attn.o",
    "ln_2": "ffn.norm",
    "mlp.c_fc": "ffn.up",
    "mlp.c_proj": "ffn.down",
}
HF_LLAMA = {
    "input_layernorm": "attn.norm",
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.o_proj": "attn.o",
    "post_attention_layernorm": "ffn.norm",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
}
HF_TOP = {
    "wte": "embed",
    "wpe": "positions",
    "ln_f": "final.norm",
    "embed_tokens": "embed",
    "norm": "final.norm",
    "lm_head": "head",
}
GGUF_LAYER = {
    "attn_norm": "attn.norm",
    "attn_qkv": "attn.qkv",
    "attn_q": "attn.q",
    "attn_k": "attn.k",
    "attn_v": "attn.v",
    "attn_output": "attn.o",
    "ffn_norm": "ffn.norm",
    "ffn_gate": "ffn.gate",
    "ffn_up": "ffn.up",
    "ffn_down": "ffn.down",
}
GGUF_TOP = {
    "token_embd": "embed",
    "position_embd": "positions",
    "output_norm": "final.norm",
    "output": "head",
}


def plain_name(name: str, layers: tuple[str, ...], inner: dict, top: dict) -> str | None:
    """The name of ours for a file's tensor, or None where it is nothing that a model reads."""
    parts = name.removeprefix("transformer.").removeprefix("model.").split(".")
    suffix = parts[-1]
    if suffix not in ("weight", "bias"):
        return None
    if parts[0] in layers:
        known = inner.get(".".join(parts[2:-1]))
        return known and f"layer.{parts[1]}.{known}.{suffix}"
    known = top.get(".".join(parts[:-1]))
    return known and f"{known}.{suffix}"


def apart(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fused q, k, v (thirds of the rows, as only GPT-2 has them) as three."""
    out = {}
    for name, w in weights.items():
        if ".qkv." not in name:
            out[name] = w
            continue
        for part, third in zip("qkv", np.split(w, 3)):
            out[name.replace(".qkv.", f".{part}.")] = third
    return out


def halves(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from neighbouring pairs, as a llama GGUF has them, to halves."""
    pairs = x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:])
    return pairs.swapaxes(1, 2).reshape(x.shape)


def rope_of(c: dict) -> tuple[float, dict | None]:
    """Theta and scaling of an HF configuration, whichever of the two key styles it has."""
    new = c.get("rope_parameters") or {}
    old = c.get("rope_scaling") or {}
    theta = new.get("rope_theta", c.get("rope_theta", 10000.0))
    scaling = new or old
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return float(theta), None
    if kind != "llama3":
        raise Unreadable(f"rope scaling {kind}")
    return float(theta), scaling


def gpt2_config(c: dict) -> Config:
    """GPT-2 from config.json."""
    if c.get("scale_attn_by_inverse_layer_idx") or not c.get("scale_attn_weights", True):
        raise Unreadable("attention scales other than one over the root of the head size")
    gelu = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}
    return Config(
        kind="gpt2",
        layers=c["n_layer"],
        hidden=c["n_embd"],
        heads=c["n_head"],
        kv_heads=c["n_head"],
        head_size=c["n_embd"] // c["n_head"],
        ffn=c.get("n_inner") or 4 * c["n_embd"],
        vocabulary=c["vocab_size"],
        context=c["n_positions"],
        eps=c.get("layer_norm_epsilon", 1e-5),
        tied=c.get("tie_word_embeddings", True),
        gelu=gelu[c.get("activation_function", "gelu_new")],
        window=[0] * c["n_layer"],
    )


def hf_config(c: dict) -> Config:
    """A config.json, of the style of transformers 5 or of published files."""
    kind = c.get("model_type")
    if kind == "gpt2":
        return gpt2_config(c)
    if kind not in KINDS:
        raise Unreadable(f"model type {kind}")
    if c.get("hidden_act", "silu") != "silu":
        raise Unreadable(f"activation {c['hidden_act']}")
    heads = c["num_attention_heads"]
    head_size = c.get("head_dim") or c["hidden_size"] // heads
    theta, scaling = rope_of(c)
    slides = c.get("use_sliding_window") and c.get("sliding_window")
    types = c.get("layer_types") or [
        "sliding_attention" if slides and i >= c.get("max_window_layers", 28) else "full_attention"
        for i in range(c["num_hidden_layers"])
    ]
    return Config(
        kind=kind,
        layers=c["num_hidden_layers"],
        hidden=c["hidden_size"],
        heads=heads,
        kv_heads=c.get("num_key_value_heads") or heads,
        head_size=head_size,
        ffn=c["intermediate_size"],
        vocabulary=c["vocab_size"],
        context=c["max_position_embeddings"],
        eps=c.get("rms_norm_eps", 1e-6),
        tied=c.get("tie_word_embeddings", False),
        theta=theta,
        rotary=head_size,
        scaling=scaling,
        window=[c["sliding_window"] if t == "sliding_attention" else 0 for t in types],
    )


def open_folder(folder: Path) -> Model:
    """config.json and model.safetensors (or its shards)."""
    config = hf_config(json.loads((folder / "config.json").read_text()))
    weights = {}
    inner = HF_GPT2 if config.kind == "gpt2" else HF_LLAMA
    for name, w in read_folder(folder).items():
        known = plain_name(name, ("h", "layers"), inner, HF_TOP)
        if known is None:
            continue
        # Conv1D keeps [in, out]: the product is x·w, not x·wᵀ.
        conv1d = config.kind == "gpt2" and known.startswith("layer.") and w.ndim == 2
        weights[known] = w.T if conv1d else w
    return finished(config, apart(weights))


def gguf_config(value, tensors: dict[str, np.ndarray]) -> Config:
    """A GGUF file's metadata; `value` gives a key's value or the default."""
    kind = value("general.architecture")
    if kind not in KINDS:
        raise Unreadable(f"architecture {kind}")

    def of(key: str, default=None):
        found = value(f"{kind}.{key}", default)
        if found is None:
            raise Unreadable(f"no key {kind}.{key}")
        return found

    if value(f"{kind}.rope.scaling.type", "none") != "none":
        raise Unreadable("rope scaling by keys")
    heads, hidden, layers = of("attention.head_count"), of("embedding_length"), of("block_count")
    head_size = of("attention.key_length", hidden // heads)
    norm = "layer_norm_epsilon" if kind == "gpt2" else "layer_norm_rms_epsilon"
    return Config(
        kind=kind,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=of("attention.head_count_kv", heads),
        head_size=head_size,
        ffn=of("feed_forward_length"),
        vocabulary=tensors["token_embd.weight"].shape[0],
        context=of("context_length"),
        eps=of(f"attention.{norm}"),
        tied="output.weight" not in tensors,
        theta=of("rope.freq_base", 10000.0),
        rotary=0 if kind == "gpt2" else of("rope.dimension_count", head_size),
        divisors=tensors.get("rope_freqs.weight"),
        window=[0] * layers,
    )


def open_gguf(path: Path) -> Model:
    """A GGUF file; rows of q and k of a llama file come back as halves."""
    reader = gguf.GGUFReader(str(path))

    def value(key: str, default=None):
        found = reader.get_field(key)
        return default if found is None else found.contents()

    tensors = {
        t.name: np.asarray(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)
        for t in reader.tensors
    }
    config = gguf_config(value, tensors)
    weights = {}
    for name, w in tensors.items():
        known = plain_name(name, ("blk",), GGUF_LAYER, GGUF_TOP)
        if known is None:
            continue
        if config.kind == "llama" and ".attn.q." in known:
            w = halves(w, config.heads)
        if config.kind == "llama" and ".attn.k." in known:
            w = halves(w, config.kv_heads)
        weights[known] = w
    return finished(config, apart(weights))


def finished(config: Config, weights: dict[str, np.ndarray]) -> Model:
    """The model with its head, whose shapes are those that the configuration says."""
    c = config
    if c.tied:
        weights["head.weight"] = weights["embed.weight"]
    q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
    shapes = {"attn.q": (q, c.hidden), "attn.k": (kv, c.hidden), "attn.v": (kv, c.hidden),
              "attn.o": (c.hidden, q), "ffn.up": (c.ffn, c.hidden), "ffn.down": (c.hidden, c.ffn),
              "attn.norm": (c.hidden,), "ffn.norm": (c.hidden,)}
    if c.kind != "gpt2":
        shapes["ffn.gate"] = (c.ffn, c.hidden)
    wanted = {f"layer.{i}.{n}.weight": s for i in range(c.layers) for n, s in shapes.items()}
    wanted["embed.weight"] = wanted["head.weight"] = (c.vocabulary, c.hidden)
    wanted["final.norm.weight"] = (c.hidden,)
    for name, shape in wanted.items():
        found = weights[name].shape if name in weights else None
        if found != shape:
            raise Unreadable(f"{name} is {found}, wants {shape}")
    return Model(config, weights).widened()


def open_model(path: Path) -> Model:
    """The model in a folder or a .gguf file."""
    if not path.exists():
        raise Unreadable(f"no {path.name}")
    return open_folder(path) if path.is_dir() else open_gguf(path)
