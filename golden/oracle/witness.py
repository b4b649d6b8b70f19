"""The second witness: torch in float64, on its own functions, where torch is installed.

A disagreement beyond 1e-9 of the largest value is an error, so a golden with two witnesses was
computed twice by programs that share nothing but the inputs.
"""

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = F = None

import numpy as np

from answer import Answer
from signature import Question

AGREE = 1e-9


def t(values: np.ndarray):
    """A float64 (or int64) tensor."""
    return torch.from_numpy(np.array(values))


def layernorm(q: Question) -> dict:
    """F.layer_norm."""
    x = t(q["x"])
    return {"y": F.layer_norm(x, x.shape[-1:], t(q["gamma"]), t(q["beta"]), q.attr["eps"])}


def layernorm_residual(q: Question) -> dict:
    """F.layer_norm of the sum in the residual's own type."""
    total = stored_sum(q)
    y = F.layer_norm(total, total.shape[-1:], t(q["gamma"]), t(q["beta"]), q.attr["eps"])
    return {"y": y, "sum": total}


def stored_sum(q: Question):
    """x + residual rounded by torch to the residual's type."""
    kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    return (t(q["x"]) + t(q["residual"])).to(kind[q.stored("residual")]).double()


def rmsnorm(q: Question) -> dict:
    """F.rms_norm."""
    x = t(q["x"])
    return {"y": F.rms_norm(x, x.shape[-1:], t(q["gamma"]), q.attr["eps"])}


def rmsnorm_residual(q: Question) -> dict:
    """F.rms_norm of the sum in the residual's own type."""
    total = stored_sum(q)
    return {"y": F.rms_norm(total, total.shape[-1:], t(q["gamma"]), q.attr["eps"]), "sum": total}


def softmax(q: Question) -> dict:
    """torch.softmax of the scaled rows."""
    return {"y": torch.softmax(q.attr["scale"] * t(q["x"]), -1)}


def gelu(q: Question) -> dict:
    """F.gelu."""
    return {"y": q.attr["scale"] * F.gelu(t(q["x"]), approximate=q.attr["approximate"])}


def swiglu(q: Question) -> dict:
    """F.silu times up."""
    return {"y": F.silu(t(q["gate"])) * t(q["up"])}


def swiglu_clamped(q: Question) -> dict:
    """Clamps, then F.silu rescaled by alpha."""
    limit, alpha = q.attr["limit"], q.attr["alpha"]
    g, u = t(q["gate"]).clamp(max=limit), t(q["up"]).clamp(-limit, limit)
    return {"y": F.silu(alpha * g) / alpha * (u + 1)}


def residual(q: Question) -> dict:
    """torch.add."""
    return {"y": torch.add(t(q["a"]), t(q["b"]))}


def linear(q: Question) -> dict:
    """F.linear."""
    bias = t(q["bias"]) if q.has("bias") else None
    return {"y": F.linear(t(q["x"]), t(q["w"]), bias)}


def embedding(q: Question) -> dict:
    """F.embedding; the one rounding of q4_k and q5_k to f32 by torch."""
    y = F.embedding(t(q["ids"]), t(q["table"]))
    return {"y": y.float().double() if q.stored("table") in ("q4_k", "q5_k") else y}


def rows(q: Question) -> dict:
    """index_select."""
    return {"y": t(q["x"]).index_select(0, t(q["rows"]))}


def ffn_gelu(q: Question) -> dict:
    """F.linear, F.gelu, F.linear."""
    hidden = F.gelu(F.linear(t(q["x"]), t(q["w_up"]), t(q["b_up"])), approximate=q.attr["approximate"])
    y = F.linear(hidden, t(q["w_down"]), t(q["b_down"]))
    return {"y": y + t(q["residual"]) if q.has("residual") else y}


def ffn_swiglu(q: Question) -> dict:
    """F.silu(gate)·up, then F.linear."""
    x = t(q["x"])
    hidden = F.silu(F.linear(x, t(q["w_gate"]))) * F.linear(x, t(q["w_up"]))
    y = F.linear(hidden, t(q["w_down"]))
    return {"y": y + t(q["residual"]) if q.has("residual") else y}


WITNESSES = {
    f.__name__: f
    for f in (
        embedding,
        ffn_gelu,
        ffn_swiglu,
        gelu,
        layernorm,
        layernorm_residual,
        linear,
        residual,
        rmsnorm,
        rmsnorm_residual,
        rows,
        softmax,
        swiglu,
        swiglu_clamped,
    )
}


def second(q: Question, answer: Answer) -> list[dict]:
    """Torch's entry in the list of witnesses, or nothing where torch or the formula is not there.

    `worst` is the largest difference over the largest value of the result.
    """
    if torch is None or q.op not in WITNESSES:
        return []
    worst = 0.0
    for name, theirs in WITNESSES[q.op](q).items():
        ours, theirs = answer.results[name].values, theirs.numpy()
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        scale = np.abs(ours[np.isfinite(ours)]).max(initial=1e-300)
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(ours - theirs))
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max() / scale))
    if not worst <= AGREE:
        raise ArithmeticError(f"torch and the formula of {q.op} differ by {worst}")
    return [{"name": "torch", "version": torch.__version__, "worst": worst}]
