"""Stored floating types: exact widening, one rounding, exponents of lowest bits."""

import numpy as np

FLOATS = ("f32", "f16", "bf16")


def widen(bits: np.ndarray, stored: str) -> np.ndarray:
    """The exact float64 value of each element of a plain floating tensor."""
    if stored == "bf16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return bits.astype(np.float64)


def narrow(values: np.ndarray, stored: str) -> np.ndarray:
    """`values` rounded once, to nearest even, to a stored type; BF16 as its bits."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        if stored == "f16":
            return values.astype(np.float16)
        if stored == "f32":
            return values.astype(np.float32)
        if stored == "f64":
            return values
        return _bf16_bits(values)


def _bf16_bits(values: np.ndarray) -> np.ndarray:
    """BF16 bits. First to f32 by rounding to odd, so that the second rounding sees all bits."""
    near = values.astype(np.float32)
    bits = near.view(np.uint32) if near.shape else near.reshape(1).view(np.uint32).reshape(())
    inexact = near.astype(np.float64) != values
    beyond = np.abs(near.astype(np.float64)) > np.abs(values)
    odd = (bits - beyond.astype(np.uint32)) | inexact.astype(np.uint32)
    rounded = (odd + np.uint32(0x7FFF) + ((odd >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def rounded(values: np.ndarray, stored: str) -> np.ndarray:
    """`values` rounded once to a stored type, as float64 again."""
    return widen(narrow(values, stored), stored)


def representable(values: np.ndarray, types: tuple[str, ...] = FLOATS) -> bool:
    """Whether every value is finite and unchanged by rounding to each of `types`."""
    values = np.asarray(values, dtype=np.float64)
    same = all(np.array_equal(rounded(values, t), values) for t in types)
    return bool(np.isfinite(values).all()) and same


def lowest_bit(values: np.ndarray) -> np.ndarray:
    """Exponent of the lowest set bit of each value; a large number for zero."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    whole = np.abs(mantissa * 2.0**53).astype(np.int64)
    low = np.log2(np.maximum(whole & -whole, 1)).astype(np.int64)
    return np.where(whole == 0, 4096, exponent.astype(np.int64) - 53 + low)


def whole_sums(terms_low: np.ndarray, magnitude: np.ndarray) -> bool:
    """Whether sums of that magnitude, in units of 2^terms_low, stay below 2^24.

    Then every partial sum in any order is exact in float32. `magnitude` is the sum of |terms|.
    """
    if not np.isfinite(magnitude).all():
        return False
    safe = np.where(magnitude == 0, 0, terms_low).astype(np.float64)
    return bool((magnitude < np.exp2(np.clip(safe, -1000, 900) + 24)).all())
