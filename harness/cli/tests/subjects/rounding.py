"""Rounds operands before they are used, as an engine may that says so: `rounding.py PLACE TYPE
[FACTOR]`. PLACE is `weights` or `x`, TYPE `f16`, `bf16`, or for x `int8`, 32 elements a block. FACTOR
multiplies every result: a fault that no declaration covers."""
import sys

import numpy as np

from proxy import Proxy, bf16, floats

PLACE, TYPE, FACTOR = sys.argv[1], sys.argv[2], float((sys.argv[3:] or ["1"])[0])
sys.argv = sys.argv[:1]
OPERANDS = {"weights": ("w", "table", "w_gate", "w_up", "w_down"), "x": ("x",)}[PLACE]


def int8(x: np.ndarray) -> np.ndarray:
    """Whole numbers of at most 127 under one scale for 32 elements, as ggml has them."""
    blocks = x.astype(np.float64).reshape(*x.shape[:-1], -1, 32)
    scale = np.abs(blocks).max(-1, keepdims=True) / 127
    return (np.round(blocks / np.where(scale == 0, 1, scale)) * scale).reshape(x.shape)


def rounded(x: np.ndarray) -> np.ndarray:
    """Numbers of f32 that the type holds."""
    if TYPE == "int8":
        return int8(x).astype(np.float32) if x.shape[-1] % 32 == 0 else x
    return floats(bf16(x)) if TYPE == "bf16" else x.astype(np.float16).astype(np.float32)


class Rounding(Proxy):
    def instead(self, ask, tensors):
        if ask.get("call") != "op":
            return None
        # Operands in 16 bits hold what they hold, and blocks are no floats.
        wide = {n: rounded(t) for n, t in tensors.items()
                if n in OPERANDS and getattr(t, "dtype", None) == np.float32}
        reply, results = self.passed_on(ask, {**tensors, **wide})
        if FACTOR != 1:
            results = {n: (t * FACTOR).astype(t.dtype) if getattr(t, "dtype", None) == np.float32
                       else t for n, t in results.items()}
        return reply, results


Rounding().run()
