"""Products with a weight: linear, the feed-forward pair, tables and their rows."""

import numpy as np

import slack
from activations import gelu_of, gelu_steps, sigmoid, silu, silu_steps, swiglu
from answer import Answer, one
from blocks import SIZES
from declared import (
    Declared,
    Inner,
    Weights,
    feed_forward,
    finite,
    moved,
    product,
    through_all,
)
from signature import Question, Refused
from stored import lowest_bit, representable, whole_sums


def linear(x, w, bias=None) -> np.ndarray:
    """x·wᵀ + bias: x [n,in], w [out,in], bias [out] → [n,out]."""
    y = x @ w.T
    return y if bias is None else y + bias


def weight(q: Question, name: str) -> tuple[list[np.ndarray], bool]:
    """The weight's parts, and whether it is of a block type."""
    return q.parts(name), q.stored(name) in SIZES


def exact_product(x, w, bias=None) -> bool:
    """Whether every product and partial sum of linear is a multiple below 2^24 of one unit."""
    if not (np.isfinite(x).all() and np.isfinite(w).all()):
        return False
    low = lowest_bit(x).min(-1)[:, None] + lowest_bit(w).min(-1)[None, :]
    magnitude = np.abs(x) @ np.abs(w).T
    if bias is not None:
        low = np.minimum(low, lowest_bit(bias))
        magnitude = magnitude + np.abs(bias)
    return whole_sums(low, magnitude)


def answer_linear(q: Question) -> Answer:
    """x [n,in], w [out,in], bias [out] → y [n,out]; keeps w."""
    x, bias = q["x"], q.get("bias")
    y = linear(x, q["w"], bias)
    allowed, kept = slack.matrix(x, weight(q, "w"), bias, q.product(x.shape[-1]))
    exact = exact_product(x, q["w"], bias) and representable(y, (q.to(),))
    declared = Declared(y.shape)
    product(declared, x, q["w"], finite(y), weight(q, "w")[1])
    return one("y", y, q.to(), allowed, exact, keeps={"w": kept}, declared=declared)


def copied(y: np.ndarray) -> Declared:
    """What weights add that are looked up: each its own rounding."""
    declared = Declared(y.shape)
    declared.own("weights", y, finite(y))
    return declared


def nearest_f32(parts: list[np.ndarray]) -> np.ndarray:
    """The nearest f32 of the parts' sum: each part is exact in f32, so one f32 addition."""
    with np.errstate(over="ignore", invalid="ignore"):
        if len(parts) == 1:
            return parts[0]
        first, second = (part.astype(np.float32) for part in parts)
        return (first + second).astype(np.float64)


def answer_dequantize(q: Question) -> Answer:
    """w of a weight type → y f32 of its shape."""
    y = nearest_f32(q.parts("w"))
    return one("y", y, "f32", exact=representable(y), declared=copied(y))


def check_ids(ids: np.ndarray, size: int, name: str, kind: str = "IdOutOfRange") -> None:
    """Refuses ids outside [0, size)."""
    if ids.min() < 0 or ids.max() >= size:
        raise Refused(kind, name, f"{ids.min()}..{ids.max()} outside 0..{size - 1}")


def answer_embedding(q: Question) -> Answer:
    """ids [n], table [v,h] → y [n,h]: rows, widened exactly (q4_k and q5_k rounded to f32)."""
    check_ids(q["ids"], q.axes["v"], "ids")
    y = nearest_f32([part[q["ids"]] for part in q.parts("table")])
    return one("y", y, q.to("f32"), exact=representable(y), declared=copied(y))


def answer_rows(q: Question) -> Answer:
    """x [n,h], rows [m] → y [m,h], a copy."""
    check_ids(q["rows"], q.axes["n"], "rows")
    y = q["x"][q["rows"]]
    return one("y", y, q.stored("x"), exact=representable(y))


def gelu_slope(x, approximate: str) -> np.ndarray:
    """The derivative of GELU, by central differences of the formula (first order is enough)."""
    step = 1e-5
    return (gelu_of(x + step, approximate) - gelu_of(x - step, approximate)) / (2 * step)


def silu_slope(g) -> np.ndarray:
    """sigmoid(g)·(1 + g·(1 - sigmoid(g)))."""
    s = sigmoid(g)
    return s * (1 + g * (1 - s))


