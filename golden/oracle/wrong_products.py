"""Wrong formulas of products and tables."""

import numpy as np

import blocks
from activations import gelu, gelu_of, gelu_tanh, silu, swiglu
from products import linear, nearest_f32
from signature import Question
from stored import rounded
from wrong_blocks import DECODER_MISTAKES


def tf32(x):
    """Rounded to eleven significant bits, the range of f32: what a tensor core takes of an f32."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 2048) / 2048, exponent)


def wrong_parts(q: Question, name: str, decoder) -> list[np.ndarray]:
    """The operand's parts by a wrong decoder of its type."""
    raw = q.tensors[name]
    return blocks.parts(raw.bits, raw.stored, raw.shape, decoder)


def decoders(stored_types: dict, name: str, use) -> dict:
    """A wrong formula for each wrong decoder: `q4_k_min_added` and the like."""

    def of(stored, decoder):
        def wrong(q: Question) -> dict:
            other = q.stored(name) != stored  # the mistake does not touch other types
            return {"y": use(q, q.parts(name) if other else wrong_parts(q, name, decoder))}

        return wrong

    return {
        f"{stored}_{mistake}": of(stored, decoder)
        for stored, mistakes in stored_types.items()
        for mistake, decoder in mistakes.items()
    }


def product(change):
    """A wrong linear of changed x, w and bias."""

    def wrong(q: Question) -> dict:
        return {"y": linear(*change(q["x"], q["w"], q.get("bias")))}

    return wrong


def f16_sums(q: Question) -> dict:
    """Products and running sum in f16: overflows at 65,504, stops growing at 2048."""
    y = np.zeros((len(q["x"]), len(q["w"])))
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(q.axes["in"]):
            y = rounded(y + rounded(np.outer(q["x"][:, k], q["w"][:, k]), "f16"), "f16")
    return {"y": y if q.get("bias") is None else y + q["bias"]}


def f16_partials(q: Question) -> dict:
    """Four splits of K whose partial sums are rounded to f16."""
    x, w = np.array_split(q["x"], 4, axis=1), np.array_split(q["w"], 4, axis=1)
    y = sum(rounded(a @ b.T, "f16") for a, b in zip(x, w))
    return {"y": y if q.get("bias") is None else y + q["bias"]}


def split_twice(x, w, bias):
    """The last of four splits of K added twice."""
    cut = x.shape[1] // 4
    return np.concatenate([x, x[:, -cut:]], 1), np.concatenate([w, w[:, -cut:]], 1), bias


def leading_dimension(x, w, bias):
    """The weight's memory read as [in, out]: what OP_N with the wrong leading dimension does."""
    return x, w.reshape(w.shape[1], w.shape[0]).T, bias


def drop(count: int):
    """The last columns of K left out."""
    return lambda x, w, bias: (x[:, :-count], w[:, :-count], bias)


def last_tile(x, w, bias):
    """The incomplete last tile of 32 columns left out."""
    keep = x.shape[1] // 32 * 32
    return x[:, :keep], w[:, :keep], bias


def last_output_zero(q: Question) -> dict:
    """The last column of the result is never computed."""
    y = linear(q["x"], q["w"], q.get("bias"))
    y[:, -1] = 0
    return {"y": y}


LINEAR = {
    "bf16_inputs": product(lambda x, w, b: (rounded(x, "bf16"), rounded(w, "bf16"), b)),
    "bias_per_split": product(lambda x, w, b: (x, w, 4 * b)),
    "bias_subtracted": product(lambda x, w, b: (x, w, -b)),
    "f16_partials": f16_partials,
    "f16_sums": f16_sums,
    "first_row_for_all": product(lambda x, w, b: (np.broadcast_to(x[:1], x.shape), w, b)),
    "last_k_dropped": product(drop(1)),
    "last_output_zero": last_output_zero,
    "last_tile_of_k_dropped": product(last_tile),
    "split_added_twice": product(split_twice),
    "tf32_inputs": product(lambda x, w, b: (tf32(x), tf32(w), b)),
    "weight_by_bf16": product(lambda x, w, b: (x, rounded(w, "bf16"), b)),
    "wrong_leading_dimension": product(leading_dimension),
    **decoders(
        DECODER_MISTAKES, "w", lambda q, parts: linear(q["x"], sum(parts), q.get("bias"))
    ),
}


