"""Raw block types of GGUF, decoded to exact float64 (layouts of ggml-common.h).

Each decoder takes blocks U8 [count, bytes] and gives parts: float64 arrays [count, elements]
whose sum is the value. q4_k and q5_k have two parts, d*sc*q and -dmin*m, because an engine may
sum them apart; the others have one. mxfp4 follows OCP MX: scale byte 0 is 2^-127, 255 is NaN.
"""

import numpy as np

# stored type: (elements in a block, bytes of a block)
SIZES = {
    "q4_0": (32, 18),
    "q5_0": (32, 22),
    "q8_0": (32, 34),
    "q4_k": (256, 144),
    "q5_k": (256, 176),
    "q6_k": (256, 210),
    "mxfp4": (32, 17),
}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float64)
E2M1[8] = -0.0


def f16(b: np.ndarray, at: int) -> np.ndarray:
    """The f16 at byte `at` of each block, as float64 [count, 1]."""
    return np.ascontiguousarray(b[:, at : at + 2]).view("<f2").astype(np.float64)


def halves(qs: np.ndarray) -> np.ndarray:
    """Nibbles of [.., m] bytes as [.., 2m]: all low ones first, then all high ones."""
    return np.concatenate([qs & 15, qs >> 4], axis=-1)


def q4_0(b: np.ndarray) -> list[np.ndarray]:
    """f16 d; 16 bytes of nibbles in halves; d (q - 8)."""
    return [f16(b, 0) * (halves(b[:, 2:]).astype(np.float64) - 8)]


def q5_0(b: np.ndarray) -> list[np.ndarray]:
    """f16 d; u32 of fifth bits; 16 bytes of nibbles in halves; d (q - 16)."""
    high = np.unpackbits(b[:, 2:6], axis=1, bitorder="little")
    q = halves(b[:, 6:]) | (high << 4)
    return [f16(b, 0) * (q.astype(np.float64) - 16)]


def q8_0(b: np.ndarray) -> list[np.ndarray]:
    """f16 d; 32 signed bytes; d q."""
    return [f16(b, 0) * np.ascontiguousarray(b[:, 2:]).view(np.int8)]


def scales_6bit(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight 6-bit scales and minima out of 12 bytes: U8 [count, 12] to two [count, 8]."""
    low, mid, top = p[:, 0:4], p[:, 4:8], p[:, 8:12]
    scale = np.concatenate([low & 63, (top & 15) | ((low >> 6) << 4)], axis=1)
    minimum = np.concatenate([mid & 63, (top >> 4) | ((mid >> 6) << 4)], axis=1)
    return scale.astype(np.float64), minimum.astype(np.float64)


def _k_parts(b: np.ndarray, q: np.ndarray) -> list[np.ndarray]:
    """d sc q and -dmin m for codes q [count, 8, 32]."""
    scale, minimum = scales_6bit(b[:, 4:16])
    ones = np.ones_like(q, dtype=np.float64)
    first = (f16(b, 0) * scale)[:, :, None] * q
    second = -(f16(b, 2) * minimum)[:, :, None] * ones
    return [first.reshape(len(b), 256), second.reshape(len(b), 256)]


def q4_k(b: np.ndarray) -> list[np.ndarray]:
    """d, dmin; packed scales; of each 32 bytes low nibbles are 32 codes, high ones the next."""
    q = halves(b[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return _k_parts(b, q)


def q5_k(b: np.ndarray) -> list[np.ndarray]:
    """As q4_k; group g takes bit g of the 32 bytes qh as its fifth bits."""
    low = halves(b[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    high = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1
    return _k_parts(b, low | (high << 4))


def q6_k_codes(b: np.ndarray) -> np.ndarray:
    """The 6-bit codes, U8 [count, 2, 4, 32]: per 128 elements four quarters of 32."""
    ql, qh = b[:, :128].reshape(-1, 2, 64), b[:, 128:192].reshape(-1, 2, 32)
    low = np.stack([ql[..., :32] & 15, ql[..., 32:] & 15, ql[..., :32] >> 4, ql[..., 32:] >> 4], 2)
    high = np.stack([(qh >> (2 * i)) & 3 for i in range(4)], axis=2)
    return low | (high << 4)


def q6_k(b: np.ndarray) -> list[np.ndarray]:
    """ql, qh, 16 signed scales, f16 d last; d sc (q - 32), a scale for each 16 elements."""
    q = q6_k_codes(b).reshape(-1, 16, 16).astype(np.float64) - 32
    scale = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float64)
    return [((f16(b, 208) * scale)[:, :, None] * q).reshape(len(b), 256)]


def e8m0(scale: np.ndarray) -> np.ndarray:
    """2^(s - 127) of scale bytes; 255 is NaN."""
    power = np.ldexp(1.0, scale.astype(np.int64) - 127)
    return np.where(scale == 255, np.nan, power)


def mxfp4(b: np.ndarray) -> list[np.ndarray]:
    """Scale byte first, then 16 bytes of nibbles in halves; E2M1 value times 2^(s - 127)."""
    return [e8m0(b[:, :1]) * E2M1[halves(b[:, 1:])]]


DECODERS = {
    "q4_0": q4_0,
    "q5_0": q5_0,
    "q8_0": q8_0,
    "q4_k": q4_k,
    "q5_k": q5_k,
    "q6_k": q6_k,
    "mxfp4": mxfp4,
}


def parts(bits: np.ndarray, stored: str, shape: tuple[int, ...], decoder=None) -> list[np.ndarray]:
    """The parts of a block tensor, each float64 of its logical shape."""
    _, size = SIZES[stored]
    count = bits.size // size
    with np.errstate(invalid="ignore"):
        decoded = (decoder or DECODERS[stored])(np.ascontiguousarray(bits).reshape(count, size))
    return [part.reshape(shape) for part in decoded]