def outer_slack(q, hidden, w, bias, y, inner: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Slack of a down projection, and Q of the kept hidden value.

    `inner` are errors of the hidden value [n,f], in units of 2^-24, each added as squares:
    √Σ_f (w_f·error_f)².
    """
    allowed, kept = slack.matrix(hidden, w, bias, q.product(hidden.shape[-1]))
    square = sum(w[0]) ** 2
    for error in inner:
        allowed = allowed + np.sqrt(error**2 @ square.T)
    return allowed, kept


def finish_ffn(q: Question, hidden, bias, inner, rounded, parts: list[Inner], activation) -> Answer:
    """y = hidden·w_downᵀ + bias + residual, its slack and what kept values add.

    `rounded` are the Q [n,f] that rounding the inner weights leaves in the hidden value; with the
    down weight's own Q they add as squares: keeps w, for weights of block types alone. `parts` are
    the inner products with slopes [n,f], and `activation` the c [n,f] of the numbers between.
    """
    y = linear(hidden, q["w_down"], bias)
    inside = y
    down = weight(q, "w_down")
    allowed, kept = outer_slack(q, hidden, down, bias, y, inner)
    square = sum(down[0]) ** 2
    weights = kept**2 * down[1] + sum(error**2 @ square.T for error in rounded)
    exact = representable(hidden) and exact_product(hidden, q["w_down"], bias)
    stored_as = q.to()
    if q.has("residual"):
        y = y + q["residual"]
        allowed = allowed + np.abs(y)
        exact, stored_as = False, q.stored("residual")
    exact = exact and representable(y, (stored_as,))
    declared = ffn_declared(q, hidden, y, inside, parts, activation)
    keeps = {"hidden": kept, "w": np.sqrt(weights)}
    return one("y", y, stored_as, allowed, exact, keeps=keeps, declared=declared)


def ffn_declared(q: Question, hidden, y, inside, parts: list[Inner], activation) -> Declared:
    """Declared terms of a feed-forward block; `inside` is y before the residual."""
    declared, g, shared = Declared(y.shape), finite(y), Weights()
    block = [q.stored(name) in SIZES for name in ("w_up", "w_down")]
    for i, x in enumerate(q["x"]):
        row = [Inner(part.key, part.w, part.slope[i]) for part in parts]
        c = [a[i] for a in activation]
        down = ("w_down", q["w_down"])
        jacobian = feed_forward(
            declared, i, x, row, c, hidden[i], down, 1.0, g[i], block[1], shared
        )
        through_all(declared, i, x, jacobian, g[i], block[0])
    declared.at("weights").gain += shared.gain()
    if q.has("residual"):
        declared.own("activation", moved(1, inside), g)
    return declared


def inner_matrix(q: Question, name: str, bias=None) -> tuple[np.ndarray, np.ndarray]:
    """Slack of x times an inner weight, and Q of that weight where it is of a block type."""
    w = weight(q, name)
    allowed, kept = slack.matrix(q["x"], w, bias, q.product(q.axes["h"]))
    return allowed, kept * w[1]


def answer_ffn_gelu(q: Question) -> Answer:
    """gelu(x·w_upᵀ + b_up)·w_downᵀ + b_down [+ residual]; keeps hidden = the activation, w."""
    approximate = q.attr["approximate"]
    up = linear(q["x"], q["w_up"], q["b_up"])
    hidden = gelu_of(up, approximate)
    slope = gelu_slope(up, approximate)
    a_up, q_up = inner_matrix(q, "w_up", q["b_up"])
    inner = [slope * a_up, slack.gelu(up, hidden, 1)]
    parts = [Inner("w_up", q["w_up"], slope)]
    activation = [moved(slope, up), *gelu_steps(up, approximate)]
    return finish_ffn(q, hidden, q["b_down"], inner, [slope * q_up], parts, activation)


def answer_ffn_swiglu(q: Question) -> Answer:
    """(silu(x·w_gateᵀ)·(x·w_upᵀ))·w_downᵀ [+ residual]; keeps hidden = the activation, w."""
    x = q["x"]
    gate, up = linear(x, q["w_gate"]), linear(x, q["w_up"])
    hidden = swiglu(gate, up)
    by_gate, by_up = silu_slope(gate) * up, silu(gate)
    a_gate, q_gate = inner_matrix(q, "w_gate")
    a_up, q_up = inner_matrix(q, "w_up")
    inner = [by_gate * a_gate, by_up * a_up, slack.swiglu(gate, up, hidden)]
    parts = [Inner("w_gate", q["w_gate"], by_gate), Inner("w_up", q["w_up"], by_up)]
    activation = [moved(by_gate, gate), moved(by_up, up), *silu_steps(gate, up), moved(1, hidden)]
    rounded = [by_gate * q_gate, by_up * q_up]
    return finish_ffn(q, hidden, None, inner, rounded, parts, activation)
