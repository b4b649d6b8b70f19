"""Writes models that no real one resembles: odd widths, random weights, old keys, no tokenizer.

    python3 golden/oracle/make_awkward.py [OUT]

OUT (golden/models) gets <name>/hf with config.json in the keys of published files (`rope_theta`,
`torch_dtype`) and model.safetensors in float32, full 24 bits. Heads are 24 wide where the hidden
width over the heads would be 14 or 13.3 (transformers wants a whole number for Llama only), no
width is a multiple of 32, and what old files carry beside their weights (GPT-2's masks, Llama's
frequencies) is there to be skipped.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MODELS = Path(__file__).resolve().parent.parent / "models"
VOCABULARY, HIDDEN, FFN = 131, 40, 56
HEADS, SIZE = 3, 24
CONTEXT = {"gpt2": 48, "llama": 96, "qwen2": 72}
STD = 0.08

GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "bos_token_id": 130,
    "eos_token_id": 130,
    "layer_norm_epsilon": 2e-5,
    "model_type": "gpt2",
    "n_ctx": CONTEXT["gpt2"],
    "n_embd": HIDDEN,
    "n_head": 5,
    "n_inner": FFN,
    "n_layer": 1,
    "n_positions": CONTEXT["gpt2"],
    "torch_dtype": "float32",
    "vocab_size": VOCABULARY,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": SIZE,
    "hidden_act": "silu",
    "hidden_size": 42,
    "intermediate_size": FFN,
    "max_position_embeddings": CONTEXT["llama"],
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "rms_norm_eps": 2e-5,
    "rope_scaling": None,
    "rope_theta": 50000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": VOCABULARY,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "head_dim": SIZE,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": 44,
    "max_position_embeddings": CONTEXT["qwen2"],
    "max_window_layers": 1,
    "model_type": "qwen2",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "sliding_window": CONTEXT["qwen2"],
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_sliding_window": False,
    "vocab_size": VOCABULARY,
}


class Random:
    """Weights by name, each drawn once, in order."""

    def __init__(self, seed: int):
        self.source = np.random.default_rng(seed)
        self.weights: dict[str, np.ndarray] = {}

    def put(self, name: str, x: np.ndarray) -> None:
        """Keeps a tensor as float32."""
        self.weights[name] = np.ascontiguousarray(x, dtype=np.float32)

    def matrix(self, name: str, *shape: int) -> None:
        """N(0, STD)."""
        self.put(name, self.source.normal(0, STD, shape))

    def norm(self, name: str, width: int) -> None:
        """Between 1 and 3, so that what follows is not near zero."""
        self.put(name, self.source.uniform(1, 3, width))

    def bias(self, name: str, width: int) -> None:
        """N(0, 0.3): nobody may forget it."""
        self.put(name, self.source.normal(0, 0.3, width))


def gpt2(seed: int) -> tuple[dict, dict]:
    """One block, names without the prefix, and the mask that old files carry."""
    r, c = Random(seed), GPT2
    r.matrix("wte.weight", VOCABULARY, HIDDEN)
    r.matrix("wpe.weight", c["n_positions"], HIDDEN)
    for norm in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        r.norm(f"{norm}.weight", HIDDEN)
        r.bias(f"{norm}.bias", HIDDEN)
    for name, wide, high in (("attn.c_attn", HIDDEN, 3 * HIDDEN), ("attn.c_proj", HIDDEN, HIDDEN),
                             ("mlp.c_fc", HIDDEN, FFN), ("mlp.c_proj", FFN, HIDDEN)):
        r.matrix(f"h.0.{name}.weight", wide, high)
        r.bias(f"h.0.{name}.bias", high)
    r.put("h.0.attn.bias", np.tril(np.ones((c["n_ctx"], c["n_ctx"])))[None, None])
    return c, r.weights


def llama(seed: int, c: dict) -> tuple[dict, dict]:
    """One block of Llama or, with biases on q, k and v, of Qwen2."""
    r, ffn, kv = Random(seed), c["intermediate_size"], c["num_key_value_heads"] * SIZE
    hidden = c["hidden_size"]
    block = "model.layers.0"
    r.matrix("model.embed_tokens.weight", VOCABULARY, hidden)
    for norm in (f"{block}.input_layernorm", f"{block}.post_attention_layernorm", "model.norm"):
        r.norm(f"{norm}.weight", hidden)
    for name, high, wide in (
        ("self_attn.q_proj", HEADS * SIZE, hidden),
        ("self_attn.k_proj", kv, hidden),
        ("self_attn.v_proj", kv, hidden),
        ("self_attn.o_proj", hidden, HEADS * SIZE),
        ("mlp.gate_proj", ffn, hidden),
        ("mlp.up_proj", ffn, hidden),
        ("mlp.down_proj", hidden, ffn),
    ):
        r.matrix(f"{block}.{name}.weight", high, wide)
        if c["model_type"] == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
            r.bias(f"{block}.{name}.bias", high)
    if not c["tie_word_embeddings"]:
        r.matrix("lm_head.weight", VOCABULARY, hidden)
    if c["model_type"] == "llama":
        inv = c["rope_theta"] ** (-np.arange(0, SIZE, 2) / SIZE)
        r.put(f"{block}.self_attn.rotary_emb.inv_freq", inv)
    return c, r.weights


def main() -> None:
    """Writes all three."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    made = {"gpt2": gpt2(31), "llama": llama(32, LLAMA), "qwen2": llama(33, QWEN2)}
    for kind, (config, weights) in made.items():
        folder = out / f"{kind}-awkward" / "hf"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        print(folder, sum(f.stat().st_size for f in folder.iterdir()))


if __name__ == "__main__":
    main()
