"""Wrong formulas of the activations and of the residual addition."""

import math

import numpy as np

from activations import gelu, gelu_tanh, sigmoid, silu, swiglu, swiglu_clamped
from signature import Question
from stored import rounded

ERF = np.frompyfunc(math.erf, 1, 1)


def gelu_mistake(formula):
    """A wrong GELU of x, scaled as asked."""
    return lambda q: {"y": q.attr["scale"] * formula(q["x"])}


def one_minus_erf(x):
    """0.5·(1 + erf) in f32: cancels for x < 0."""
    erf = ERF(x / math.sqrt(2)).astype(np.float32)
    return x * (np.float32(0.5) * (np.float32(1) + erf)).astype(np.float64)


def exp_overflow(x):
    """x·e^x/(1 + e^x) in f32 on both sides: inf/inf for a large argument."""
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(x.astype(np.float32))
        return (e / (1 + e)).astype(np.float64)


def tanh_by_exponentials(x):
    """The tanh form with tanh = (e^2u - 1)/(e^2u + 1) in f32: NaN for large x."""
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * exp_overflow(2 * u)


def scale_inside(q: Question) -> dict:
    """gelu(scale·x) in place of scale·gelu(x)."""
    f = gelu_tanh if q.attr["approximate"] == "tanh" else gelu
    return {"y": f(q.attr["scale"] * q["x"])}


def odd_tail_untouched(q: Question) -> dict:
    """A pairwise kernel leaves the last element of an odd count as it was."""
    f = gelu_tanh if q.attr["approximate"] == "tanh" else gelu
    y = q.attr["scale"] * f(q["x"])
    if y.size % 2:
        y.reshape(-1)[-1] = q["x"].reshape(-1)[-1]
    return {"y": y}


def clamped(gate_low, gate_high, up_low, up_high, offset=1.0):
    """The clamped SwiGLU with other sides clamped."""

    def wrong(q: Question) -> dict:
        limit, alpha = q.attr["limit"], q.attr["alpha"]
        g = np.clip(q["gate"], -limit if gate_low else -np.inf, limit if gate_high else np.inf)
        u = np.clip(q["up"], -limit if up_low else -np.inf, limit if up_high else np.inf)
        return {"y": g * sigmoid(alpha * g) * (u + offset)}

    return wrong


def clamp_after(q: Question) -> dict:
    """The product is clamped in place of its factors."""
    alpha, limit = q.attr["alpha"], q.attr["limit"]
    g, u = q["gate"], q["up"]
    return {"y": np.clip(g * sigmoid(alpha * g) * (u + 1), -limit, limit)}


def nan_swallowed(q: Question) -> dict:
    """fminf and fmaxf: a NaN becomes the limit."""
    limit, alpha = q.attr["limit"], q.attr["alpha"]
    g = np.fmin(q["gate"], limit)
    u = np.fmax(np.fmin(q["up"], limit), -limit)
    return {"y": g * sigmoid(alpha * g) * (u + 1)}


def naive_sigmoid_clamped(q: Question) -> dict:
    """e^x/(1 + e^x) or its like in f32 at the lower end: 1/(1 + inf) times a huge factor."""
    alpha, limit = q.attr["alpha"], q.attr["limit"]
    g, u = np.minimum(q["gate"], limit), np.clip(q["up"], -limit, limit)
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp((-alpha * g).astype(np.float32))
        s = (1 - e / (1 + e)).astype(np.float64)
    return {"y": g * s * (u + 1)}


def silu_by_quotient(q: Question) -> dict:
    """1 - e^-x/(1 + e^-x) in f32: inf/inf at -100."""
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp((-q["gate"]).astype(np.float32))
        s = (1 - e / (1 + e)).astype(np.float64)
    return {"y": q["gate"] * s * q["up"]}


def halves_as_pairs(q: Question) -> dict:
    """Gate and up read as interleaved columns of one matrix [gate | up]."""
    both = np.concatenate([q["gate"], q["up"]], axis=-1)
    return {"y": swiglu(both[..., 0::2], both[..., 1::2])}


def halves_as_pairs_clamped(q: Question) -> dict:
    """The same for the clamped form."""
    both = np.concatenate([q["gate"], q["up"]], axis=-1)
    y = swiglu_clamped(both[..., 0::2], both[..., 1::2], q.attr["alpha"], q.attr["limit"])
    return {"y": y}


def residual_odd_tail(q: Question) -> dict:
    """A pairwise kernel leaves the last element of an odd count unadded."""
    y = q["a"] + q["b"]
    if y.size % 2:
        y.reshape(-1)[-1] = q["a"].reshape(-1)[-1]
    return {"y": y}


WRONG = {
    "gelu": {
        "cubic_0_0447": gelu_mistake(lambda x: gelu_tanh(x, 0.0447)),
        "erf": gelu_mistake(gelu),
        "no_pi": gelu_mistake(lambda x: x * sigmoid(2 * (x + 0.044715 * x**3))),
        "odd_tail_untouched": odd_tail_untouched,
        "one_minus_erf_f32": gelu_mistake(one_minus_erf),
        "relu": gelu_mistake(lambda x: np.maximum(x, 0)),
        "rounded_to_f16_inside": gelu_mistake(lambda x: rounded(gelu(x), "f16")),
        "scale_inside": scale_inside,
        "sigmoid_1_702": gelu_mistake(lambda x: x * sigmoid(1.702 * x)),
        "silu": gelu_mistake(silu),
        "tanh": gelu_mistake(gelu_tanh),
        "tanh_by_exponentials_f32": gelu_mistake(tanh_by_exponentials),
    },
    "residual": {
        "added_twice": lambda q: {"y": q["a"] + 2 * q["b"]},
        "odd_tail_unadded": residual_odd_tail,
        "rounded_to_bf16": lambda q: {"y": rounded(q["a"] + q["b"], "bf16")},
    },
    "swiglu": {
        "gelu_for_silu": lambda q: {"y": gelu(q["gate"]) * q["up"]},
        "halves_as_pairs": halves_as_pairs,
        "sigmoid_alone": lambda q: {"y": sigmoid(q["gate"]) * q["up"]},
        "silu_of_up_too": lambda q: {"y": silu(q["gate"]) * silu(q["up"])},
        "exponential_overflows": silu_by_quotient,
        "up_plus_one": lambda q: {"y": silu(q["gate"]) * (q["up"] + 1)},
    },
    "swiglu_clamped": {
        "clamp_after_product": clamp_after,
        "exponential_overflows": naive_sigmoid_clamped,
        "gate_clamped_below": clamped(True, True, True, True),
        "halves_as_pairs": halves_as_pairs_clamped,
        "nan_swallowed": nan_swallowed,
        "no_clamp": clamped(False, False, False, False),
        "no_plus_one": clamped(False, True, True, True, offset=0.0),
        "up_clamped_above_only": clamped(False, True, False, True),
        "up_not_clamped": clamped(False, True, False, False),
    },
}
