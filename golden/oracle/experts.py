"""Mixture of experts as in gpt-oss: a router over top-k logits, clamped SwiGLU experts."""

import numpy as np

import slack
from activations import clamp, clamped_steps, sigmoid, swiglu_clamped
from answer import Answer, Result, one
from blocks import SIZES
from declared import (
    Declared,
    Inner,
    Term,
    Weights,
    entering,
    feed_forward,
    finite,
    moved,
    product,
    through_all,
)
from declared import softmax as softmax_declared
from norms import softmax
from products import check_ids, exact_product, linear, weight
from signature import Question, Refused


def choose(logits, top_k: int) -> np.ndarray:
    """Ids of the top_k largest a row, by falling logit, ties to the lower id: [n,top_k]."""
    return np.argsort(-logits, axis=-1, kind="stable")[:, :top_k]


def decided_rows(logits, allowed, top_k: int) -> np.ndarray:
    """Rows whose choice and order no legal error changes: U8 [n].

    A gap between neighbouring ranks, to the first one left out, must exceed 2·A of the logits.
    Where logits are exact (allowed 0) any order is decided, ties by id.
    """
    order = np.argsort(-logits, axis=-1, kind="stable")[:, : top_k + 1]
    sorted_logits = np.take_along_axis(logits, order, -1)
    error = np.take_along_axis(allowed, order, -1) / slack.UNIT
    gap = sorted_logits[:, :-1] - sorted_logits[:, 1:]
    enough = gap > error[:, :-1] + error[:, 1:]
    return (enough | (error[:, :-1] + error[:, 1:] == 0)).all(-1)


def answer_moe_router(q: Question) -> Answer:
    """x [n,h], w [e,h], b [e] → ids [n,top_k], weights [n,top_k] f32.

    The slack of a weight is the softmax row's and what errors A of the chosen logits add:
    p_j·(A_j + Σ_i p_i·A_i).
    """
    x, b, top_k = q["x"], q.get("b"), q.attr["top_k"]
    if top_k > q.axes["e"]:
        raise Refused("AttributeOutOfRange", "top_k", f"is {top_k} of {q.axes['e']} experts")
    logits = linear(x, q["w"], b)
    if np.isnan(logits).any():
        raise Refused("NotANumber", "x", "a logit is no number")
    allowed, _ = slack.matrix(x, weight(q, "w"), b, q.product(q.axes["h"]))
    exact = exact_product(x, q["w"], b)
    if exact:
        allowed = np.zeros_like(allowed)
    ids = choose(logits, top_k)
    z, a = (np.take_along_axis(m, ids, -1) for m in (logits, allowed))
    p = softmax(z)
    error = slack.softmax(z, p, q.root(top_k)) + p * (a + (p * a).sum(-1, keepdims=True))
    decided = np.repeat(decided_rows(logits, allowed, top_k)[:, None], top_k, axis=1)
    errors = logit_errors(q, x, logits)
    shaky = {place: shaky_rows(logits, bound, top_k) for place, bound in errors.items()}
    declared = router_declared(q, x, z, p, ids, errors, decided)
    results = {
        "ids": Result(ids.astype(np.int32), "i32", decided=decided, shaky=shaky),
        "weights": Result(p, "f32", error, decided=decided, declared=declared, shaky=shaky),
    }
    return Answer(results, False)


def logit_errors(q: Question, x, logits) -> dict[str, np.ndarray]:
    """The error of each logit [n,e] by place, in units of u."""
    inside = Declared(logits.shape)
    product(inside, x, q["w"], np.zeros_like(logits), q.stored("w") in SIZES)
    bounds = {place: term.bound() for place, term in inside.terms.items()}
    return {**bounds, "logits": moved(1, logits)}


def shaky_rows(logits, error, top_k: int) -> np.ndarray:
    """1/u of the roundings that may change a row's choice or order: [n,top_k]."""
    order = np.argsort(-logits, axis=-1, kind="stable")[:, : top_k + 1]
    ordered = np.take_along_axis(logits, order, -1)
    moved = np.take_along_axis(error, order, -1)
    gap = ordered[:, :-1] - ordered[:, 1:]
    # the next float of a tie: with any rounding at all its order is open
    gap = np.maximum(gap, np.finfo(np.float64).tiny)
    ratio = ((moved[:, :-1] + moved[:, 1:]) / gap).max(-1, initial=0.0, keepdims=True)
    return np.repeat(np.minimum(ratio, 1e30), top_k, axis=1)


def router_declared(q: Question, x, z, p, ids, errors, decided) -> Declared:
    """Declared terms of the weights: logits through the softmax of the chosen, and p itself."""
    declared, g = Declared(p.shape), np.where(decided, p, 0.0)
    softmax_declared(declared, z, p, g)
    declared.own("p", moved(1, p), g)
    slope = np.zeros((len(x), q.axes["e"]))
    np.put_along_axis(slope, ids, p * (g - (g * p).sum(-1, keepdims=True)), -1)
    for place, error in errors.items():
        if place == "logits":
            continue
        e = np.take_along_axis(error, ids, -1)
        bound = p * (e + (p * e).sum(-1, keepdims=True))
        declared.terms[place] = Term((bound / 4) ** 2, bound)
    block = q.stored("w") in SIZES
    declared.at("weights").gain = float(((q["w"] * (slope.T @ x)) ** 2).sum())
    for row, s in zip(x, slope):
        for place, c in entering(row, block).items():
            declared.at(place).gain += float(((c * (s @ q["w"])) ** 2).sum())
    return declared


