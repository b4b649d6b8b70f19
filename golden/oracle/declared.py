"""What declared roundings add to an element and to the whole: the tables of specs/README.md.

An engine may declare at which places it rounds. With z running over the rounded numbers and
c = dr/dz·z, one element moves by at most u·Σ|c|, and by 4u·√Σc² unless roundings conspire; the
result as a whole moves along itself by G = √Σ_z (Σ_i g_i·c_i)², g being the golden. Neither knows
the type: the judge multiplies by its u, 2^-11 for f16 and 2^-8 for bf16.

Below 2^-14 f16 has fewer digits. Activations, scores and the like come near zero in the ordinary
course of things, so their z counts as at least 2^-14; weights of models and what is multiplied by
them do not, because what they lose there is lost.
"""

import math
from dataclasses import dataclass, field

import numpy as np

# Elements that share a scale where activations are quantised to int8, by the name of the place.
INT8 = {"x_int8_32": 32, "x_int8_256": 256}
SMALLEST = 2.0**-14


def moved(slope, z) -> np.ndarray:
    """c = dr/dz·z with z at least 2^-14 in size."""
    return slope * np.maximum(np.abs(z), SMALLEST)


@dataclass
class Term:
    """Σc² and Σ|c| of each element, and G² of the result."""

    squares: np.ndarray
    sizes: np.ndarray
    gain: float = 0.0

    def bound(self) -> np.ndarray:
        """min(4·√Σc², Σ|c|): the error of an element in units of u."""
        return np.minimum(4 * np.sqrt(self.squares), self.sizes)


@dataclass
class Declared:
    """The terms of one result, by place."""

    shape: tuple[int, ...]
    terms: dict[str, Term] = field(default_factory=dict)

    def at(self, place: str) -> Term:
        """The term of a place, empty at first."""
        empty = Term(np.zeros(self.shape), np.zeros(self.shape))
        return self.terms.setdefault(place, empty)

    def own(self, place: str, c: np.ndarray, g: np.ndarray, times: int = 1) -> None:
        """Numbers of which each reaches one element only, rounded `times` times."""
        term = self.at(place)
        term.squares += times * c * c
        term.sizes += times * np.abs(c)
        term.gain += times * float(((g * c) ** 2).sum())


def heights(x: np.ndarray, block: int) -> np.ndarray:
    """The largest error of each x [..., k] in int8: amax of its block over 254."""
    blocks = np.abs(x).reshape(*x.shape[:-1], -1, block).max(-1)
    return np.repeat(blocks, block, -1) / 254


def entering(x: np.ndarray, int8: bool) -> dict[str, np.ndarray]:
    """How far each number that enters a product may be off, by place."""
    fits = {place: block for place, block in INT8.items() if int8 and x.shape[-1] % block == 0}
    return {"x": x, **{place: heights(x, block) for place, block in fits.items()}}


def through(d: Declared, place: str, at, c: np.ndarray, w: np.ndarray, g: np.ndarray) -> None:
    """Numbers c [k] that reach the elements `at` through w [o,k]; g [o]."""
    term = d.at(place)
    term.squares[at] += (w * w) @ (c * c)
    term.sizes[at] += np.abs(w) @ np.abs(c)
    term.gain += float(((c * (g @ w)) ** 2).sum())


def product(d: Declared, x: np.ndarray, w: np.ndarray, g: np.ndarray, block: bool) -> None:
    """y = x·wᵀ: x [n,k], w [o,k], g [n,o]; `block` where w is of a block type."""
    for i, row in enumerate(x):
        for place, c in entering(row, block).items():
            through(d, place, i, c, w, g[i])
        term = d.at("weights")
        term.squares[i] += (w * w) @ (row * row)
        term.sizes[i] += np.abs(w) @ np.abs(row)
    d.at("weights").gain += float(((w * (g.T @ x)) ** 2).sum())


class Weights:
    """G of weights that several rows share: Σ_z (z·gradient)² once all rows are in."""

    def __init__(self) -> None:
        self.gradients: dict = {}

    def add(self, key, w: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        """One row's left ⊗ right for the weight `key`."""
        value, gradient = self.gradients.setdefault(key, (w, np.zeros_like(w)))
        gradient += np.outer(left, right)

    def gain(self) -> float:
        """Σ (w·gradient)²."""
        return sum(float(((w * gradient) ** 2).sum()) for w, gradient in self.gradients.values())


@dataclass
class Inner:
    """An inner product of a feed-forward block: its weight [f,h] and dhidden/dproduct [f]."""

    key: object
    w: np.ndarray
    slope: np.ndarray


def feed_forward(
    d: Declared, at: int, x, inner: list[Inner], activation: list, hidden, down, share: float,
    g, block: bool, shared: Weights,
) -> dict[str, np.ndarray]:
    """One row through share·(hidden·downᵀ): x [h], hidden [f], down (key, w [o,f]), g [o].

    `activation` are c [f] of the numbers that are rounded between the products. What x itself
    contributes is returned as dy/dx [o,h], since several blocks may read the same x.
    """
    key, w_down = down
    w = share * w_down
    for place, c in entering(hidden, block).items():
        through(d, place, at, c, w, g)
    for c in activation:
        through(d, "activation", at, c, w, g)
    term = d.at("weights")
    inside = hidden * hidden + 0.0
    sizes = np.abs(hidden)
    for part in inner:
        inside = inside + part.slope**2 * ((part.w * part.w) @ (x * x))
        sizes = sizes + np.abs(part.slope) * (np.abs(part.w) @ np.abs(x))
        shared.add(part.key, part.w, (g @ w) * part.slope, x)
    term.squares[at] += (w * w) @ inside
    term.sizes[at] += np.abs(w) @ sizes
    shared.add(key, w_down, share * g, hidden)
    return sum(w @ (part.slope[:, None] * part.w) for part in inner)


def through_all(d: Declared, at: int, x, jacobian: np.ndarray, g, block: bool) -> None:
    """What the row x [h] of a feed-forward block contributes: jacobian [o,h]."""
    for place, c in entering(x, block).items():
        through(d, place, at, c, jacobian, g)


def softmax(d: Declared, z, p, g, place: str = "logits", times: int = 1) -> None:
    """p [n,m] = softmax(z): c_ij = p_i·(δ_ij - p_j)·z_j."""
    term = d.at(place)
    size = np.where(p > 0, np.maximum(np.abs(z), SMALLEST), 0.0)
    squares = ((1 - p) * size) ** 2 + others((p * size) ** 2)
    sizes = (1 - p) * size + others(p * size)
    term.squares += times * p * p * squares
    term.sizes += times * p * sizes
    slope = p * (g - (g * p).sum(-1, keepdims=True))
    term.gain += times * float(((slope * size) ** 2).sum())


def others(x: np.ndarray) -> np.ndarray:
    """The sum of all other elements of each row, by sums from both ends: nothing cancels."""
    return shifted(np.cumsum(x, -1)) + shifted(np.cumsum(x[..., ::-1], -1))[..., ::-1]


def shifted(sums: np.ndarray) -> np.ndarray:
    """Sums up to each element become sums before it."""
    return np.concatenate([np.zeros_like(sums[..., :1]), sums[..., :-1]], -1)


def finite(values: np.ndarray) -> np.ndarray:
    """The golden as a direction: what is no number has none."""
    return np.where(np.isfinite(values), values, 0.0)


def root(gain: float) -> float:
    """G of G²; where the question holds infinities nothing is allowed."""
    return math.sqrt(gain) if math.isfinite(gain) else 0.0
