"""Wrong formulas of attention and of its cache: one dense formula with a knob a mistake."""

import math
from dataclasses import dataclass, field, replace
from typing import Callable

import numpy as np

from attention import TILE, append, caches, check_heads, places, slots
from signature import Question
from stored import rounded


@dataclass
class Knobs:
    """What may be wrong. Each default is right."""

    scale: Callable = lambda s, d: s
    # last row seen, given position, row in the call, cache rows
    last: Callable = lambda position, i, c: position
    window: Callable = lambda w: w
    head: Callable = lambda h, heads, kv: h // (heads // kv)
    sink: Callable = lambda sinks, h, scale: sinks[h]
    # scores [T], sink or None, values [T,d] -> y [d]
    weigh: Callable = field(default_factory=lambda: softmax)
    values: Callable = lambda k, v: v
    keys: Callable = lambda k, v: k
    ring: Callable = lambda rows, c: rows % c
    position: Callable = lambda position, i, start: position
    sequence: Callable = lambda s: s
    width: int | None = None  # elements of a head in the score
    see_rest: bool = False  # rows that no mask hides are given to `weigh` with their masks


def parts(s, sink, shift=None):
    """exp(s - m), the sink's term, and their sum."""
    m = shift if shift is not None else max(s.max(), -math.inf if sink is None else sink)
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(s - m)
        t = 0.0 if sink is None else float(np.exp(np.float64(sink) - m))
    return e, t, e.sum() + t


def softmax(s, sink, v, mask=None):
    """The right one."""
    e, _, total = parts(s, sink)
    return (e / total) @ v


def f32_without_max(s, sink, v, mask=None):
    """exp in f32 without a maximum."""
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(s.astype(np.float32)).astype(np.float64)
        t = 0.0 if sink is None else float(np.exp(np.float32(sink)))
        return (e / (e.sum() + t)) @ v


def sink_after(s, sink, v, mask=None):
    """Normalised without the sink, then scaled by what the sink leaves of the weights' sum."""
    e, _, total = parts(s, None)
    p = e / total
    return (p / (p.sum() + (0 if sink is None else math.exp(min(sink, 700))))) @ v


def sink_in_max_only(s, sink, v, mask=None):
    """The sink moves the maximum and is missing in the sum."""
    e, _, total = parts(s, sink)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (e / e.sum()) @ v if sink is not None else (e / total) @ v


def sink_in_sum_only(s, sink, v, mask=None):
    """The sink is in the sum and not in the maximum: overflows in f32."""
    m = s.max()
    with np.errstate(over="ignore"):
        t = 0.0 if sink is None else float(np.exp(np.float32(sink - m)))
    e = np.exp(s - m)
    return (e / (e.sum() + t)) @ v


def splits(s, v):
    """Scores and values in splits of 64 keys."""
    return [(s[i : i + TILE], v[i : i + TILE]) for i in range(0, len(s), TILE)]


def sink_per_split(s, sink, v, mask=None):
    """The sink once for each split."""
    e, t, _ = parts(s, sink)
    return (e / (e.sum() + len(splits(s, v)) * t)) @ v


def splits_without_rescale(s, sink, v, mask=None):
    """Each split with its own maximum, sums added as if it were one maximum."""
    up, down = 0.0, 0.0 if sink is None else math.exp(min(sink - s.max(), 700))
    for part, values in splits(s, v):
        e, _, total = parts(part, None)
        up, down = up + e @ values, down + total
    return up / down


def splits_alone(s, sink, v, mask=None):
    """The mean of each split's own result."""
    return np.mean([softmax(a, sink, b) for a, b in splits(s, v)], axis=0)


def last_tile_dropped(s, sink, v, mask=None):
    """An incomplete last tile is left out; with a single tile nothing is."""
    keep = len(s) // TILE * TILE or len(s)
    return softmax(s[:keep], sink, v[:keep])


def padding_counted(s, sink, v, mask=None):
    """The last tile is padded by scores of 0 that count in the sum."""
    pad = -len(s) % TILE
    zeros = np.zeros((pad, v.shape[1]))
    return softmax(np.concatenate([s, np.zeros(pad)]), sink, np.concatenate([v, zeros]))


