"""Wrong formulas of argmax, of the filters and of the draw."""

import math

import numpy as np

from sampling import (
    advanced,
    bits,
    draw,
    falling,
    keep,
    number_below_one,
    philox,
    repetition_penalty,
    seen_bits,
    softmax,
    temperature,
    top_k,
    top_p,
)
from signature import Question


def chosen(ids):
    """A wrong argmax: x [n,v] → ids [n]."""
    return lambda q: {"ids": ids(q["x"]).astype(np.int32)}


def filtered(formula):
    """A wrong filter of logits and value."""

    def wrong(q: Question) -> dict:
        with np.errstate(divide="ignore", invalid="ignore"):
            return {"logits": formula(q["logits"], q.attr["value"])}

    return wrong


def penalised(formula, seen=seen_bits):
    """A wrong penalty of logits, seen and value."""
    return lambda q: {"logits": formula(q["logits"], seen(q), q.attr["value"])}


def other_bit_order(q: Question):
    """Bits counted from the other end of each word."""
    v = q.axes["v"]
    whole = bits(q["seen"], 32 * q.axes["z"]).reshape(-1, 32)[:, ::-1].reshape(-1)
    return whole[:v]


def crossing_left_out(logits, value):
    """top_p without the token that crosses."""
    order = falling(logits)
    total = np.cumsum(softmax(logits)[order])
    return keep(logits, order[: max(1, int((total < value).sum()))])


def one_more(logits, value):
    """top_p with one token beyond the crossing one."""
    order = falling(logits)
    total = np.cumsum(softmax(logits)[order])
    return keep(logits, order[: 2 + int((total < value).sum())])


def first_1000(logits, value):
    """top_p normalised over the first 1000 tokens alone."""
    if value >= 1:
        return logits
    order = falling(logits)
    p = softmax(logits)[order]
    total = np.cumsum(p / p[:1000].sum())
    return keep(logits, order[: 1 + int((total < value).sum())])


def raw_logits(logits, value):
    """top_p over the logits themselves, not their softmax."""
    order = falling(logits)
    total = np.cumsum(logits[order]) / np.abs(logits).sum()
    return keep(logits, order[: 1 + int((total < value).sum())])


def in_id_order(logits, value):
    """top_p summed in the order of ids."""
    total = np.cumsum(softmax(logits))
    return keep(logits, np.arange(1 + int((total < value).sum()))[: len(logits)])


def higher_id(take):
    """A filter that keeps the higher of equal ids."""

    def formula(logits, value):
        return take(logits[::-1], value)[::-1]

    return formula


def ties_all_kept(logits, value):
    """top_k by threshold: all equals of the k-th stay."""
    if value == 0 or value >= len(logits):
        return logits
    return np.where(logits >= np.sort(logits)[-value], logits, -np.inf)


def drawn(pick):
    """A wrong draw of probabilities and u."""

    def wrong(q: Question) -> dict:
        u = number_below_one(q.attr["seed"], q.attr["index"])
        index = pick(softmax(q["logits"]), u, q)
        return {"id": np.array([index], dtype=np.int32)}

    return wrong


def by_probability(p, u, q):
    """Running sum by falling probability."""
    order = np.argsort(-p, kind="stable")
    return order[draw(p[order], u)[0]]


def word(i: int, shift: int = 8):
    """Another word of the generator, or other bits of it."""

    def pick(p, u, q):
        w = philox(q.attr["seed"], q.attr["index"])[i]
        number = (w >> 8) * 2.0**-24 if shift == 8 else (w & 0xFFFFFF) * 2.0**-24
        return draw(p, number)[0]

    return pick


def keyed(seed=lambda q: q.attr["seed"], index=lambda q: q.attr["index"]):
    """Another seed or draw index."""
    return lambda p, u, q: draw(p, number_below_one(seed(q), index(q)))[0]


def stepped(**others):
    """A wrong advance: other values of some of its results."""

    def wrong(q: Question) -> dict:
        right = advanced(q)
        return {**right, **{n: np.asarray(f(q, right), np.int32) for n, f in others.items()}}

    return wrong


