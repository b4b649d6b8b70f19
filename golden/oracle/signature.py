"""Signatures of the op vocabulary, and the check of a question against them.

Order of the checks: unknown operands; then operand by operand missing, type, rank, empty axes,
shapes that disagree, whole blocks; then attributes; then what an op itself demands.
"""

import math
from typing import Any

import numpy as np

import blocks
import stored
from wire import Raw

WEIGHTS = ("f32", "f16", "bf16", *blocks.SIZES)
INFINITE = math.inf
INDEX = 2**31 - 1


class Refused(Exception):
    """A malformed question: kind of docs/wire.md 8, operand or attribute, message."""

    def __init__(self, kind: str, operand: str, message: str):
        super().__init__(f"{kind}: {operand}: {message}")
        self.kind, self.operand, self.message = kind, operand, message


def real(low: float, closed: bool = False, high: float = 3.5e38, default: Any = "required"):
    """A finite number above `low` (or from it), up to `high`; a default is an f32 value too."""
    default = float(np.float32(default)) if isinstance(default, float) else default
    return ("real", low, closed, high, default)


def whole(low: int, high: int, default: Any = "required"):
    """A whole number in [low, high]."""
    return ("whole", low, high, default)


def word(*of: str, default: Any = "required"):
    """One of these words."""
    return ("word", of, default)


def flag(default: bool):
    """True or false."""
    return ("flag", default)


OBJECT = ("object",)
TO = {"to": word("f32", "D", default=None)}
EPS = {"eps": real(0)}
START = {"start": whole(0, INDEX, 0)}
SCALE = {"scale": real(0, default=1.0)}
GELU = {"approximate": word("none", "tanh", default="none")}
CLAMP = {"alpha": real(0, default=1.702), "limit": real(0, default=7.0)}
ATTENTION = {
    "scale": real(0, default=None),
    "window": whole(0, INDEX, 0),
    "ring": flag(False),
}
CACHES = "k_cache C s? c k d; v_cache C s? c k d"
ROWS = "sequences? I n; positions? I n"
LOGITS = "logits F32 v"

# op: (operands, attributes). An operand is `name class axes`; `name?` may be left out, a first
# axis `s?` may be absent, `...` is any shape. Classes: D the question's dtype; R D or f32;
# P and F32 f32; W a weight type; C a cache type; I i32.
SIGNATURES: dict[str, tuple[str, dict]] = {
    "advance": ("id I 1; token I 1; position I 1; length I 1; draws I 1; seen I words", {}),
    "argmax": ("x F32 n v", {}),
    "attention_decode": (
        f"q D n? q d; k_new D n? k d; v_new D n? k d; {CACHES}; sinks? P q; {ROWS}",
        {"position": whole(0, INDEX, None), **ATTENTION},
    ),
    "attention_prefill": (
        f"q D n q d; k C s? c k d; v C s? c k d; sinks? P q; {ROWS}",
        {**ATTENTION, **START},
    ),
    "dequantize": ("w W ...", {}),
    "embedding": ("ids I n; table W v h", TO),
    "ffn_gelu": (
        "x D n h; w_up W f h; b_up P f; w_down W h f; b_down P h; residual? R n h",
        {**GELU, **TO},
    ),
    "ffn_swiglu": ("x D n h; w_gate W f h; w_up W f h; w_down W h f; residual? R n h", TO),
    "gelu": ("x D ...", {**GELU, **SCALE}),
    "kv_append": (
        f"k D n k d; v D n k d; {CACHES}; {ROWS}",
        {**START, "ring": flag(False)},
    ),
    "layernorm": ("x R n h; gamma P h; beta P h", {**EPS, **TO}),
    "layernorm_residual": ("x R n h; residual R n h; gamma P h; beta P h", {**EPS, **TO}),
    "linear": ("x R n in; w W out in; bias? P out", TO),
    "min_p": (LOGITS, {"value": real(0, True, 1)}),
    "moe_ffn": (
        "x D n h; ids I n t; weights F32 n t; w_gate W e f h; w_up W e f h; w_down W e h f; "
        "b_gate? P e f; b_up? P e f; b_down? P e h",
        {**CLAMP, **TO},
    ),
    "moe_router": ("x R n h; w W e h; b? P e", {"top_k": whole(1, INDEX)}),
    "positional": ("x R b n h; table R p h; positions? I n", START),
    "positional_extract": ("table R p h", {**START, "count": whole(1, INDEX)}),
    "repetition_penalty": (f"{LOGITS}; seen I z", {"value": real(0, False, 2)}),
    "residual": ("a R ...; b R ...", {}),
    "rmsnorm": ("x R n h; gamma P h", {**EPS, **TO}),
    "rmsnorm_residual": ("x R n h; residual R n h; gamma P h", {**EPS, **TO}),
    "rope": (
        "x D n heads d; positions I n; divisors? P z",
        {
            "style": word("half", "interleaved"),
            "theta": real(0),
            "rotary_dim": whole(2, INDEX, None),
            "scaling": OBJECT,
        },
    ),
    "rows": ("x R n h; rows I m", {}),
    "sample": (LOGITS, {"seed": whole(0, 2**53 - 1), "index": whole(0, 2**53 - 1)}),
    "softmax": ("x R n m", {**SCALE, **TO}),
    "swiglu": ("gate R n f; up R n f", {}),
    "swiglu_clamped": ("gate R n f; up R n f", CLAMP),
    "temperature": (LOGITS, {"value": real(0, True, 2)}),
    "top_k": (LOGITS, {"value": whole(0, INDEX)}),
    "top_p": (LOGITS, {"value": real(0, True, 1)}),
}
TENSOR = ("linear", "ffn_", "moe_", "attention_")