def masked_by(value: float):
    """All cached rows are seen; hidden ones get `value` added in f32 in place of -inf."""

    def weigh(s, sink, v, mask=None):
        masked = np.where(mask, s, (s.astype(np.float32) + np.float32(value)).astype(np.float64))
        return softmax(masked, sink, v)

    return weigh


def max_over_masked(s, sink, v, mask=None):
    """The maximum is taken over hidden scores too, in f32."""
    e, t, _ = parts(s, sink, shift=max(s.max(), -math.inf if sink is None else sink))
    e = np.where(mask, e, 0).astype(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (e / (e.sum() + t)) @ v


def bf16_weights(s, sink, v, mask=None):
    """The weights rounded to bf16, the sum not."""
    e, _, total = parts(s, sink)
    return rounded(e / total, "bf16") @ v


def bf16_scores(s, sink, v, mask=None):
    """The scores rounded to bf16."""
    return softmax(rounded(s, "bf16"), sink, v)


def unnormalised(s, sink, v, mask=None):
    """exp(s - m)·v without the division."""
    return parts(s, sink)[0] @ v


def plain_scores(s, sink, v, mask=None):
    """No softmax at all."""
    return s @ v


KNOBS = {
    "all_rows_seen": Knobs(last=lambda position, i, c: c - 1),
    "bf16_scores": Knobs(weigh=bf16_scores),
    "bf16_weights": Knobs(weigh=bf16_weights),
    "first_64_of_a_head": Knobs(width=64),
    "heads_modulo": Knobs(head=lambda h, heads, kv: h % kv),
    "keys_for_values": Knobs(values=lambda k, v: k),
    "kv_head_0_for_all": Knobs(head=lambda h, heads, kv: 0),
    "last_tile_dropped": Knobs(weigh=last_tile_dropped),
    "mask_10": Knobs(weigh=masked_by(-10.0), see_rest=True),
    "mask_10000": Knobs(weigh=masked_by(-1e4), see_rest=True),
    "mask_one_far": Knobs(last=lambda position, i, c: min(position + 1, c - 1)),
    "mask_one_short": Knobs(last=lambda position, i, c: max(position - 1, 0)),
    "mask_without_start": Knobs(last=lambda position, i, c: i),
    "max_over_masked": Knobs(weigh=max_over_masked, see_rest=True),
    "padding_counted": Knobs(weigh=padding_counted),
    "scale_1_over_d": Knobs(scale=lambda s, d: 1 / d),
    "scale_left_out": Knobs(scale=lambda s, d: 1.0),
    "scale_twice": Knobs(scale=lambda s, d: s * s),
    "sequence_0_for_all": Knobs(sequence=lambda s: 0),
    "sink_after_normalising": Knobs(weigh=sink_after),
    "sink_in_maximum_only": Knobs(weigh=sink_in_max_only),
    "sink_in_sum_only": Knobs(weigh=sink_in_sum_only),
    "sink_of_head_0": Knobs(sink=lambda sinks, h, scale: sinks[0]),
    "sink_per_split": Knobs(weigh=sink_per_split),
    "sink_scaled": Knobs(sink=lambda sinks, h, scale: scale * sinks[h]),
    "softmax_left_out": Knobs(weigh=plain_scores),
    "splits_alone": Knobs(weigh=splits_alone),
    "splits_without_rescale": Knobs(weigh=splits_without_rescale),
    "sum_left_out": Knobs(weigh=unnormalised),
    "values_for_keys": Knobs(keys=lambda k, v: v),
    "window_left_out": Knobs(window=lambda w: 0),
    "window_one_less": Knobs(window=lambda w: max(w - 1, 1)),
    "window_one_more": Knobs(window=lambda w: w + 1 if w else 0),
    "without_max": Knobs(weigh=f32_without_max),
}
PREFILL_ONLY = {
    "positions_through_the_batch": Knobs(position=lambda position, i, start: start + i),
    "ring_ignored": Knobs(ring=lambda rows, c: np.minimum(rows, c - 1)),
    "ring_one_early": Knobs(ring=lambda rows, c: rows % (c - 1)),
}


def dense(q: Question, x, k_cache, v_cache, of, position, start: int, knobs: Knobs):
    """y [n,q,d] of x [n,q,d] and caches [s,c,k,d], with the knobs' mistake."""
    n, heads, d = x.shape
    c, kv = k_cache.shape[1:3]
    scale = knobs.scale(check_heads(q, d), d)
    window, ring = knobs.window(q.attr["window"]), q.attr["ring"]
    y = np.empty((n, heads, d))
    for i in range(n):
        at = int(knobs.position(int(position[i]), i, start))
        last = knobs.last(at, i, c)
        first = max(0, at - window + 1) if window else 0
        rows = np.arange(min(first, last), last + 1)
        mask = None
        if knobs.see_rest:
            rows = np.arange(0, c)
            mask = (rows <= at) & (rows >= first)
        rows = knobs.ring(rows, c) if ring else np.minimum(rows, c - 1)
        s = knobs.sequence(of[i])
        for h in range(heads):
            g = knobs.head(h, heads, kv)
            k, v = k_cache[s, rows, g], v_cache[s, rows, g]
            width = knobs.width or d
            scores = scale * (knobs.keys(k, v)[:, :width] @ x[i, h, :width])
            sink = float(knobs.sink(q["sinks"], h, scale)) if q.has("sinks") else None
            y[i, h] = knobs.weigh(scores, sink, knobs.values(k, v), mask)
    return y


def prefill(knobs: Knobs, arrange=None):
    """A wrong attention_prefill."""

    def wrong(q: Question) -> dict:
        of, position = places(q, q.get("sequences"), q.axes["n"], "start")
        k, v = caches(q, "k", "v")
        if arrange:
            k, v = arrange(k, q), arrange(v, q)
        return {"y": dense(q, q["q"], k, v, of, position, q.attr["start"], knobs)}

    return wrong


def heads_first(cache, q: Question):
    """The cache's memory read as [k,c,d] in place of [c,k,d]."""
    s, c, k, d = cache.shape
    return cache.reshape(s, k, c, d).swapaxes(1, 2)


def stride_of_length(cache, q: Question):
    """Sequences lie `start + n` rows apart in place of c."""
    s, c, k, d = cache.shape
    length = min(q.attr["start"] + q.axes["n"], c)
    flat = cache.reshape(s * c, k, d)
    return np.stack([np.roll(flat, -length * i, axis=0)[:c] for i in range(s)])


def stride_of_query_heads(cache, q: Question):
    """Rows lie q·d apart in place of k·d (wrapping round)."""
    s, c, k, d = cache.shape
    flat = cache.reshape(s, -1)
    row = np.arange(c)[:, None] * q.axes["q"] * d + np.arange(k * d)
    return flat[:, row % flat.shape[1]].reshape(cache.shape)


def transposed_output(q: Question) -> dict:
    """Heads written as [q,n,d] in place of [n,q,d]."""
    y = prefill(Knobs())(q)["y"]
    return {"y": y.swapaxes(0, 1).reshape(y.shape)}


def heads_reversed(q: Question) -> dict:
    """Heads written in the opposite order."""
    return {"y": prefill(Knobs())(q)["y"][:, ::-1]}


@dataclass
class Append:
    """What may be wrong in writing the cache."""

    k: Callable = lambda k, v: k
    v: Callable = lambda k, v: v
    at: Callable = lambda position, c, ring: slots(position, c, ring) % c
    of: Callable = lambda of: of
    after: Callable = lambda new, old, at: new


def written(q: Question, k, v, of, position, knobs: Append):
    """The caches after a wrong append."""
    old = caches(q, "k_cache", "v_cache")
    new = tuple(c.copy() for c in old)
    at = knobs.at(position, q.axes["c"], q.attr["ring"])
    for i in range(len(position)):
        for cache, rows in zip(new, (knobs.k(k, v), knobs.v(k, v))):
            cache[knobs.of(of[i]), at[i]] = rounded(rows[i], q.stored("k_cache"))
    return tuple(knobs.after(n, o, at) for n, o in zip(new, old))


def only_head_0(new, old, at):
    """Only KV head 0 is written."""
    mixed = old.copy()
    mixed[:, :, 0] = new[:, :, 0]
    return mixed


def others_zeroed(new, old, at):
    """Rows that were not written are cleared."""
    keep = np.zeros_like(new)
    keep[:, at] = new[:, at]
    return keep


def f16_rows(rows):
    """Through f16 on the way: overflow at 65,504."""
    return rounded(rows, "f16")


APPEND = {
    "head_0_alone_written": Append(after=only_head_0),
    "k_and_v_swapped": Append(k=lambda k, v: v, v=lambda k, v: k),
    "nothing_written": Append(after=lambda new, old, at: old),
    "one_early": Append(at=lambda p, c, ring: (p - 1) % c),
    "one_late": Append(at=lambda p, c, ring: (p + 1) % c),
    "other_rows_cleared": Append(after=others_zeroed),
    "ring_ignored": Append(at=lambda p, c, ring: np.minimum(p, c - 1)),
    "ring_one_early": Append(at=lambda p, c, ring: p % (c - 1) if ring else p),
    "sequence_0_for_all": Append(of=lambda of: 0),
    "start_ignored": Append(at=lambda p, c, ring: (p - p.min()) % c),
    "through_f16": Append(k=lambda k, v: f16_rows(k), v=lambda k, v: f16_rows(v)),
    "v_not_written": Append(v=lambda k, v: k * 0),
}


def kv_append(knobs: Append):
    """A wrong kv_append."""

    def wrong(q: Question) -> dict:
        of, position = places(q, q.get("sequences"), q.axes["n"], "start")
        k, v = written(q, q["k"], q["v"], of, position, knobs)
        return {"k_cache": k.reshape(q["k_cache"].shape), "v_cache": v.reshape(q["v_cache"].shape)}

    return wrong


def counted_through(q: Question) -> dict:
    """Rows counted through the batch, not a sequence."""
    of, position = places(q, q.get("sequences"), q.axes["n"], "start")
    position = (q.attr["start"] + np.arange(len(position))) % q.axes["c"]
    k, v = written(q, q["k"], q["v"], of, position, Append())
    return {"k_cache": k.reshape(q["k_cache"].shape), "v_cache": v.reshape(q["v_cache"].shape)}


def decode(
    knobs: Knobs | None = None,
    cached: Append | None = None,
    shift: int = 0,
    stale=False,
    one_position=False,
):
    """A wrong attention_decode: in the cache, in what is attended, or one row off."""

    def wrong(q: Question) -> dict:
        x, k_new, v_new = (
            np.array(q[n]).reshape(-1, *q[n].shape[-2:]) for n in ("q", "k_new", "v_new")
        )
        of, position = places(q, q.get("sequences"), len(x), "position")
        if one_position:
            position = np.full_like(position, position[0])
        if cached:
            k, v = written(q, k_new, v_new, of, position, cached)
        else:
            k, v = append(q, k_new, v_new, of, position)
        seen = caches(q, "k_cache", "v_cache") if stale else (k, v)
        right = knobs or Knobs()
        if shift:
            right = replace(right, last=lambda position, i, c: max(position + shift, 0))
        y = dense(q, x, *seen, of, position, q.attr["position"] or 0, right)
        shape = q["k_cache"].shape
        k, v = k.reshape(shape), v.reshape(shape)
        return {"y": y.reshape(q["q"].shape), "k_cache": k, "v_cache": v}

    return wrong


WRONG = {
    "attention_decode": {
        **{k: decode(v) for k, v in KNOBS.items() if k not in ("mask_one_far", "all_rows_seen")},
        **{f"cache_{k}": decode(cached=v) for k, v in APPEND.items() if "sequence" not in k},
        "attended_before_written": decode(stale=True),
        "cache_sequence_0_for_all": decode(cached=APPEND["sequence_0_for_all"]),
        "one_position_for_all": decode(one_position=True),
        "sequence_0_for_all": decode(KNOBS["sequence_0_for_all"]),
        "whole_cache_seen": decode(Knobs(last=lambda position, i, c: c - 1)),
    },
    "attention_prefill": {
        **{k: prefill(v) for k, v in {**KNOBS, **PREFILL_ONLY}.items()},
        "heads_before_rows": prefill(Knobs(), heads_first),
        "heads_reversed": heads_reversed,
        "output_heads_before_rows": transposed_output,
        "row_stride_of_query_heads": prefill(Knobs(), stride_of_query_heads),
        "sequence_stride_of_length": prefill(Knobs(), stride_of_length),
    },
    "kv_append": {
        **{k: kv_append(v) for k, v in APPEND.items()},
        "counted_through_the_batch": counted_through,
    },
}
