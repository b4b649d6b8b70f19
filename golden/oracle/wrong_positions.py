"""Wrong formulas of learned and rotary positions."""

import math

import numpy as np

from positions import frequencies, pairs, rotary_dim_of, rotate, scaling_of, yarn
from signature import Question
from stored import rounded


def at_rows(change):
    """x + table at changed rows (wrapping round, so that any mistake has an answer)."""

    def wrong(q: Question) -> dict:
        n = q.axes["n"]
        at = q["positions"] if q.has("positions") else q.attr["start"] + np.arange(n)
        return {"y": q["x"] + q["table"][change(at, n) % q.axes["p"]]}

    return wrong


def per_batch(q: Question) -> dict:
    """Rows counted through the batch: batch b begins where the one before ended."""
    b, n = q.axes["b"], q.axes["n"]
    at = q.attr["start"] + np.arange(b * n).reshape(b, n)
    return {"y": q["x"] + q["table"][at % q.axes["p"]]}


def odd_tail(q: Question) -> dict:
    """Pairs of columns only: the last of an odd width is not added."""
    n = q.axes["n"]
    at = q["positions"] if q.has("positions") else q.attr["start"] + np.arange(n)
    y = q["x"] + q["table"][at]
    if q.axes["h"] % 2:
        y[..., -1] = q["x"][..., -1]
    return {"y": y}


def first_1024(q: Question) -> dict:
    """A block of 1024 threads and no loop: columns beyond are not added."""
    n = q.axes["n"]
    at = q["positions"] if q.has("positions") else q.attr["start"] + np.arange(n)
    y = q["x"] + q["table"][at]
    y[..., 1024:] = q["x"][..., 1024:]
    return {"y": y}


def turned(inv=None, position=None, magnitude=None, style=None, angle=None, sign=1):
    """A rope with one of its parts changed; each change takes (question, right value)."""

    def wrong(q: Question) -> dict:
        right, m = frequencies(q, rotary_dim_of(q))
        at = q["positions"].astype(np.float64)
        at = position(at) if position else at
        f = inv(q, right) if inv else right
        a = at[:, None] * f
        a = angle(a) if angle else a
        m = magnitude(m) if magnitude else m
        return {"y": rotate(q["x"], sign * a, m, style or q.attr["style"])}

    return wrong


def other_style(q: Question) -> dict:
    """Neighbours for halves and the reverse."""
    style = "interleaved" if q.attr["style"] == "half" else "half"
    return turned(style=style)(q)


def powers(exponent):
    """Inverse frequencies theta^-exponent(i, d), unscaled."""

    def inv(q: Question, right):
        i = np.arange(len(right))
        return q.attr["theta"] ** -exponent(i, 2.0 * len(right))

    return turned(inv=inv)


def yarn_with(**changed):
    """YaRN frequencies with changed attributes."""

    def inv(q: Question, right):
        _, a = scaling_of(q)
        a.pop("attention_factor")
        d = 2 * len(right)
        base = q.attr["theta"] ** (-np.arange(0, d, 2) / d)
        new = {k: change(a) for k, change in changed.items()}
        return yarn(base, q.attr["theta"], d, **{**a, **new})

    return turned(inv=inv)


def base(q: Question, right):
    """Unscaled inverse frequencies."""
    d = 2 * len(right)
    return q.attr["theta"] ** (-np.arange(0, d, 2) / d)


def whole_head(q: Question) -> dict:
    """All of the head rotated where only a part should be."""
    d = q.axes["d"]
    inv = q.attr["theta"] ** (-np.arange(0, d, 2) / d)
    return {"y": rotate(q["x"], q["positions"][:, None] * inv, 1.0, q.attr["style"])}


def half_of_it(q: Question) -> dict:
    """Only the first half of the pairs rotated."""
    inv, m = frequencies(q, rotary_dim_of(q))
    keep = np.arange(len(inv)) < len(inv) // 2
    y = rotate(q["x"], q["positions"][:, None] * inv, m, q.attr["style"])
    for right, old in zip(pairs(y, 2 * len(inv), "half"), pairs(q["x"], 2 * len(inv), "half")):
        right[...] = np.where(keep, right, old)
    return {"y": y}


