"""Learned positions (GPT-2) and rotary ones (Su et al. 2021, eq. 34; Llama 3; YaRN, 2309.00071)."""

import math

import numpy as np

import slack
from answer import Answer, Result, one
from declared import Declared, finite, moved
from products import check_ids
from signature import Question, Refused, flag, read_attributes, real
from stored import representable

SCALINGS = {
    "llama3": {
        "factor": real(0),
        "low_freq_factor": real(0),
        "high_freq_factor": real(0),
        "original_context": real(0),
    },
    "yarn": {
        "factor": real(0),
        "beta_fast": real(0, default=32.0),
        "beta_slow": real(0, default=1.0),
        "original_context": real(0),
        "truncate": flag(True),
        "attention_factor": real(0, default=None),
    },
}


def check_positions(start: int, count: int, size: int, name: str = "start") -> None:
    """Refuses positions start .. start + count - 1 that are not all below `size`."""
    if start + count > size:
        raise Refused("PositionOutOfRange", name, f"{start} + {count} rows, {size} positions")


def answer_positional(q: Question) -> Answer:
    """x [b,n,h], table [p,h] → y = x + table[start + i], or + table[positions[i]]."""
    n, size = q.axes["n"], q.axes["p"]
    if q.has("positions"):
        check_ids(q["positions"], size, "positions", "PositionOutOfRange")
        at = q["positions"]
    else:
        check_positions(q.attr["start"], n, size)
        at = q.attr["start"] + np.arange(n)
    y = q["x"] + q["table"][at]
    return one("y", y, q.stored("x"), exact=representable(y))


def answer_positional_extract(q: Question) -> Answer:
    """table [p,h] → y [count,h], the rows from start."""
    start, count = q.attr["start"], q.attr["count"]
    check_positions(start, count, q.axes["p"])
    y = q["table"][start : start + count]
    return one("y", y, q.dtype, exact=representable(y))


def llama3(inv, factor, low_freq_factor, high_freq_factor, original_context):
    """Long waves by 1/factor, short ones as they are, in between a linear mix."""
    turns = original_context * inv / (2 * math.pi)
    smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor)
    mixed = (1 - smooth) * inv / factor + smooth * inv
    low, high = turns < low_freq_factor, turns > high_freq_factor
    return np.where(low, inv / factor, np.where(high, inv, mixed))


def yarn(inv, theta, rotary_dim, factor, beta_fast, beta_slow, original_context, truncate):
    """Interpolated below, extrapolated above, a linear ramp between two indices."""

    def index(turns: float) -> float:
        turned = original_context / (turns * 2 * math.pi)
        return rotary_dim * math.log(turned) / (2 * math.log(theta))

    low, high = index(beta_fast), index(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(len(inv)) - low) / (high - low), 0, 1)
    return inv / factor * ramp + inv * (1 - ramp)


def scaling_of(q: Question) -> tuple[str | None, dict]:
    """The scaling's name and attributes; other types are refused by name."""
    given = q.attr["scaling"]
    if given is None:
        return None, {}
    if not isinstance(given, dict) or len(given) != 1:
        raise Refused("AttributeOutOfRange", "scaling", "wants null or one named scaling")
    ((name, attributes),) = given.items()
    if name not in SCALINGS:
        raise Refused("NotSupported", "scaling", f"{name} is not one of {', '.join(SCALINGS)}")
    return name, read_attributes(name, SCALINGS[name], attributes or {})


def frequencies(q: Question, rotary_dim: int) -> tuple[np.ndarray, float]:
    """Inverse frequencies [rotary_dim/2] and the magnitude of cosine and sine."""
    theta = q.attr["theta"]
    inv = theta ** (-np.arange(0, rotary_dim, 2) / rotary_dim)
    name, a = scaling_of(q)
    if q.has("divisors"):
        if name:
            raise Refused("AttributeOutOfRange", "scaling", "excluded by divisors")
        return inv / q["divisors"], 1.0
    if name == "llama3":
        return llama3(inv, **a), 1.0
    if name == "yarn":
        magnitude = a.pop("attention_factor")
        if magnitude is None:
            magnitude = 0.1 * math.log(a["factor"]) + 1 if a["factor"] > 1 else 1.0
        return yarn(inv, theta, rotary_dim, **a), magnitude
    return inv, 1.0


