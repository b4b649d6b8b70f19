"""Transformers on trial: folders of the hub, by torch on the CPU. From the root of the repository:

    pip install -r docs/adapters/requirements-transformers.txt
    goldgate run 'llama-tiny::*' --on 'transformers=python3 docs/adapters/transformers_engine.py'
"""
import copy
import os

import numpy as np

from goldtext import Model, Words, in_vocabulary, serve, without
from goldwire import Refused, Subject, Unsupported

# slot → (module, "in" or "out" of it, third of the width where one product gives q, k and v)
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
}
HOOKS = {"gpt2": GPT2, "llama": LLAMA, "qwen2": LLAMA}
CACHED = ["layer.{n}.kv.k", "layer.{n}.kv.v"]
ROTATED = ["layer.{n}.attn.q_rope", "layer.{n}.attn.k_rope"]
TRACED = sorted({slot.format(n="*") for slots in (*HOOKS.values(), CACHED, ROTATED)
                 for slot in slots})

subject = Subject("transformers", formats=["safetensors", "tokenizer.json"],
                  architectures=list(HOOKS), trace=TRACED, trace_mode="as_run", claims=["run"])

import torch  # after Subject, so that what it prints goes to stderr
import transformers
from tokenizers.decoders import DecodeStream

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# Where the attention function notes query and key; None while no slot of theirs is wanted.
NOTES: dict | None = None


def noted_attention(module, query, key, value, attention_mask, **more):
    """Transformers' default attention, which also notes query and key [1, heads, n, head size] as
    they are multiplied: no module has the rotated ones as its input or output."""
    if NOTES is not None:
        n = query.shape[2]
        for name, x in (("q_rope", query), ("k_rope", key[:, :, -n:])):
            NOTES[f"layer.{module.layer_idx}.attn.{name}"] = flat(x.transpose(1, 2))
    attend = transformers.AttentionInterface()["sdpa"]
    return attend(module, query, key, value, attention_mask, **more)


def flat(x: torch.Tensor) -> torch.Tensor:
    """A batch of one as rows: [1, n, …] to [n, width], copied before the model goes on with it."""
    return x[0].reshape(x.shape[1], -1).clone()


class Tokens(Words):
    """A tokenizer.json. Transformers takes and gives str, so text that is no UTF-8 cannot be
    encoded, and comes back with U+FFFD."""

    def __init__(self, path: str):
        self.fast = transformers.PreTrainedTokenizerFast(tokenizer_file=path)

    def encode(self, text, add_special, parse_special):
        try:
            return self.fast.encode(text.decode(), add_special_tokens=add_special,
                                    split_special_tokens=not parse_special)
        except UnicodeDecodeError:
            raise Unsupported("text that is no UTF-8: transformers takes str") from None

    def decode(self, ids, skip_special):
        in_vocabulary(np.array(ids, np.int32), len(self.fast))
        return self.fast.decode(ids, skip_special_tokens=skip_special).encode()

    def stream(self, skip_special):
        return Stream(self, skip_special)


class Stream:
    """The stream of the package `tokenizers`, as transformers' streamers and servers use it."""

    def __init__(self, tokens: Tokens, skip_special: bool):
        self.tokens, self.skip = tokens, skip_special
        self.decoder, self.ids, self.bytes = DecodeStream(skip_special_tokens=skip_special), [], b""

    def push(self, token):
        in_vocabulary(np.array([token]), len(self.tokens.fast))
        piece = self.decoder.step(self.tokens.fast.backend_tokenizer, token) or ""
        self.ids.append(token)
        self.bytes += piece.encode()
        return piece.encode()

    def rest(self):
        # The stream has no end of its own: what it holds back is what the whole has more.
        return self.tokens.decode(self.ids, self.skip)[len(self.bytes):]


def check(ask: dict, path: str, dtype: str) -> None:
    """Says what is not offered, before anything is allocated."""
    if path.endswith(".gguf") or os.path.isfile(path):
        raise Unsupported("files other than folders of the hub")
    if not os.path.isdir(path):
        raise Refused("IO", "path", f"{path} does not exist")
    if dtype not in TYPES:
        raise Unsupported(f"activations in {dtype}")
    if ask.get("kv") not in (None, dtype):
        raise Unsupported(f"a cache in {ask['kv']} beside activations in {dtype}")
    without(ask, "sha256", "yarn", "budget_bytes")