class Question:
    """A checked question: operands widened to float64 (ids int64), attributes, axes, options."""

    def __init__(self, ask: dict, tensors: dict[str, Raw]):
        self.op, self.dtype = ask["op"], ask["dtype"]
        self.tensors, self.axes = tensors, {}
        golden = ask.get("golden") or {}
        default = "tensor" if self.op.startswith(TENSOR) else "f32"
        self.tensor = golden.get("accumulate", default) == "tensor"
        self.linear_sum = golden.get("sum", "tree") == "linear"
        self.keeps, self.wrong = golden.get("keeps", []), golden.get("wrong", [])
        self._values: dict[str, np.ndarray] = {}
        operands, rules = SIGNATURES[self.op]
        self._check_operands([o.split() for o in operands.split("; ")])
        self.attr = read_attributes(self.op, rules, ask.get("attr") or {})

    def _check_operands(self, operands: list[list[str]]) -> None:
        known = [name.rstrip("?") for name, *_ in operands]
        for name in self.tensors:
            if name not in known:
                raise Refused("OperandUnknown", name, f"{self.op} takes {', '.join(known)}")
        for name, kind, *axes in operands:
            if name.rstrip("?") in self.tensors:
                name = name.rstrip("?")
                check_type(name, kind, self.tensors[name].stored, self.dtype)
                self._bind(name, axes)
            elif not name.endswith("?"):
                raise Refused("OperandMissing", name, f"{self.op} needs it")

    def _bind(self, name: str, axes: list[str]) -> None:
        raw = self.tensors[name]
        shape = raw.shape
        if axes != ["..."] and axes[0].endswith("?") and len(shape) == len(axes) - 1:
            axes = axes[1:]
        if axes != ["..."] and len(shape) != len(axes):
            raise Refused("RankMismatch", name, f"has {len(shape)} axes, wants {axes}")
        if 0 in shape:
            raise Refused("EmptyAxis", name, f"an axis of {list(shape)} is empty")
        for axis, size in zip(axes, shape):
            fixed = int(axis) if axis.isdigit() else size
            known = axis == "..." or axis.isdigit()
            bound = fixed if known else self.axes.setdefault(axis.rstrip("?"), size)
            if bound != size:
                message = f"axis {axis} is {size}, but {bound} elsewhere"
                raise Refused("ShapeMismatch", name, message)
        elements, size = blocks.SIZES.get(raw.stored, (1, raw.bits.itemsize))
        whole_blocks = bool(shape) and shape[-1] % elements == 0
        if elements > 1 and not whole_blocks:
            raise Refused("ShapeMismatch", name, f"{list(shape)} is no whole number of blocks")
        if raw.bits.nbytes != math.prod(shape) // elements * size:
            raise Refused("ShapeMismatch", name, f"{raw.bits.nbytes} bytes for {list(shape)}")

    def has(self, name: str) -> bool:
        """Whether an optional operand is there."""
        return name in self.tensors

    def __getitem__(self, name: str) -> np.ndarray:
        """The operand's values: float64, or int64 for i32."""
        if name not in self._values:
            raw = self.tensors[name]
            if raw.stored == "i32":
                self._values[name] = raw.bits.astype(np.int64)
            else:
                self._values[name] = sum(self.parts(name))
        return self._values[name]

    def get(self, name: str) -> np.ndarray | None:
        """The operand's values, or None where it is left out."""
        return self[name] if self.has(name) else None

    def parts(self, name: str) -> list[np.ndarray]:
        """Float64 arrays whose sum is the operand (two for q4_k and q5_k, else one)."""
        raw = self.tensors[name]
        if raw.stored in blocks.SIZES:
            return blocks.parts(raw.bits, raw.stored, raw.shape)
        return [stored.widen(raw.bits, raw.stored)]

    def stored(self, name: str) -> str:
        """The operand's stored type."""
        return self.tensors[name].stored

    def to(self, default: str = "D") -> str:
        """The stored type of the result: attribute `to`, else D, or f32 where the op says so."""
        chosen = self.attr.get("to") or default
        return "f32" if chosen == "f32" else self.dtype

    def root(self, k: int) -> float:
        """The growth of a sum's error: √K for tree sums, K where sequential sums are allowed."""
        return float(k) if self.linear_sum else math.sqrt(k)

    def product(self, k: int) -> float:
        """The growth of a product's error: 6√K, and K/8 more on the tensor core."""
        return 6 * self.root(k) + (k / 8 if self.tensor else 0)