def pairs(x, rotary_dim: int, style: str) -> tuple[np.ndarray, np.ndarray]:
    """Views of the two members of each pair: halves of the rotated part, or neighbours."""
    if style == "half":
        return x[..., : rotary_dim // 2], x[..., rotary_dim // 2 : rotary_dim]
    return x[..., 0:rotary_dim:2], x[..., 1:rotary_dim:2]


def rotate(x, angle, magnitude: float, style: str) -> np.ndarray:
    """(x1 c - x2 s, x2 c + x1 s) of each pair; what lies beyond the rotated part is copied.

    x [n,heads,d], angle [n,r/2].
    """
    y = np.array(x)
    rotary_dim = 2 * angle.shape[-1]
    (x1, x2), (y1, y2) = pairs(x, rotary_dim, style), pairs(y, rotary_dim, style)
    c = magnitude * np.cos(angle)[:, None, :]
    s = magnitude * np.sin(angle)[:, None, :]
    y1[...] = x1 * c - x2 * s
    y2[...] = x2 * c + x1 * s
    return y


def rotary_dim_of(q: Question) -> int:
    """The number of rotated elements of a head, even and at most d."""
    d = q.axes["d"]
    r = q.attr["rotary_dim"]
    if r is None and d % 2:
        raise Refused("ShapeMismatch", "x", f"a head of {d} has no pairs")
    r = d if r is None else r
    if r % 2 or r > d:
        raise Refused("AttributeOutOfRange", "rotary_dim", f"is {r}, wants an even one up to {d}")
    if q.has("divisors") and q.axes["z"] != r // 2:
        raise Refused("ShapeMismatch", "divisors", f"has {q.axes['z']}, wants {r // 2}")
    return r


def answer_rope(q: Question) -> Answer:
    """x [n,heads,d], positions [n] → y: angle = position·inv_freq, in float64."""
    x, style = q["x"], q.attr["style"]
    r = rotary_dim_of(q)
    inv, magnitude = frequencies(q, r)
    if q["positions"].min() < 0:
        raise Refused("PositionOutOfRange", "positions", f"has {q['positions'].min()}")
    angle = q["positions"][:, None] * inv
    y = rotate(x, angle, magnitude, style)
    allowed = np.zeros_like(x)
    x1, x2 = pairs(x, r, style)
    for half in pairs(allowed, r, style):
        half[...] = slack.rope(x1, x2, angle[:, None, :], magnitude)
    declared = rotated(x, y, angle, magnitude, style)
    return Answer({"y": Result(y, q.dtype, allowed, declared=declared)}, representable(y))


def rotated(x, y, angle, magnitude: float, style: str) -> Declared:
    """Cosine and sine, which all heads share, and the four products of each pair."""
    declared, g, r = Declared(y.shape), finite(y), 2 * angle.shape[-1]
    c = magnitude * np.cos(angle)[:, None, :]
    s = magnitude * np.sin(angle)[:, None, :]
    (x1, x2), (g1, g2) = pairs(x, r, style), pairs(g, r, style)
    term = declared.at("rope")
    for of, g_of, first, second in ((0, g1, x1, x2), (1, g2, x2, x1)):
        shared = [moved(first, c), moved(second, s)]
        contributions = [*shared, moved(1, first * c), moved(1, second * s)]
        pairs(term.squares, r, style)[of][...] = sum(a * a for a in contributions)
        pairs(term.sizes, r, style)[of][...] = sum(np.abs(a) for a in contributions)
        term.gain += sum(float(((g_of * a) ** 2).sum()) for a in contributions[2:])
    by_cos, by_sin = moved(g1 * x1 + g2 * x2, c), moved(g2 * x1 - g1 * x2, s)
    term.gain += float((by_cos.sum(1) ** 2).sum() + (by_sin.sum(1) ** 2).sum())
    return declared
