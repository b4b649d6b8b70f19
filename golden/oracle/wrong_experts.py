"""Wrong formulas of the router and of the experts."""

import numpy as np

from activations import sigmoid, swiglu, swiglu_clamped
from experts import choose
from norms import softmax
from products import linear
from signature import Question
from stored import rounded


def routed(logits=None, order=None, weigh=None):
    """A wrong router: changed logits for the choice, another order, other weights."""

    def wrong(q: Question) -> dict:
        top_k = q.attr["top_k"]
        right = linear(q["x"], q["w"], q.get("b"))
        z = logits(q, right) if logits else right
        ids = order(z, top_k) if order else choose(z, top_k)
        weights = weigh(z, ids, q) if weigh else softmax(np.take_along_axis(z, ids, -1))
        return {"ids": ids.astype(np.int32), "weights": weights}

    return wrong


def without_bias(q: Question, right):
    """Logits without the router's bias."""
    return linear(q["x"], q["w"])


def bias_in_choice_only(z, ids, q: Question):
    """Weights of the logits without bias."""
    return softmax(np.take_along_axis(without_bias(q, z), ids, -1))


def bias_in_weight_only(q: Question) -> dict:
    """Chosen without bias, weighted with it."""
    right = linear(q["x"], q["w"], q.get("b"))
    ids = choose(without_bias(q, right), q.attr["top_k"])
    return {"ids": ids.astype(np.int32), "weights": softmax(np.take_along_axis(right, ids, -1))}


def over_all(z, ids, q: Question):
    """Softmax over all experts, not renormalised."""
    return np.take_along_axis(softmax(z), ids, -1)


def twice(z, ids, q: Question):
    """Softmax of the softmax."""
    return softmax(softmax(np.take_along_axis(z, ids, -1)))


def raw(z, ids, q: Question):
    """The logits themselves."""
    return np.take_along_axis(z, ids, -1)


def higher_id(z, top_k: int):
    """Ties to the higher id."""
    order = np.argsort(-z[:, ::-1], axis=-1, kind="stable")[:, :top_k]
    return z.shape[1] - 1 - order


def sorted_ids(z, top_k: int):
    """The right set in the order of ids."""
    return np.sort(choose(z, top_k), axis=-1)


def smallest(z, top_k: int):
    """The smallest logits."""
    return choose(-z, top_k)


def one_more(z, top_k: int):
    """Ranks 2 to k + 1 (wrapping round): one too many taken, the first dropped."""
    order = choose(z, z.shape[1])
    return order[:, np.arange(1, top_k + 1) % z.shape[1]]


def one_fewer(z, ids, q: Question):
    """Only k - 1 of the chosen have weight."""
    kept = np.take_along_axis(z, ids, -1).copy()
    kept[:, -1] = -np.inf
    return softmax(kept)


def through_experts(x, q: Question, expert: int, bias_expert=None, act=None, biases=True):
    """Rows through one expert, with a choice of mistakes."""
    at = expert if bias_expert is None else bias_expert

    def bias(name):
        return q[name][at] if biases and q.has(name) else None

    gate = linear(x, q["w_gate"][expert], bias("b_gate"))
    up = linear(x, q["w_up"][expert], bias("b_up"))
    act = act or (lambda g, u: swiglu_clamped(g, u, q.attr["alpha"], q.attr["limit"]))
    return linear(act(gate, up), q["w_down"][expert], bias("b_down"))


def mixed(ids=None, weights=None, drop=None, **mistake):
    """A wrong moe_ffn: changed ids or weights, dropped pairs, mistakes within an expert."""

    def wrong(q: Question) -> dict:
        which = ids(q["ids"], q.axes["e"]) if ids else q["ids"]
        p = weights(q["weights"]) if weights else q["weights"]
        if drop:
            p = np.where(drop(which), 0, p)
        act = mistake.get("act")
        y = np.zeros((len(q["x"]), q.axes["h"]))
        for n, t in np.ndindex(*which.shape):
            y[n] += p[n, t] * through_experts(
                q["x"][n : n + 1],
                q,
                int(which[n, t]),
                mistake.get("bias_expert"),
                (lambda g, u: act(g, u, q)) if act else None,
                mistake.get("biases", True),
            )[0]
        return {"y": y}

    return wrong


