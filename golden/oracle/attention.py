"""Causal attention with a cache (Vaswani et al. 2017, eq. 1), grouped heads, windows and sinks.

A row's position is told by `positions`, else start plus the number of earlier rows of the same
sequence in this call; it sees rows j <= position with position - j < window. Row j of a sequence
lies in cache row j, or j mod c with `ring`. With rank-3 caches there is one sequence.
"""

import math
from dataclasses import dataclass

import numpy as np

from answer import Answer, Result
from declared import Declared, finite, moved
from positions import check_positions
from products import check_ids
from signature import Question, Refused
from slack import UNDERFLOW
from stored import lowest_bit, representable, rounded, whole_sums

TILE = 64


@dataclass
class Head:
    """One row of one head, attended: scores, weights, result and what its slack needs."""

    scores: np.ndarray
    p: np.ndarray
    y: np.ndarray
    sink_p: float
    slack: np.ndarray
    kept: np.ndarray
    exact: bool


def places(q: Question, sequences, n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Sequence and position of each of n rows; `name` is the attribute of the first position."""
    of = np.zeros(n, dtype=np.int64) if sequences is None else sequences
    start = q.attr[name] or 0
    if q.has("positions"):
        if start:
            raise Refused("AttributeOutOfRange", name, "the operand positions already says it")
        limit = 2**31 - 1 if q.attr["ring"] else q.axes["c"]
        check_ids(q["positions"], limit, "positions", "PositionOutOfRange")
        return of, q["positions"]
    seen: dict[int, int] = {}
    position = np.empty(n, dtype=np.int64)
    for i, s in enumerate(of.tolist()):
        position[i] = start + seen.get(s, 0)
        seen[s] = seen.get(s, 0) + 1
    return of, position


def visible(position: int, window: int) -> np.ndarray:
    """The rows that a row at `position` sees, itself included."""
    first = max(0, position - window + 1) if window else 0
    return np.arange(first, position + 1)


def attend(q, k, v, scale: float, sink: float | None, q_: Question) -> Head:
    """softmax(scale·q·kᵀ, sink)·v of one row of one head, with its slack (specs/README.md).

    q [d], k, v [T,d]. E_j = product(d)·scale·M_qk,j + 2|s_j| + 2|s_j - m| + 4; slack =
    Σ p_j·E_j·|v_j - y| + product(T)·M_pv + (2·tiles + 8)·|y|; the sink is a term with v = 0.
    """
    terms = k * q
    s = scale * terms.sum(-1)
    m = s.max() if sink is None else max(s.max(), sink)
    e = np.exp(s - m)
    sink_e = 0.0 if sink is None else math.exp(sink - m)
    p = e / (e.sum() + sink_e)
    sink_p = sink_e / (e.sum() + sink_e)
    weighted = p[:, None] * v
    y = weighted.sum(0)
    square = np.sqrt((terms * terms).sum(-1))
    m_qk = np.maximum(np.abs(np.cumsum(terms, -1)).max(-1), square)
    error = q_.product(len(q)) * scale * m_qk + 2 * np.abs(s) + 2 * np.abs(s - m) + 4
    kept = np.sqrt((weighted * weighted).sum(0))
    m_pv = np.maximum(np.abs(np.cumsum(weighted, 0)).max(0), kept)
    allowed = (p * error) @ np.abs(v - y) + q_.product(len(k)) * m_pv
    allowed += (2 * math.ceil(len(k) / TILE) + 8) * np.abs(y) + UNDERFLOW * np.abs(v).sum(0)
    if sink is not None:
        allowed += sink_p * (2 * abs(sink) + 2 * abs(sink - m) + 4) * np.abs(y)
    powers = bool((np.frexp(p[p > 0])[0] == 0.5).all()) and np.isfinite(v).all()
    used = p > 0
    exact = powers and whole_sums(lowest_bit(weighted[used]).min(0), np.abs(weighted).sum(0))
    return Head(s, p, y, sink_p, allowed, kept, exact)


def check_heads(q: Question, scale_of: int) -> float:
    """Refuses heads that do not group evenly; returns the scale."""
    if q.axes["q"] % q.axes["k"]:
        name = "k_new" if q.op == "attention_decode" else "k"
        raise Refused("ShapeMismatch", name, f"{q.axes['k']} heads for {q.axes['q']}")
    scale = q.attr["scale"]
    return 1 / math.sqrt(scale_of) if scale is None else scale


def check_room(position: np.ndarray, q: Question, name: str, cache: str) -> None:
    """Refuses positions beyond the cache; with a ring, windows that it cannot hold."""
    c, window = q.axes["c"], q.attr.get("window") or 0
    last, rows = int(position.max()), len(position)
    if not q.attr["ring"]:
        check_positions(last, 1, c, name)
    elif "window" in q.attr:
        needed = min(last + 1, window + rows - 1) if window else last + 1
        if needed > c:
            raise Refused("CapacityExceeded", cache, f"{needed} rows are seen, {c} are there")


def slots(rows: np.ndarray, c: int, ring: bool) -> np.ndarray:
    """Cache rows of positions."""
    return rows % c if ring else rows


def attend_all(q: Question, x, k_cache, v_cache, of, position, scale: float) -> Answer:
    """Every row and head: x [n,q,d], caches [s,c,k,d] → y [n,q,d]; keeps p."""
    n, heads, d = x.shape
    group = heads // k_cache.shape[2]
    y, allowed, kept = (np.empty((n, heads, d)) for _ in range(3))
    declared = Declared(y.shape)
    exact = True
    for i in range(n):
        seen = visible(int(position[i]), q.attr["window"])
        at = slots(seen, k_cache.shape[1], q.attr["ring"])
        for h in range(heads):
            k, v = k_cache[of[i], at, h // group], v_cache[of[i], at, h // group]
            sink = float(q["sinks"][h]) if q.has("sinks") else None
            head = attend(x[i, h], k, v, scale, sink, q)
            y[i, h], allowed[i, h], kept[i, h] = head.y, head.slack, head.kept
            exact = exact and head.exact
            rounded_inside(declared, (i, h), head, v)
    exact = exact and representable(y, (q.dtype,))
    return Answer({"y": Result(y, q.dtype, allowed, {"p": kept}, declared=declared)}, exact)


def rounded_inside(declared: Declared, at: tuple, head: Head, v) -> None:
    """Weights p_j and scores s_j (q·k, and that times the scale) of one row of one head.

    c is p_j·v_j of a weight and p_j·(v_j - y)·s_j of a score.
    """
    g = finite(head.y)
    scores = np.where(head.p > 0, head.scores, 0.0)[:, None]
    contributions = (
        ("p", moved(v, head.p[:, None]), 1),
        ("logits", moved(head.p[:, None] * (v - head.y), scores), 2),
    )
    for place, c, times in contributions:
        term = declared.at(place)
        term.squares[at] = times * (c * c).sum(0)
        term.sizes[at] = times * np.abs(c).sum(0)
        term.gain += times * float(((c @ g) ** 2).sum())


def caches(q: Question, k: str, v: str) -> tuple[np.ndarray, np.ndarray]:
    """Copies of the two caches as [s,c,k,d]."""
    if q[k].ndim != q[v].ndim:
        raise Refused("RankMismatch", v, f"has {q[v].ndim} axes, {k} has {q[k].ndim}")
    return tuple(np.array(q[name]).reshape(-1, *q[name].shape[-3:]) for name in (k, v))


def check_sequences(q: Question, k: str) -> np.ndarray | None:
    """The rows' sequences, each with a cache of its own."""
    if not q.has("sequences"):
        return None
    check_ids(q["sequences"], q.axes.get("s", 1), "sequences")
    return q["sequences"]


def answer_attention_prefill(q: Question) -> Answer:
    """q [n,q,d], k, v [c,k,d] or [s,c,k,d] → y [n,q,d]."""
    scale = check_heads(q, q.axes["d"])
    of, position = places(q, check_sequences(q, "k"), q.axes["n"], "start")
    check_room(position, q, "start", "k")
    k, v = caches(q, "k", "v")
    return attend_all(q, q["q"], k, v, of, position, scale)


def append(q: Question, k, v, of, position) -> tuple[np.ndarray, np.ndarray]:
    """The caches after rows k, v [n,k,d] were written, rounded to the caches' types."""
    k_cache, v_cache = caches(q, "k_cache", "v_cache")
    at = slots(position, q.axes["c"], q.attr["ring"])
    for i in range(len(position)):  # in order, so that the last of equals stays
        k_cache[of[i], at[i]] = rounded(k[i], q.stored("k_cache"))
        v_cache[of[i], at[i]] = rounded(v[i], q.stored("v_cache"))
    return k_cache, v_cache


def state(q: Question, k_cache, v_cache) -> dict[str, Result]:
    """The caches as results: exact, in their own types and shapes."""
    new = {"k_cache": k_cache, "v_cache": v_cache}
    return {
        name: Result(c.reshape(q[name].shape), q.stored(name), np.zeros(q[name].shape))
        for name, c in new.items()
    }


def answer_kv_append(q: Question) -> Answer:
    """k, v [n,k,d] into k_cache, v_cache [s,c,k,d] or [c,k,d]."""
    of, position = places(q, check_sequences(q, "k_cache"), q.axes["n"], "start")
    check_room(position, q, "start", "k_cache")
    results = state(q, *append(q, q["k"], q["v"], of, position))
    exact = all(representable(r.values) for r in results.values())
    return Answer(results, exact)


def check_decode(q: Question) -> None:
    """Rows of q, k_new and v_new are as many; a position is told once; one row a sequence."""
    for name, like in (("k_new", "q"), ("v_new", "q"), ("v_cache", "k_cache")):
        if q[name].ndim != q[like].ndim:
            raise Refused("RankMismatch", name, f"has {q[name].ndim} axes, {like} {q[like].ndim}")
    if not q.has("positions") and q.attr["position"] is None:
        raise Refused("AttributeMissing", "position", "is required where there are no positions")
    if not q.has("positions") and not q.has("sequences") and q.axes.get("n", 1) > 1:
        raise Refused("OperandMissing", "sequences", "rows of one call are of different sequences")


def answer_attention_decode(q: Question) -> Answer:
    """q [n,q,d], k_new, v_new [n,k,d], caches [s,c,k,d]: append, attend, one row a sequence."""
    scale = check_heads(q, q.axes["d"])
    check_decode(q)
    rows = [np.array(q[name]).reshape(-1, *q[name].shape[-2:]) for name in ("q", "k_new", "v_new")]
    of, position = places(q, check_sequences(q, "k_cache"), len(rows[0]), "position")
    for one in position:
        check_room(np.array([one]), q, "position", "k_cache")
    if len(set(of.tolist())) < len(of):
        raise Refused("IdOutOfRange", "sequences", "two rows are of one sequence")
    k_cache, v_cache = append(q, rows[1], rows[2], of, position)
    inner = attend_all(q, rows[0], k_cache, v_cache, of, position, scale)
    y = inner.results["y"]
    shape = q["q"].shape
    kept = {"p": y.keeps["p"].reshape(shape)}
    declared = y.declared
    declared.shape = shape
    for term in declared.terms.values():
        term.squares, term.sizes = term.squares.reshape(shape), term.sizes.reshape(shape)
    values, allowed = y.values.reshape(shape), y.slack.reshape(shape)
    one = Result(values, y.stored, allowed, kept, declared=declared)
    return Answer({"y": one, **state(q, k_cache, v_cache)}, inner.exact)