def table_rows(change):
    """A wrong embedding: rows of changed ids."""
    return lambda q: {"y": q["table"][change(q["ids"], q.axes["v"])]}


EMBEDDING = {
    "always_row_0": table_rows(lambda ids, v: 0 * ids),
    "columns_for_rows": lambda q: {
        "y": q["table"].T.reshape(q["table"].shape)[q["ids"]],
    },
    "doubled": lambda q: {"y": 2 * q["table"][q["ids"]]},
    "last_row_unreachable": table_rows(lambda ids, v: np.minimum(ids, v - 2)),
    "next_row": table_rows(lambda ids, v: (ids + 1) % v),
    "scaled_by_root_h": lambda q: {"y": np.sqrt(q.axes["h"]) * q["table"][q["ids"]]},
    **decoders(DECODER_MISTAKES, "table", lambda q, parts: nearest_f32([sum(parts)])[q["ids"]]),
}


def ffn(activation, bias_up=True, bias_down=True, residual=1):
    """A wrong ffn_gelu: another activation, biases or residual left out."""

    def wrong(q: Question) -> dict:
        up = linear(q["x"], q["w_up"], q["b_up"] if bias_up else None)
        hidden = activation(up, q.attr["approximate"])
        y = linear(hidden, q["w_down"], q["b_down"] if bias_down else None)
        return {"y": y + residual * q["residual"] if q.has("residual") else y}

    return wrong


def other_form(x, approximate):
    """The form that was not asked."""
    return gelu(x) if approximate == "tanh" else gelu_tanh(x)


def gated(hidden_of, residual=1):
    """A wrong ffn_swiglu."""

    def wrong(q: Question) -> dict:
        gate, up = linear(q["x"], q["w_gate"]), linear(q["x"], q["w_up"])
        y = linear(hidden_of(gate, up), q["w_down"])
        return {"y": y + residual * q["residual"] if q.has("residual") else y}

    return wrong


WRONG = {
    "dequantize": decoders(DECODER_MISTAKES, "w", lambda q, parts: nearest_f32([sum(parts)])),
    "embedding": EMBEDDING,
    "ffn_gelu": {
        "activation_left_out": ffn(lambda x, _: x),
        "b_down_left_out": ffn(gelu_of, bias_down=False),
        "b_up_left_out": ffn(gelu_of, bias_up=False),
        "hidden_in_bf16": ffn(lambda x, a: rounded(gelu_of(x, a), "bf16")),
        "other_gelu": ffn(other_form),
        "residual_left_out": ffn(gelu_of, residual=0),
        "residual_twice": ffn(gelu_of, residual=2),
        "silu": ffn(lambda x, _: silu(x)),
    },
    "ffn_swiglu": {
        "gelu_for_silu": gated(lambda g, u: gelu(g) * u),
        "gate_left_out": gated(lambda g, u: u),
        "hidden_in_bf16": gated(lambda g, u: rounded(swiglu(g, u), "bf16")),
        "residual_left_out": gated(swiglu, residual=0),
        "residual_twice": gated(swiglu, residual=2),
        "sigmoid_alone": gated(lambda g, u: swiglu(g, u) / np.where(g == 0, 1, g)),
        "swapped": gated(lambda g, u: swiglu(u, g)),
    },
    "linear": LINEAR,
    "rows": {
        "always_row_0": lambda q: {"y": q["x"][0 * q["rows"]]},
        "first_rows": lambda q: {"y": q["x"][np.arange(q.axes["m"]) % q.axes["n"]]},
        "last_row_for_all": lambda q: {"y": q["x"][0 * q["rows"] - 1]},
        "next_row": lambda q: {"y": q["x"][(q["rows"] + 1) % q.axes["n"]]},
        "reversed": lambda q: {"y": q["x"][q["rows"][::-1]]},
    },
}