def bias_of(q: Question, name: str, expert: int) -> np.ndarray | None:
    """The expert's row of an optional bias."""
    return q[name][expert] if q.has(name) else None


def expert_parts(q: Question, name: str, expert: int) -> tuple[list[np.ndarray], bool]:
    """One expert's weight as parts."""
    parts, block = weight(q, name)
    return [part[expert] for part in parts], block


def one_expert(q: Question, x, expert: int):
    """y, slack and Q of the kept hidden value of rows x [m,h] through one expert."""
    alpha, limit, product = q.attr["alpha"], q.attr["limit"], q.product
    k = product(q.axes["h"])
    b_gate, b_up, b_down = (bias_of(q, b, expert) for b in ("b_gate", "b_up", "b_down"))
    gate_w, up_w, down_w = (expert_parts(q, w, expert) for w in ("w_gate", "w_up", "w_down"))
    gate, up = linear(x, sum(gate_w[0]), b_gate), linear(x, sum(up_w[0]), b_up)
    hidden = swiglu_clamped(gate, up, alpha, limit)
    y = linear(hidden, sum(down_w[0]), b_down)
    g, u = clamp(gate, up, limit)
    s = sigmoid(alpha * g)
    # a clamped value has no slope, but an error may carry it over the edge: keep the slope
    by_gate = s * (1 + alpha * g * (1 - s)) * (u + 1)
    inner = [
        by_gate * slack.matrix(x, gate_w, b_gate, k)[0],
        g * s * slack.matrix(x, up_w, b_up, k)[0],
        slack.swiglu(g, u + 1, hidden, alpha),
    ]
    allowed, kept = slack.matrix(hidden, down_w, b_down, product(q.axes["f"]))
    square = sum(down_w[0]) ** 2
    for error in inner:
        allowed = allowed + np.sqrt(error**2 @ square.T)
    return y, allowed, kept


def answer_moe_ffn(q: Question) -> Answer:
    """x [n,h], ids, weights [n,t], experts [e,f,h] and [e,h,f] → y [n,h]; keeps hidden.

    y = Σ_rank weight·expert(x), biases inside; slack Σ weight·(…) + 16·Σ weight·|y_e|.
    """
    x, ids, weights = q["x"], q["ids"], q["weights"]
    check_ids(ids, q.axes["e"], "ids")
    y, allowed, kept = (np.zeros((len(x), q.axes["h"])) for _ in range(3))
    for expert in np.unique(ids).tolist():
        rows, ranks = np.nonzero(ids == expert)
        part, error, square = one_expert(q, x[rows], expert)
        p = weights[rows, ranks][:, None]
        np.add.at(y, rows, p * part)
        np.add.at(allowed, rows, np.abs(p) * (error + 16 * np.abs(part)))
        np.add.at(kept, rows, (p * square) ** 2)
    declared = experts_declared(q, y)
    return one("y", y, q.to("f32"), allowed, keeps={"hidden": np.sqrt(kept)}, declared=declared)


def experts_declared(q: Question, y) -> Declared:
    """Declared terms of the experts: inside each as of a feed-forward block; their results, their
    weights, the products of the two and the sums of these round as activations."""
    declared, g, shared = Declared(y.shape), finite(y), Weights()
    block = [q.stored(name) in SIZES for name in ("w_up", "w_down")]
    for i, x in enumerate(q["x"]):
        jacobian, total = 0.0, np.zeros(y.shape[-1])
        for expert, share in zip(q["ids"][i].tolist(), q["weights"][i].tolist()):
            row, activation, hidden = expert_inside(q, x, expert)
            down = (("w_down", expert), q["w_down"][expert])
            jacobian = jacobian + feed_forward(
                declared, i, x, row, activation, hidden, down, share, g[i], block[1], shared
            )
            result = linear(hidden, down[1], bias_of(q, "b_down", expert))
            total = total + share * result
            steps = ((share, result), (result, share), (1, share * result), (1, total))
            for slope, z in steps:
                own_row(declared, i, moved(slope, z), g[i])
        through_all(declared, i, x, jacobian, g[i], block[0])
    declared.at("weights").gain += shared.gain()
    return declared


def own_row(declared: Declared, at: int, c, g) -> None:
    """As `Declared.own`, of one row's activations."""
    term = declared.at("activation")
    term.squares[at] += c * c
    term.sizes[at] += np.abs(c)
    term.gain += float(((g * c) ** 2).sum())


def expert_inside(q: Question, x, expert: int):
    """Inner products, c of the activations between them and the hidden value of one row."""
    alpha, limit = q.attr["alpha"], q.attr["limit"]
    w_gate, w_up = q["w_gate"][expert], q["w_up"][expert]
    gate = linear(x, w_gate, bias_of(q, "b_gate", expert))
    up = linear(x, w_up, bias_of(q, "b_up", expert))
    hidden = swiglu_clamped(gate, up, alpha, limit)
    g, u = clamp(gate, up, limit)
    s = sigmoid(alpha * g)
    # what is clamped keeps its slope, as in the slack
    by_gate, by_up = s * (1 + alpha * g * (1 - s)) * (u + 1), g * s
    parts = [Inner(("w_gate", expert), w_gate, by_gate), Inner(("w_up", expert), w_up, by_up)]
    between = [moved(by_gate, gate), moved(by_up, up), *clamped_steps(g, u, alpha)]
    return parts, [*between, moved(1, hidden)], hidden