def flipped(q: Question, right: dict) -> np.ndarray:
    """The bit of the id turned over."""
    i = int(q["id"][0])
    words = q["seen"].astype(np.uint32)
    words[i // 32] ^= np.uint32(1 << i % 32)
    return words.view(np.int32)


def from_the_other_end(q: Question, right: dict) -> np.ndarray:
    """The bit counted from the top of its word."""
    i = int(q["id"][0])
    words = q["seen"].astype(np.uint32)
    words[i // 32] |= np.uint32(1 << (31 - i % 32))
    return words.view(np.int32)


WRONG = {
    "advance": {
        "bit_flipped": stepped(seen=flipped),
        "draws_kept": stepped(draws=lambda q, right: q["draws"]),
        "length_kept": stepped(length=lambda q, right: q["length"]),
        "not_seen": stepped(seen=lambda q, right: q["seen"]),
        "other_bit_order": stepped(seen=from_the_other_end),
        "position_kept": stepped(position=lambda q, right: q["position"]),
        "position_one_late": stepped(position=lambda q, right: right["position"] + 1),
        "token_kept": stepped(token=lambda q, right: q["token"]),
    },
    "argmax": {
        "first_half_alone": chosen(lambda x: x[:, : -(-x.shape[1] // 2)].argmax(-1)),
        "last_left_out": chosen(lambda x: x[:, :-1].argmax(-1) if x.shape[1] > 1 else 0 * x[:, 0]),
        "last_of_equals": chosen(lambda x: x.shape[1] - 1 - x[:, ::-1].argmax(-1)),
        "least": chosen(lambda x: x.argmin(-1)),
        "of_magnitudes": chosen(lambda x: np.abs(x).argmax(-1)),
        "row_0_for_all": chosen(lambda x: 0 * x.argmax(-1) + x[0].argmax()),
        "over_the_table": chosen(lambda x: x.argmax(-1) + x.shape[1] * np.arange(len(x))),
        "started_from_0": chosen(lambda x: np.where(x.max(-1) > 0, x.argmax(-1), 0)),
    },
    "min_p": {
        "logit_times_p": filtered(
            lambda x, p: np.where(x >= p * x.max(), x, -np.inf) if p else x
        ),
        "log10": filtered(
            lambda x, p: np.where(x >= x.max() + math.log10(p), x, -np.inf) if p else x
        ),
        "nothing_removed": filtered(lambda x, p: x),
        "probability_itself": filtered(lambda x, p: np.where(softmax(x) >= p, x, -np.inf)),
        "removed_as_zero": filtered(
            lambda x, p: np.where(x >= x.max() + math.log(p), x, 0.0) if p else x
        ),
        "strictly_above": filtered(
            lambda x, p: np.where(x > x.max() + math.log(p), x, -np.inf) if p else x
        ),
    },
    "repetition_penalty": {
        "always_divided": penalised(lambda x, s, p: np.where(s, x / p, x)),
        "always_multiplied": penalised(lambda x, s, p: np.where(s, x * p, x)),
        "bits_from_the_other_end": penalised(repetition_penalty, other_bit_order),
        "nothing_penalised": penalised(lambda x, s, p: x),
        "positive_multiplied": penalised(
            lambda x, s, p: np.where(s, np.where(x > 0, x * p, x / p), x)
        ),
        "subtracted": penalised(lambda x, s, p: np.where(s, x - p, x)),
        "unseen_penalised": penalised(lambda x, s, p: repetition_penalty(x, ~s, p)),
    },
    "sample": {
        "argmax": drawn(lambda p, u, q: p.argmax()),
        "by_falling_probability": drawn(by_probability),
        "first_of_the_logits": drawn(lambda p, u, q: 0),
        "index_ignored": drawn(keyed(index=lambda q: 0)),
        "low_24_bits": drawn(word(0, 0)),
        "one_late": drawn(keyed(index=lambda q: q.attr["index"] + 1)),
        "one_minus_u": drawn(lambda p, u, q: draw(p, 1 - u - 2.0**-24)[0]),
        "second_word": drawn(word(1)),
        "seed_and_index_swapped": drawn(
            keyed(lambda q: q.attr["index"], lambda q: q.attr["seed"])
        ),
        "seed_ignored": drawn(keyed(seed=lambda q: 0)),
        "seed_low_word_alone": drawn(keyed(seed=lambda q: q.attr["seed"] & 0xFFFFFFFF)),
    },
    "temperature": {
        "always_one": filtered(lambda x, t: x),
        "multiplied": filtered(lambda x, t: x * t),
        "square_root": filtered(lambda x, t: x / math.sqrt(t) if t else temperature(x, 0)),
        "zero_divides": filtered(lambda x, t: x / t),
        "zero_is_one": filtered(lambda x, t: x / (t or 1)),
        "zero_keeps_the_last": filtered(higher_id(temperature)),
    },
    "top_k": {
        "equals_all_kept": filtered(ties_all_kept),
        "higher_id_of_equals": filtered(higher_id(top_k)),
        "nothing_removed": filtered(lambda x, k: x),
        "one_less": filtered(lambda x, k: top_k(x, max(1, k - 1)) if k else x),
        "one_more": filtered(lambda x, k: top_k(x, k + 1) if k else x),
        "removed_as_zero": filtered(lambda x, k: np.where(np.isinf(top_k(x, k)), 0, x)),
        "zero_keeps_one": filtered(lambda x, k: top_k(x, max(1, k))),
    },
    "top_p": {
        "crossing_left_out": filtered(crossing_left_out),
        "higher_id_of_equals": filtered(higher_id(top_p)),
        "in_the_order_of_ids": filtered(in_id_order),
        "normalised_over_first_1000": filtered(first_1000),
        "nothing_removed": filtered(lambda x, p: x),
        "of_raw_logits": filtered(raw_logits),
        "one_beyond": filtered(one_more),
        "zero_is_off": filtered(lambda x, p: top_p(x, p) if p else x),
    },
}