def tail_zeroed(q: Question) -> dict:
    """What lies beyond the rotated part is zero in place of a copy."""
    inv, m = frequencies(q, rotary_dim_of(q))
    y = rotate(q["x"], q["positions"][:, None] * inv, m, q.attr["style"])
    y[..., 2 * len(inv) :] = 0
    return {"y": y}


def f16_angle(a):
    """Reduced angles in f16: what half-precision trigonometry sees."""
    return rounded(np.mod(a, 2 * math.pi), "f16")


def rolled_positions(q: Question) -> dict:
    """Each row takes the position of the next row."""
    inv, m = frequencies(q, rotary_dim_of(q))
    at = np.roll(q["positions"], -1)
    return {"y": rotate(q["x"], at[:, None] * inv, m, q.attr["style"])}


def per_head(q: Question) -> dict:
    """The head's index taken for the position."""
    inv, m = frequencies(q, rotary_dim_of(q))
    heads = np.arange(q.axes["heads"])[:, None] * inv
    y = rotate(q["x"].swapaxes(0, 1), heads, m, q.attr["style"])
    return {"y": y.swapaxes(0, 1)}


def extracted(change):
    """Rows of the table from another start."""

    def wrong(q: Question) -> dict:
        at = change(q.attr["start"] + np.arange(q.attr["count"]), q)
        return {"y": q["table"][at % q.axes["p"]]}

    return wrong


WRONG = {
    "positional": {
        "always_from_0": at_rows(lambda at, n: np.arange(n)),
        "columns_beyond_1024_left_out": first_1024,
        "counted_through_the_batch": per_batch,
        "odd_tail_unadded": odd_tail,
        "one_early": at_rows(lambda at, n: at - 1),
        "one_late": at_rows(lambda at, n: at + 1),
        "row_0_for_all": at_rows(lambda at, n: 0 * at + at[0]),
        "table_left_out": lambda q: {"y": q["x"]},
        "table_twice": lambda q: {"y": 2 * at_rows(lambda at, n: at)(q)["y"] - q["x"]},
    },
    "positional_extract": {
        "from_0": extracted(lambda at, q: at - q.attr["start"]),
        "one_late": extracted(lambda at, q: at + 1),
        "start_times_count": extracted(lambda at, q: at - q.attr["start"] * (1 - q.attr["count"])),
    },
    "rope": {
        "angle_in_f16": turned(angle=f16_angle),
        "bf16_positions": turned(position=lambda p: rounded(p, "bf16")),
        "exponent_i_over_d": powers(lambda i, d: i / d),
        "exponent_over_d_less_2": powers(lambda i, d: 2 * i / (d - 2)),
        "f16_frequencies": turned(inv=lambda q, f: rounded(f, "f16")),
        "half_of_the_pairs": half_of_it,
        "head_for_position": per_head,
        "magnitude_left_out": turned(magnitude=lambda m: 1.0),
        "magnitude_squared": turned(magnitude=lambda m: m * m),
        "nothing_rotated": lambda q: {"y": q["x"]},
        "one_early": turned(position=lambda p: p - 1),
        "one_late": turned(position=lambda p: p + 1),
        "other_style": other_style,
        "positions_of_the_next_row": rolled_positions,
        "sign_of_sine": turned(sign=-1),
        "tail_zeroed": tail_zeroed,
        "unscaled": turned(inv=base),
        "whole_head": whole_head,
        "yarn_betas_swapped": yarn_with(
            beta_fast=lambda a: a["beta_slow"], beta_slow=lambda a: a["beta_fast"]
        ),
        "yarn_factor_on_all": turned(inv=lambda q, f: base(q, f) / scaling_of(q)[1]["factor"]),
        "yarn_other_truncation": yarn_with(truncate=lambda a: not a["truncate"]),
        "yarn_ramp_reversed": turned(
            inv=lambda q, f: base(q, f) + base(q, f) / scaling_of(q)[1]["factor"] - f
        ),
    },
}
