"""Wrong forward passes: the reference with one of its methods replaced, by name.

`WRONG` is the table: the fault's name, the mistake's ids (M-… of the catalogue, §5.n of the list of
mistakes that real engines made), what it is, why it is worth planting, and where it exists. A
`change` has the right method first, then the model and the method's own arguments:

    change(right, model, *arguments)

with `right` already bound. A fault that a model cannot have is refused, never answered by the right
result; one that leaves a kind's answer as it is (`kinds`) is not offered for that kind.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import wrong_steps as step
from activations import gelu, sigmoid, silu
from checkpoint import Config
from reference import Reference
from stored import rounded
from wrong_steps import after, gives, moved, named, of

KINDS = ("stage", "logits", "generation", "perplexity")
ROTARY = ("llama", "qwen2")
ALL = ("gpt2", *ROTARY)


@dataclass
class Fault:
    """A mistake: its ids, what it does, why it is planted, what it replaces, who can have it."""

    ids: str
    what: str
    why: str
    change: dict[str, Callable]
    models: tuple[str, ...] = ALL
    kinds: tuple[str, ...] = KINDS
    needs: Callable[[Config], bool] = field(default=lambda c: True)


WRONG = {
    # positions
    "rope_interleaved": Fault(
        "M-065 M-139 §5.29", "neighbouring pairs are rotated, not halves",
        "the convention of GGUF's llama in a model that has the other", {"pairs": step.interleaved},
        ROTARY),
    "permuted_never": Fault(
        "M-139", "rows of q and k are still in pairs", "a llama GGUF read as it is",
        {"linear": named(of("attn.q", "attn.k"), step.in_order(step.as_pairs))}, ROTARY),
    "permuted_twice": Fault(
        "M-139", "rows of q and k are brought to halves twice", "once by the loader, once more",
        {"linear": named(of("attn.q", "attn.k"), step.in_order(step.as_halves))}, ROTARY),
    "rope_sign": Fault(
        "M-066", "the sign of the sine is turned", "a score at distance 0 stays right",
        {"angles": after(np.negative)}, ROTARY),
    "rope_missing": Fault(
        "§5.19", "nothing is rotated", "short prompts still read well",
        {"rotate": lambda right, model, x, at: x}, ROTARY),
    "theta_10000": Fault(
        "M-067 §5.19", "the base is 10,000", "the default where the key is not read",
        {"theta": gives(lambda right, model: 10000.0)}, ROTARY,
        needs=lambda c: c.theta != 10000.0),
    "scaling_ignored": Fault(
        "M-067", "frequencies are not scaled", "the key is optional and often skipped",
        {"frequencies": step.unscaled}, ROTARY,
        needs=lambda c: c.scaling is not None or c.divisors is not None),
    "exponent_d_minus_2": Fault(
        "M-068", "the exponent is 2i/(d - 2)", "an end-to-end line for a step of 2/d",
        {"exponents": after(lambda e: e * len(e) / (len(e) - 1))}, ROTARY),
    "exponent_i_over_d": Fault(
        "M-068", "the exponent is i/d", "i counts pairs, the paper's 2i elements",
        {"exponents": after(lambda e: e / 2)}, ROTARY),
    "rotary_half": Fault(
        "M-073", "half of the rotated size is rotated", "a partial rotary size where all is meant",
        {"rotary": step.half_of_it}, ROTARY),
    "position_plus_1": Fault(
        "M-069 M-085", "each position one too high",
        "under rope scores see differences only: the rotated q and k themselves must be looked at",
        moved(lambda at: at + 1), ROTARY, ("stage",)),
    "position_minus_1": Fault(
        "M-069 M-085", "each position one too low", "the same from the other side",
        moved(lambda at: at - 1), ROTARY, ("stage",)),
    "learned_plus_1": Fault(
        "M-069 M-085", "the learned position of the row after", "a table with a row of padding",
        {"learned": step.learned_at(1)}, ("gpt2",)),
    "learned_minus_1": Fault(
        "M-069 M-085", "the learned position of the row before", "counting begins at one",
        {"learned": step.learned_at(-1)}, ("gpt2",)),
    "query_position_plus_1": Fault(
        "M-069", "queries are rotated one further than keys", "length for position in one place",
        {"rotate_query": lambda right, model, q, at: right(q, at + 1)}, ROTARY),
    "positions_restart": Fault(
        "M-070", "positions begin again every 7 tokens", "a chunk that forgets where it starts",
        moved(lambda at: at % 7)),
    "positions_zero": Fault(
        "§5.44", "every position is 0", "a start argument that nobody passes",
        moved(lambda at: at * 0)),
    "decode_position_zero": Fault(
        "§5.44 M-077", "generated tokens are at position 0", "decode does not know the length",
        {"positions": step.decoded_at_zero}, ALL, ("generation",)),
    "positions_bf16": Fault(
        "M-072", "positions are rounded to bf16", "shows from position 257 on",
        moved(lambda at: rounded(at.astype(np.float64), "bf16")), ROTARY,
        needs=lambda c: c.context > 257),
    "frequencies_f16": Fault(
        "M-072", "frequencies are rounded to f16", "a table in the activations' type",
        {"frequencies": after(lambda f: rounded(f, "f16"))}, ROTARY),
    # attention and its cache
    "v_from_k": Fault(
        "M-060", "values are read from the keys", "a copied pointer",
        {"attend": lambda right, model, q, k, v, *more: right(q, k, k, *more)}),
    "kv_swapped": Fault(
        "M-084", "the caches of keys and values change places", "two arguments of one shape",
        {"attend": lambda right, model, q, k, v, *more: right(q, v, k, *more)}),
    "heads_transposed": Fault(
        "M-062", "heads are merged element by element", "a transpose too few",
        {"merge": step.transposed_heads}),
    "scale_missing": Fault(
        "M-042", "scores are not scaled", "only the weights of a softmax move",
        {"scale": gives(lambda right, model: 1.0)}),
    "scale_1_over_d": Fault(
        "M-041", "scores are divided by d, not its root", "a forgotten root",
        {"scale": after(lambda s: s * s)}),
    "kv_head_zero": Fault(
        "M-052 §5.7 §5.10", "every query head reads key head 0", "an index without its stride",
        {"shared": after(lambda of_head: of_head * 0)}, needs=lambda c: c.kv_heads > 1),
    "kv_head_modulo": Fault(
        "M-051 §5.10", "query head h reads key head h % kv, not h // group", "both are in range",
        {"shared": lambda r, m: np.arange(m.config.heads) % m.config.kv_heads},
        needs=lambda c: 1 < c.kv_heads < c.heads),
    "no_causal_mask": Fault(
        "§5.42", "a prompt's rows see what comes after", "the last row is right in block 0",
        {"seen": step.all_rows}),
    "sees_next": Fault(
        "M-043", "each row of a prompt sees one row too many", "< for <= in the mask",
        {"seen": step.one_too_far}),
    "prompt_lost": Fault(
        "§5.13", "each token is alone, at position 0", "only the last token is fed",
        {"seen": step.only_itself, **moved(lambda at: at * 0)}),
    "cache_one_early": Fault(
        "M-077 M-044", "the newest row is not visible", "attention before append, the old length",
        {"seen": step.one_early}),
    "cache_one_late": Fault(
        "M-077", "rows lie one slot further, slot 0 is empty", "length for position in append",
        {"attend": step.one_late}),
    "cache_overwritten": Fault(
        "M-078", "the slot before holds the newest row, too", "an append that does not advance",
        {"seen": step.overwritten}),
    "decode_alone": Fault(
        "§5.43", "a generated token sees itself only", "decode calls prefill on one row",
        {"seen": step.decoded_alone}, ALL, ("generation",)),
    "decode_not_cached": Fault(
        "§5.9", "a generated token sees the prompt and itself", "decode never writes its rows",
        {"seen": step.not_cached}, ALL, ("generation",)),
    "key_rotated_twice": Fault(
        "M-079", "keys are rotated once more when read", "cached after, rotated again",
        {"attend": step.rotated_again}, ROTARY),
    "cache_not_cleared": Fault(
        "M-081", "a row of another text is visible", "a request after another",
        {"attend": step.stale_row}),
    "norm_as_qkv": Fault(
        "§5.41", "the norm's result is q, k and v", "a layer without projections",
        {"qkv": step.norm_as_qkv},
        needs=lambda c: c.hidden == c.heads * c.head_size and c.kv_heads == c.heads),
    # products
    "bias_missing": Fault(
        "M-063 §5.17", "q, k and v have no bias", "a null pointer for an optional operand",
        {"bias": named(step.QKV, gives(lambda right, model: 0.0))}, ("gpt2", "qwen2")),
    "bias_twice": Fault(
        "M-112", "every product's bias is added twice", "once a split of the sum",
        {"linear": lambda right, model, x, name: right(x, name) + model.bias(name)},
        ("gpt2", "qwen2")),
    "tail_dropped": Fault(
        "M-106", "the last element of every sum is left out", "a width beyond the last tile",
        {"product": step.without_last}),
    "square_transposed": Fault(
        "M-108 §5.16", "square weights are transposed", "no shape check can see it",
        {"product": step.transposed}, needs=step.square),
    "f16_accumulator": Fault(
        "M-109", "sums are kept in f16", "the compute type of a library call",
        {"product": step.f16_sums}),
    "tf32": Fault(
        "M-110", "factors are rounded to TF32", "a library's default for f32",
        {"product": step.tf32}),
    # norms
    "next_layers_norm": Fault(
        "M-140", "layer i has the norms of layer i + 1", "a loader's index",
        {"norm": step.next_norm}, needs=lambda c: c.layers > 1),
    "ffn_norm_missing": Fault(
        "§5.48 §5.50", "no norm before the feed-forward", "the variant with a residual skips it",
        {"norm": named(of("ffn.norm"), step.skipped)}),
    "final_norm_missing": Fault(
        "M-117", "no norm before the head", "logits of a plausible size",
        {"norm": named(of("final.norm"), step.skipped)}),
    "eps_tenth": Fault(
        "M-006", "eps is a tenth: 1e-6 for 1e-5", "the default of another model",
        {"eps": after(lambda e: e / 10)}),
    "eps_tenfold": Fault(
        "M-006", "eps is tenfold: 1e-5 for 1e-6", "the same from the other side",
        {"eps": after(lambda e: e * 10)}),
    "variance_n_minus_1": Fault(
        "M-003", "the variance is divided by n - 1", "a library's default",
        {"variance": step.unmeaned}, ("gpt2",)),
    # blocks
    "last_layer_skipped": Fault(
        "M-140", "the last block is not run", "a loop to n - 1",
        {"layers": after(lambda n: n - 1)}),
    "residual_of_norm": Fault(
        "M-040", "the normed value goes on beside a half block", "post-norm for pre-norm",
        {"residual": lambda right, model, x, normed, y: right(normed, normed, y)}),
    "residual_missing": Fault(
        "M-040", "a half block's input is not added", "a result that overwrites",
        {"residual": lambda right, model, x, normed, y: y}),
    "residual_twice": Fault(
        "M-040", "a half block's input is added twice", "a fused addition and another",
        {"residual": lambda right, model, x, normed, y: right(x, normed, y) + x}),
    "norm_without_mean": Fault(
        "M-002", "the mean is not subtracted", "RMSNorm for LayerNorm",
        {"norm": step.uncentred}, ("gpt2",)),
    "norm_with_mean": Fault(
        "M-009", "the mean is subtracted", "LayerNorm for RMSNorm",
        {"norm": lambda right, model, x, name: right(x - x.mean(-1, keepdims=True), name)},
        ROTARY),
    "silu_for_gelu": Fault(
        "M-021", "SiLU for GELU", "another model's activation",
        {"gelu": lambda right, model, x: silu(x)}, ("gpt2",)),
    "gelu_exact": Fault(
        "§5.54", "GELU by erf where the model has tanh", "differs by 5e-4 at most: stages see it",
        {"gelu": lambda right, model, x: gelu(x)}, ("gpt2",), needs=lambda c: c.gelu == "tanh"),
    "gate_up_swapped": Fault(
        "M-022", "gate and up change places", "two matrices of one shape",
        {"gated": lambda right, model, gate, up: right(up, gate)}, ROTARY),
    "silu_sigmoid": Fault(
        "M-021", "sigmoid for silu", "a founding document says so once",
        {"gated": lambda right, model, gate, up: sigmoid(gate) * up}, ROTARY),
    # embedding and head
    "embedding_plus_1": Fault(
        "M-114", "the embedding of the id after", "a row of padding",
        {"embedding": lambda right, model, ids: right((ids + 1) % model.config.vocabulary)}),
    "embedding_scaled": Fault(
        "M-115", "the embedding times the root of the width", "as other models have it",
        {"embedding": lambda right, model, ids: right(ids) * model.config.hidden**0.5}),
    "head_tied": Fault(
        "M-116", "the embedding is the head of a model that has its own", "output.weight not read",
        {"head": lambda right, model, x: x @ model.weight("embed.weight").T},
        needs=lambda c: not c.tied),
    "head_not_tied": Fault(
        "M-116", "the head is random where it should be the embedding", "a tie that was not made",
        {"head": step.lone_head}, needs=lambda c: c.tied),
    "row_before": Fault(
        "M-117", "logits of the row before", "an index of rows", {"head": step.row_before}),
}


def offered(kind: str) -> list[str]:
    """The faults that a kind of question may name."""
    return sorted(name for name, fault in WRONG.items() if kind in fault.kinds)


def exists(name: str, kind: str, config: Config) -> bool:
    """Whether a model of this configuration can have the fault and the kind can show it."""
    fault = WRONG.get(name)
    return bool(fault and kind in fault.kinds and config.kind in fault.models
                and fault.needs(config))


def method(change: Callable, name: str) -> Callable:
    """`change` as a method: it is handed the right one, bound to the model."""
    return lambda self, *given: change(getattr(Reference, name).__get__(self), self, *given)


def broken(right: Reference, name: str) -> Reference:
    """The reference with the fault of that name, on the same weights."""
    changes = {part: method(change, part) for part, change in WRONG[name].change.items()}
    model = type(f"Wrong_{name}", (Reference,), changes)(right)
    model.right = right
    return model