class Loaded(Model):
    """A causal language model of transformers in one type throughout."""

    def __init__(self, ask: dict, path: str, context: int | None, trace: list):
        dtype = ask.get("activations") or "f32"
        check(ask, path, dtype)
        try:
            config = transformers.AutoConfig.from_pretrained(path)
        except (OSError, ValueError) as e:
            raise Refused("Malformed", "path", str(e).splitlines()[0]) from e
        if config.model_type not in HOOKS:
            raise Unsupported(f"architecture {config.model_type}")
        made_for = config.max_position_embeddings
        if context and context > made_for:
            raise Refused("CapacityExceeded", "context", f"{context}, made for {made_for}")
        how = "noted" if trace else "sdpa"
        try:
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                path, config=config, dtype=TYPES[dtype], attn_implementation=how).eval()
        except (OSError, ValueError) as e:
            raise Refused("Malformed", "path", str(e).splitlines()[0]) from e
        own = self.model.generation_config.eos_token_id
        self.ends = set() if own is None else {own} if isinstance(own, int) else set(own)
        # Generation settings that came with the model must not join those of a question.
        self.model.generation_config = transformers.GenerationConfig()
        words = os.path.join(path, "tokenizer.json")
        self.words = Tokens(words) if os.path.exists(words) else None
        self.context, self.vocabulary = context or made_for, config.vocab_size
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        names = [*HOOKS[config.model_type], *CACHED]
        names += [] if config.model_type == "gpt2" else ROTATED
        self.slots = [] if not trace else list(dict.fromkeys(
            name.format(n=n) for name in names for n in range(layers)))
        self.facts = {
            "architecture": config.model_type, "activations": dtype, "kv": dtype,
            "bytes_weights": self.model.get_memory_footprint(),
            "config": {"context": made_for, "vocabulary": config.vocab_size,
                       "hidden": config.hidden_size, "layers": layers, "heads": heads,
                       "kv_heads": getattr(config, "num_key_value_heads", heads)}}

    def open(self):
        return transformers.DynamicCache(config=self.model.config)

    def feed(self, session, ids, rows, slots):
        global NOTES
        traced: dict[str, torch.Tensor] = {}
        hooks, NOTES = self.hooked(traced) if slots else [], traced if slots else None
        try:
            with torch.no_grad():
                # Without a row the model still computes one, which is not handed out.
                index = torch.tensor(rows or [len(ids) - 1])
                found = self.model(input_ids=torch.from_numpy(ids.astype(np.int64))[None],
                                   past_key_values=session, use_cache=True, logits_to_keep=index)
        finally:
            NOTES = None
            for hook in hooks:
                hook.remove()
        if slots:
            for n, layer in enumerate(session.layers):
                for name, x in (("k", layer.keys), ("v", layer.values)):
                    traced[f"layer.{n}.kv.{name}"] = flat(x[:, :, -len(ids):].transpose(1, 2))
        logits = found.logits[0].float().numpy()[:len(rows)]
        named = {dtype: name for name, dtype in TYPES.items()}
        return logits, {name: (traced[name].float().numpy(), named[traced[name].dtype])
                        for name in slots if name in traced}

    def hooked(self, traced: dict) -> list:
        """A hook for every slot that a module has as its input or output."""
        hooks = []
        for slot, (module, side, third) in HOOKS[self.model.config.model_type].items():
            for n in range(self.model.config.num_hidden_layers if "{n}" in slot else 1):
                def note(x, name=slot.format(n=n), third=third):
                    x = x[0] if isinstance(x, tuple) else x
                    traced[name] = flat(x if third is None else x.chunk(3, -1)[third])
                part = self.model.get_submodule(module.format(n=n))
                hooks.append(part.register_forward_pre_hook(lambda _, x, note=note: note(x))
                             if side == "in" else
                             part.register_forward_hook(lambda _, x, y, note=note: note(y)))
        return hooks

    def fork(self, session, keep):
        new = copy.deepcopy(session)
        if extra := new.get_seq_length() - keep:
            new.crop(-extra)
        return new

    def draw(self, ids, count, sampling, take):
        drawn = sampling["temperature"] > 0
        chain = {"temperature": sampling["temperature"], "top_k": sampling["top_k"],
                 "top_p": sampling["top_p"], "min_p": sampling["min_p"]} if drawn else {}
        torch.manual_seed(sampling["seed"])
        stop = transformers.StoppingCriteriaList([
            lambda text, scores, **_: torch.tensor([not take(int(text[0, -1]))])])
        prompt = torch.from_numpy(ids.astype(np.int64))[None]
        self.model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=drawn,
                            max_new_tokens=count, stopping_criteria=stop, pad_token_id=0,
                            repetition_penalty=sampling["repetition_penalty"], **chain)


TOKENIZERS: dict[str, Tokens] = {}


def words(path: str) -> Words:
    """The tokenizer of a tokenizer.json, or of a folder that has one."""
    file = os.path.join(path, "tokenizer.json") if os.path.isdir(path) else path
    if not file.endswith("tokenizer.json") or not os.path.exists(file):
        raise Unsupported("vocabularies other than tokenizer.json")
    if file not in TOKENIZERS:
        TOKENIZERS[file] = Tokens(file)
    return TOKENIZERS[file]


if __name__ == "__main__":
    transformers.AttentionInterface.register("noted", noted_attention)
    transformers.AttentionMaskInterface.register(
        "noted", transformers.AttentionMaskInterface()["sdpa"])
    subject.hello["subject"] |= {"version": transformers.__version__,
                                 "build": f"torch {torch.__version__}"}
    serve(subject, Loaded, words)
    subject.run()