def check_type(name: str, kind: str, found: str, dtype: str) -> None:
    """Refuses a stored type that the operand's class does not take."""
    wants = {"D": (dtype,), "R": (dtype, "f32"), "P": ("f32",), "F32": ("f32",), "I": ("i32",)}
    if kind in wants and found not in wants[kind]:
        raise Refused("DtypeMismatch", name, f"is {found}, wants {' or '.join(wants[kind])}")
    if kind == "C" and found not in stored.FLOATS:
        raise Refused("TypeUnsupported", name, f"is {found}, wants f32, f16 or bf16")
    if kind == "W" and found not in WEIGHTS:
        raise Refused("TypeUnsupported", name, f"is {found}, wants a weight type")


def read_attributes(op: str, rules: dict, given: dict) -> dict[str, Any]:
    """Attributes with defaults filled in; an absent one and null are the same."""
    for name in given:
        if name not in rules:
            raise Refused("AttributeUnknown", name, f"{op} knows {', '.join(rules)}")
    return {name: read_one(name, rule, given.get(name)) for name, rule in rules.items()}


def read_one(name: str, rule: tuple, value: Any) -> Any:
    """One attribute against its rule. A bool is no number."""
    if rule == OBJECT:
        return value
    if value is None:
        if rule[-1] == "required":
            raise Refused("AttributeMissing", name, "is required")
        return rule[-1]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if rule[0] == "real":
        _, low, closed, high, _ = rule
        value = float(np.float32(value)) if number else math.nan
        good = math.isfinite(value) and value <= high and (value > low or closed and value == low)
    elif rule[0] == "whole":
        good = number and value == int(value) and rule[1] <= value <= rule[2]
        value = int(value) if good else value
    elif rule[0] == "word":
        good = value in rule[1]
    else:
        good = isinstance(value, bool)
    if not good:
        raise Refused("AttributeOutOfRange", name, f"is {value}, wants {rule}")
    return value
