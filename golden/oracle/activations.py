"""GELU (Hendrycks & Gimpel 2016, section 2), SwiGLU (Shazeer 2020), gpt-oss's clamped SwiGLU."""

import math

import numpy as np

import slack
from answer import Answer, one
from declared import Declared, finite, moved
from signature import Question, Refused
from stored import representable

ERFC = np.frompyfunc(math.erfc, 1, 1)


def gelu(x) -> np.ndarray:
    """x·Φ(x), Φ through erfc so that nothing cancels for x < 0."""
    return x * 0.5 * ERFC(-x / math.sqrt(2)).astype(np.float64)


def gelu_tanh(x, cubic: float = 0.044715) -> np.ndarray:
    """x/2·(1 + tanh u), u = √(2/π)(x + 0.044715 x³), as x·sigmoid(2u)."""
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + cubic * x**3))


def sigmoid(x) -> np.ndarray:
    """1/(1 + exp(-x)), without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def silu(x) -> np.ndarray:
    """x·sigmoid(x); 0 at minus infinity is the limit, IEEE gives NaN and NaN it is."""
    return x * sigmoid(x)


def swiglu(gate, up) -> np.ndarray:
    """silu(gate)·up."""
    return silu(gate) * up


def clamp(gate, up, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Gate from above only, up on both sides; NaN stays NaN."""
    return np.minimum(gate, limit), np.clip(up, -limit, limit)


def swiglu_clamped(gate, up, alpha: float, limit: float) -> np.ndarray:
    """g·sigmoid(alpha·g)·(u + 1) of the clamped g and u."""
    g, u = clamp(gate, up, limit)
    return g * sigmoid(alpha * g) * (u + 1)


def gelu_of(x, approximate: str) -> np.ndarray:
    """GELU in the form that `approximate` names."""
    return gelu_tanh(x) if approximate == "tanh" else gelu(x)


def gelu_steps(x, approximate: str) -> list[np.ndarray]:
    """c of the numbers z inside GELU: its argument (of tanh the cube, the product with it,
    the sum and the product with √(2/π)), t = erf or tanh, 1 + t, and the product with x/2.
    """
    if approximate == "tanh":
        root = math.sqrt(2 / math.pi)
        cubic = root * 0.044715 * x**3
        u = root * x + cubic
        t, slope = np.tanh(u), x / 2 * (1 - np.tanh(u) ** 2)
        inside = [(slope, z) for z in (cubic, cubic, u, u)]
    else:
        u = x / math.sqrt(2)
        t, slope = 1 - ERFC(u).astype(np.float64), x / math.sqrt(math.pi) * np.exp(-u * u)
        inside = [(slope, u)]
    inside += [(x / 2, t), (x / 2, 1 + t), (1.0, x / 2 * (1 + t))]
    return [moved(slope, z) for slope, z in inside]


def own_steps(y, steps: list[np.ndarray]) -> Declared:
    """The declared terms of an activation: each of its steps reaches its own element only."""
    declared = Declared(y.shape)
    for c in steps:
        declared.own("activation", c, finite(y))
    return declared


def answer_gelu(q: Question) -> Answer:
    """x of any shape → y = scale·gelu(x)."""
    x, scale = q["x"], q.attr["scale"]
    y = scale * gelu_of(x, q.attr["approximate"])
    steps = own_steps(y, [scale * c for c in gelu_steps(x, q.attr["approximate"])])
    allowed = slack.gelu(x, y, scale)
    return one("y", y, q.dtype, allowed, representable(y), declared=steps)


def answer_swiglu(q: Question) -> Answer:
    """gate, up [n,f] → y [n,f]."""
    y = swiglu(q["gate"], q["up"])
    allowed = slack.swiglu(q["gate"], q["up"], y)
    declared = own_steps(y, silu_steps(q["gate"], q["up"]))
    return one("y", y, q.dtype, allowed, representable(y), declared=declared)


def silu_steps(gate, up) -> list[np.ndarray]:
    """c inside SwiGLU: of the sigmoid, and of the gate times that."""
    s = sigmoid(gate)
    return [moved(gate * up, s), moved(up, gate * s)]


def answer_swiglu_clamped(q: Question) -> Answer:
    """gate, up [n,f] → y [n,f]."""
    alpha, limit = q.attr["alpha"], q.attr["limit"]
    g, u = clamp(q["gate"], q["up"], limit)
    y = swiglu_clamped(q["gate"], q["up"], alpha, limit)
    steps = own_steps(y, clamped_steps(g, u, alpha))
    allowed = slack.swiglu(g, u + 1, y, alpha)
    return one("y", y, q.dtype, allowed, representable(y), declared=steps)


def clamped_steps(g, u, alpha: float) -> list[np.ndarray]:
    """c inside the clamped SwiGLU: of alpha·g, its sigmoid, g times that, and u + 1."""
    s = sigmoid(alpha * g)
    first = (g * s * (1 - s) * (u + 1), alpha * g)
    inside = [first, (g * (u + 1), s), (u + 1, g * s), (g * s, u + 1)]
    return [moved(slope, z) for slope, z in inside]


def answer_residual(q: Question) -> Answer:
    """a, b of one shape → y = a + b in a's type, one rounding."""
    if q["a"].shape != q["b"].shape:
        raise Refused("ShapeMismatch", "b", f"is {q['b'].shape}, a is {q['a'].shape}")
    y = q["a"] + q["b"]
    return one("y", y, q.stored("a"), exact=representable(y))
