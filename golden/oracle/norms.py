"""LayerNorm (Ba, Kiros & Hinton 2016, eq. 4), RMSNorm (Zhang & Sennrich 2019, eq. 4), softmax."""

import numpy as np

import slack
from answer import Answer, Result, one
from declared import Declared, finite, moved
from declared import softmax as softmax_declared
from signature import Question
from stored import rounded


def layernorm(x, gamma, beta, eps: float) -> np.ndarray:
    """(x - mean)/√(var + eps)·gamma + beta over the last axis, biased variance, two passes."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * gamma + beta


def rmsnorm(x, gamma, eps: float) -> np.ndarray:
    """x/√(mean(x²) + eps)·gamma over the last axis."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gamma


def softmax(z) -> np.ndarray:
    """exp(z - max)/Σ exp(z - max) over the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalised(row: np.ndarray, gamma: np.ndarray, y: np.ndarray) -> Declared:
    """What rounding the normalised row leaves, before gamma scales it."""
    declared = Declared(y.shape)
    declared.own("norm", moved(gamma, row), finite(y))
    return declared


def answer_layernorm(q: Question) -> Answer:
    """x [n,h], gamma, beta [h] → y [n,h]."""
    x, eps = q["x"], q.attr["eps"]
    y = layernorm(x, q["gamma"], q["beta"], eps)
    allowed = slack.layernorm(x, q["gamma"], q["beta"], y, eps, q.root(x.shape[-1]))
    declared = normalised(layernorm(x, 1.0, 0.0, eps), q["gamma"], y)
    return one("y", y, q.to(), allowed, declared=declared)


def residual_sum(q: Question) -> np.ndarray:
    """x + residual, rounded to the residual's stored type."""
    return rounded(q["x"] + q["residual"], q.stored("residual"))


def with_sum(inner: Answer, q: Question, total: np.ndarray) -> Answer:
    """The norm's answer and beside it the rounded sum, which has no slack."""
    inner.results["sum"] = Result(total, q.stored("residual"), np.zeros_like(total))
    return inner


def answer_layernorm_residual(q: Question) -> Answer:
    """x, residual [n,h] → y = layernorm(sum), sum = x + residual rounded to R."""
    total, eps = residual_sum(q), q.attr["eps"]
    y = layernorm(total, q["gamma"], q["beta"], eps)
    allowed = slack.layernorm(total, q["gamma"], q["beta"], y, eps, q.root(total.shape[-1]))
    declared = normalised(layernorm(total, 1.0, 0.0, eps), q["gamma"], y)
    return with_sum(one("y", y, q.to(), allowed, declared=declared), q, total)


def answer_rmsnorm(q: Question) -> Answer:
    """x [n,h], gamma [h] → y [n,h]."""
    x, eps = q["x"], q.attr["eps"]
    y = rmsnorm(x, q["gamma"], eps)
    allowed = slack.rmsnorm(x, y, eps, q.root(x.shape[-1]))
    declared = normalised(rmsnorm(x, 1.0, eps), q["gamma"], y)
    return one("y", y, q.to(), allowed, declared=declared)


def answer_rmsnorm_residual(q: Question) -> Answer:
    """x, residual [n,h] → y = rmsnorm(sum), sum = x + residual rounded to R."""
    total, eps = residual_sum(q), q.attr["eps"]
    y = rmsnorm(total, q["gamma"], eps)
    allowed = slack.rmsnorm(total, y, eps, q.root(total.shape[-1]))
    declared = normalised(rmsnorm(total, 1.0, eps), q["gamma"], y)
    return with_sum(one("y", y, q.to(), allowed, declared=declared), q, total)


def answer_softmax(q: Question) -> Answer:
    """x [n,m] → y [n,m], softmax of scale·x."""
    z = q.attr["scale"] * q["x"]
    y = softmax(z)
    declared = Declared(y.shape)
    softmax_declared(declared, z, y, finite(y))
    allowed = slack.softmax(z, y, q.root(z.shape[-1]), q.attr["scale"] != 1)
    return one("y", y, q.to(), allowed, declared=declared)
