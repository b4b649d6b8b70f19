"""The second witness: transformers in float32, eager, with hooks where the slots are.

`SLOTS` says for each architecture which module's input or output is which slot; `{n}` is a layer.
A value inside a module (q and k after the rotation) has no hook: they are seen by an attention
function of our own, which notes its arguments and calls the module's eager one.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)
from transformers.masking_utils import eager_mask

import to_gguf

transformers.utils.logging.disable_progress_bar()

# slot → (module, "in" or "out", third of the width where one product gives q, k and v)
GPT2 = {
    "embed.tokens": ("transformer.wte", "out", None),
    "embed": ("transformer.h.0", "in", None),
    "layer.{n}.attn.norm": ("transformer.h.{n}.ln_1", "out", None),
    "layer.{n}.attn.q": ("transformer.h.{n}.attn.c_attn", "out", 0),
    "layer.{n}.attn.k": ("transformer.h.{n}.attn.c_attn", "out", 1),
    "layer.{n}.attn.v": ("transformer.h.{n}.attn.c_attn", "out", 2),
    "layer.{n}.attn.out": ("transformer.h.{n}.attn.c_proj", "in", None),
    "layer.{n}.attn.o": ("transformer.h.{n}.attn.c_proj", "out", None),
    "layer.{n}.attn.sum": ("transformer.h.{n}.ln_2", "in", None),
    "layer.{n}.ffn.norm": ("transformer.h.{n}.ln_2", "out", None),
    "layer.{n}.ffn.up": ("transformer.h.{n}.mlp.c_fc", "out", None),
    "layer.{n}.ffn.act": ("transformer.h.{n}.mlp.c_proj", "in", None),
    "layer.{n}.ffn.down": ("transformer.h.{n}.mlp.c_proj", "out", None),
    "layer.{n}.out": ("transformer.h.{n}", "out", None),
    "final.norm": ("transformer.ln_f", "out", None),
    "logits": ("lm_head", "out", None),
}
LLAMA = {
    "embed": ("model.embed_tokens", "out", None),
    "layer.{n}.attn.norm": ("model.layers.{n}.input_layernorm", "out", None),
    "layer.{n}.attn.q": ("model.layers.{n}.self_attn.q_proj", "out", None),
    "layer.{n}.attn.k": ("model.layers.{n}.self_attn.k_proj", "out", None),
    "layer.{n}.attn.v": ("model.layers.{n}.self_attn.v_proj", "out", None),
    "layer.{n}.attn.out": ("model.layers.{n}.self_attn.o_proj", "in", None),
    "layer.{n}.attn.o": ("model.layers.{n}.self_attn.o_proj", "out", None),
    "layer.{n}.attn.sum": ("model.layers.{n}.post_attention_layernorm", "in", None),
    "layer.{n}.ffn.norm": ("model.layers.{n}.post_attention_layernorm", "out", None),
    "layer.{n}.ffn.gate": ("model.layers.{n}.mlp.gate_proj", "out", None),
    "layer.{n}.ffn.up": ("model.layers.{n}.mlp.up_proj", "out", None),
    "layer.{n}.ffn.act": ("model.layers.{n}.mlp.down_proj", "in", None),
    "layer.{n}.ffn.down": ("model.layers.{n}.mlp.down_proj", "out", None),
    "layer.{n}.out": ("model.layers.{n}", "out", None),
    "final.norm": ("model.norm", "out", None),
    "logits": ("lm_head", "out", None),
}
SLOTS = {"gpt2": GPT2, "llama": LLAMA, "qwen2": LLAMA}
# The arguments of the attention function: query and key as they are multiplied.
ROTATED = {"llama": ("q_rope", "k_rope"), "qwen2": ("q_rope", "k_rope"), "gpt2": ()}

# Where the attention function of a traced run puts them; None while nobody asks.
NOTES: dict[str, np.ndarray] | None = None


def rows(x: torch.Tensor) -> np.ndarray:
    """A batch of one as float64 rows, flattened behind the first axis."""
    return x[0].reshape(x.shape[1], -1).double().numpy()


def noted_eager(module, query, key, value, attention_mask, **more):
    """Notes query and key [1, heads, n, size] under their slots; answers as the eager function."""
    names = ROTATED[module.config.model_type]
    if NOTES is not None:
        for name, x in zip(names, (query, key)):
            NOTES[f"layer.{module.layer_idx}.attn.{name}"] = rows(x.transpose(1, 2))
    eager = sys.modules[type(module).__module__].eager_attention_forward
    return eager(module, query, key, value, attention_mask, **more)


AttentionInterface.register("noted_eager", noted_eager)
AttentionMaskInterface.register("noted_eager", eager_mask)


def gguf_state(path: Path, config, state: dict) -> dict:
    """The state of an HF model with every tensor of a GGUF file in place of its own."""
    stored = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        for t in gguf.GGUFReader(str(path)).tensors
    }
    kind, new = config.model_type, {}
    for name, value in state.items():
        tied = name == "lm_head.weight" and config.tie_word_embeddings
        known = "token_embd.weight" if tied else to_gguf.renamed(kind, name)
        x = stored[known]
        if kind == "gpt2" and value.ndim == 2 and "blk." in known:
            x = x.T
        if kind == "llama" and ("attn_q." in known or "attn_k." in known):
            key = "num_attention_heads" if "attn_q." in known else "num_key_value_heads"
            x = to_gguf.halves(x, getattr(config, key))
        new[name] = torch.from_numpy(np.ascontiguousarray(x)).reshape(value.shape)
    return new


def gguf_config(path: Path):
    """The configuration that a GGUF file's metadata tells; transformers' own reader of GGUF leaves
    out the feed-forward width, the head size and Llama 3's divisors."""
    file = gguf.GGUFReader(str(path))
    kind = file.get_field("general.architecture").contents()
    names = {t.name: t for t in file.tensors}

    def of(key: str, default=None):
        found = file.get_field(f"{kind}.{key}")
        return default if found is None else found.contents()

    rows = int(names["token_embd.weight"].shape[1])
    same = {"vocab_size": rows, "tie_word_embeddings": "output.weight" not in names}
    heads, hidden = of("attention.head_count"), of("embedding_length")
    if kind == "gpt2":
        return GPT2Config(
            n_positions=of("context_length"), n_embd=hidden, n_layer=of("block_count"),
            n_head=heads, n_inner=of("feed_forward_length"),
            layer_norm_epsilon=of("attention.layer_norm_epsilon"), **same,
        )
    theta = {"rope_type": "default", "rope_theta": of("rope.freq_base", 10000.0)}
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](
        hidden_size=hidden, intermediate_size=of("feed_forward_length"),
        num_hidden_layers=of("block_count"), num_attention_heads=heads,
        num_key_value_heads=of("attention.head_count_kv", heads),
        head_dim=of("attention.key_length", hidden // heads),
        max_position_embeddings=of("context_length"), rope_parameters=theta,
        rms_norm_eps=of("attention.layer_norm_rms_epsilon"), **same,
    )


def divide_frequencies(model, path: Path) -> None:
    """Llama 3's scaling as a GGUF file has it: a divisor a frequency."""
    for t in gguf.GGUFReader(str(path)).tensors:
        if t.name == "rope_freqs.weight":
            model.model.rotary_emb.inv_freq /= torch.from_numpy(np.array(t.data, np.float32))


def load(path: Path, hf: Path | None):
    """The model of `path` in float32: a folder, or a GGUF file's weights in the code of `hf`.

    Without `hf` the file's own metadata must do.
    """
    how = {"dtype": torch.float32, "attn_implementation": "noted_eager"}
    if path.is_dir():
        return AutoModelForCausalLM.from_pretrained(path, **how).eval()
    if hf is None:
        model = AutoModelForCausalLM.from_config(gguf_config(path), **how).eval()
        divide_frequencies(model, path)
    else:
        model = AutoModelForCausalLM.from_pretrained(hf, **how).eval()
    model.load_state_dict(gguf_state(path, model.config, model.state_dict()))
    return model


class Transformers:
    """A model of transformers that answers as the reference does."""

    version = f"{transformers.__version__} (torch {torch.__version__})"

    def __init__(self, path: Path, hf: Path | None):
        self.model = load(path, hf)

    def forward(self, ids, slots: dict | None = None) -> np.ndarray:
        """Logits [n, v] of a text from its beginning; fills `slots` with all that have a hook."""
        global NOTES
        handles = self.hooked(slots) if slots is not None else []
        NOTES = slots
        try:
            with torch.no_grad():
                text = torch.tensor([np.asarray(ids).tolist()])
                return rows(self.model(text, use_cache=False).logits)
        finally:
            NOTES = None
            for handle in handles:
                handle.remove()

    def hooked(self, slots: dict) -> list:
        """A hook for every slot of every layer; each writes into `slots`."""
        handles = []
        for slot, (module, side, third) in SLOTS[self.model.config.model_type].items():
            layers = range(self.model.config.num_hidden_layers) if "{n}" in slot else [0]
            for n in layers:
                part = self.model.get_submodule(module.format(n=n))
                handles.append(hook(part, side, third, slots, slot.format(n=n)))
        return handles


def hook(part, side: str, third: int | None, slots: dict, slot: str):
    """Notes the first input or the output of a module."""

    def note(x) -> None:
        x = x[0] if isinstance(x, tuple) else x
        x = x if third is None else x.chunk(3, -1)[third]
        slots[slot] = rows(x)

    if side == "in":
        return part.register_forward_pre_hook(lambda _, given: note(given))
    return part.register_forward_hook(lambda _, __, result: note(result))
