"""Mixture of experts as in gpt-oss: a router over top-k logits, clamped SwiGLU experts."""

import numpy as np

import slack
from activations import clamp, sigmoid, swiglu_clamped
from answer import Answer, Result, one
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
    results = {
        "ids": Result(ids.astype(np.int32), "i32", decided=decided),
        "weights": Result(p, "f32", error, decided=decided),
    }
    return Answer(results, False)


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
    return one("y", y, q.to("f32"), allowed, keeps={"hidden": np.sqrt(kept)})
