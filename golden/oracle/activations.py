"""GELU (Hendrycks & Gimpel 2016, section 2), SwiGLU (Shazeer 2020), gpt-oss's clamped SwiGLU."""

import math

import numpy as np

import slack
from answer import Answer, one
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


def answer_gelu(q: Question) -> Answer:
    """x of any shape → y = scale·gelu(x)."""
    x, scale = q["x"], q.attr["scale"]
    y = scale * gelu_of(x, q.attr["approximate"])
    return one("y", y, q.dtype, slack.gelu(x, y, scale), representable(y))


def answer_swiglu(q: Question) -> Answer:
    """gate, up [n,f] → y [n,f]."""
    y = swiglu(q["gate"], q["up"])
    return one("y", y, q.dtype, slack.swiglu(q["gate"], q["up"], y), representable(y))


def answer_swiglu_clamped(q: Question) -> Answer:
    """gate, up [n,f] → y [n,f]."""
    alpha, limit = q.attr["alpha"], q.attr["limit"]
    g, u = clamp(q["gate"], q["up"], limit)
    y = swiglu_clamped(q["gate"], q["up"], alpha, limit)
    return one("y", y, q.dtype, slack.swiglu(g, u + 1, y, alpha), representable(y))


def answer_residual(q: Question) -> Answer:
    """a, b of one shape → y = a + b in a's type, one rounding."""
    if q["a"].shape != q["b"].shape:
        raise Refused("ShapeMismatch", "b", f"is {q['b'].shape}, a is {q['a'].shape}")
    y = q["a"] + q["b"]
    return one("y", y, q.stored("a"), exact=representable(y))