def later_than(capacity: int):
    """Pairs beyond an expert's capacity."""

    def drop(ids):
        flat = ids.reshape(-1)
        earlier = np.array([(flat[:i] == e).sum() for i, e in enumerate(flat)])
        return (earlier >= capacity).reshape(ids.shape)

    return drop


def bias_outside(q: Question) -> dict:
    """The down bias added once, unweighted, in place of inside the sum."""
    y = mixed()(q)["y"]
    if q.has("b_down"):
        inside = (q["weights"][..., None] * q["b_down"][q["ids"]]).sum(1)
        y = y - inside + q["b_down"][q["ids"]].sum(1)
    return {"y": y}


def scratch_not_cleared(q: Question) -> dict:
    """Each rank adds to what the one before left: the first expert counts again."""
    y, left = np.zeros((len(q["x"]), q.axes["h"])), 0
    for t in range(q.axes["t"]):
        rows = [through_experts(q["x"][n : n + 1], q, int(e))[0] for n, e in
                enumerate(q["ids"][:, t])]
        left = left + np.array(rows)
        y = y + q["weights"][:, t : t + 1] * left
    return {"y": y}


def clamp_none(g, u, q):
    """No clamp at all."""
    return g * sigmoid(q.attr["alpha"] * g) * (u + 1)


def swapped(g, u, q):
    """Gate and up exchanged."""
    return swiglu_clamped(u, g, q.attr["alpha"], q.attr["limit"])


def no_plus_one(g, u, q):
    """+1 on up left out."""
    limit = q.attr["limit"]
    g, u = np.minimum(g, limit), np.clip(u, -limit, limit)
    return g * sigmoid(q.attr["alpha"] * g) * u


def hidden_bf16(g, u, q):
    """The activation rounded to bf16."""
    return rounded(swiglu_clamped(g, u, q.attr["alpha"], q.attr["limit"]), "bf16")


WRONG = {
    "moe_ffn": {
        "bias_of_expert_0": mixed(bias_expert=0),
        "biases_left_out": mixed(biases=False),
        "capacity_of_two": mixed(drop=later_than(2)),
        "down_bias_unweighted": bias_outside,
        "expert_0_for_all": mixed(ids=lambda ids, e: 0 * ids),
        "experts_permuted": mixed(ids=lambda ids, e: (ids + 1) % e),
        "first_rank_alone": mixed(weights=lambda w: w * (np.arange(w.shape[1]) == 0)),
        "gate_and_up_swapped": mixed(act=swapped),
        "hidden_in_bf16": mixed(act=hidden_bf16),
        "last_expert_dropped": mixed(drop=lambda ids: ids == ids.max()),
        "no_clamp": mixed(act=clamp_none),
        "no_plus_one": mixed(act=no_plus_one),
        "plain_swiglu": mixed(act=lambda g, u, q: swiglu(g, u)),
        "scratch_not_cleared": scratch_not_cleared,
        "weights_left_out": mixed(weights=np.ones_like),
        "weights_reversed": mixed(weights=lambda w: w[:, ::-1]),
    },
    "moe_router": {
        "bias_in_choice_only": routed(weigh=bias_in_choice_only),
        "bias_in_weight_only": bias_in_weight_only,
        "bias_left_out": routed(logits=without_bias),
        "bf16_logits": routed(logits=lambda q, z: rounded(z, "bf16")),
        "first_dropped": routed(order=one_more),
        "last_dropped": routed(weigh=one_fewer),
        "order_of_ids": routed(order=sorted_ids),
        "raw_logits": routed(weigh=raw),
        "smallest": routed(order=smallest),
        "softmax_over_all": routed(weigh=over_all),
        "softmax_twice": routed(weigh=twice),
        "ties_to_the_higher_id": routed(order=higher_id),
    },
}
