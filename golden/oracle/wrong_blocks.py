"""Wrong decoders of raw blocks, by stored type: most rewrite the bytes and decode them rightly."""

import numpy as np

import blocks
from blocks import DECODERS, E2M1, e8m0, f16, halves, q6_k_codes
from stored import rounded, widen


def rewritten(stored: str, change):
    """The right decoder on changed bytes."""

    def decode(b: np.ndarray):
        b = b.copy()
        change(b)
        return DECODERS[stored](b)

    return decode


def swap(first: int, last: int | None = None):
    """Swaps the nibbles of bytes first..last."""

    def change(b):
        b[:, first:last] = (b[:, first:last] >> 4) | (b[:, first:last] << 4)

    return change


def pairs(first: int):
    """The codes of 16 bytes as if low nibble and high nibble were neighbours (HF's order)."""

    def change(b):
        qs = b[:, first : first + 16]
        codes = np.stack([qs & 15, qs >> 4], axis=-1).reshape(len(b), 32)
        b[:, first : first + 16] = codes[:, :16] | (codes[:, 16:] << 4)

    return change


def d_as_bf16(stored: str, at: int):
    """The scale's two bytes read as bf16. Values are rescaled, so NaN and zero scales differ."""

    def decode(b: np.ndarray):
        bits = np.ascontiguousarray(b[:, at : at + 2]).view("<u2")
        unit = b.copy()
        unit[:, at : at + 2] = np.array([0x00, 0x3C], dtype=np.uint8)
        decoded = DECODERS[stored](unit)
        return [decoded[0] * widen(bits, "bf16"), *decoded[1:]]

    return decode


def flush(at: int):
    """A subnormal f16 scale becomes zero."""

    def change(b):
        subnormal = (b[:, at + 1] & 0x7C) == 0
        b[subnormal, at : at + 2] = 0

    return change


def shifted(stored: str, by: float, scale):
    """Codes with another offset: the right value plus `by` scales."""
    return lambda b: [DECODERS[stored](b)[0] + by * scale(b)]


def through_f16(stored: str):
    """Values rounded to f16 on the way: overflow at 65,504."""
    return lambda b: [rounded(sum(DECODERS[stored](b)), "f16")]


def next_scale(first: int, last: int):
    """Each block takes the scale bytes of the next one, the last those of the first."""

    def change(b):
        b[:, first:last] = np.roll(b[:, first:last], -1, axis=0)

    return change


def table(values: np.ndarray):
    """mxfp4 with another table of 16 values."""
    return lambda b: [e8m0(b[:, :1]) * values[halves(b[:, 1:])]]


def entry(code: int):
    """The table with one entry wrong by half a unit."""
    values = E2M1.copy()
    values[code] += 0.5
    return table(values)


def half_blocks(b: np.ndarray):
    """Blocks of 16: the second half of each takes the scale of the next block."""
    value = E2M1[halves(b[:, 1:])]
    scale = e8m0(b[:, :1])
    return [np.concatenate([scale * value[:, :16], np.roll(scale, -1, 0) * value[:, 16:]], axis=1)]


def biased(bias: int):
    """Another exponent bias."""
    return lambda b: [np.ldexp(blocks.mxfp4(b)[0], 127 - bias)]


def zero_scale(b: np.ndarray):
    """Scale byte 0 taken as zero."""
    return [np.where(b[:, :1] == 0, 0.0, blocks.mxfp4(b)[0])]


def no_nan(b: np.ndarray):
    """Scale byte 255 taken as 2^128."""
    return [np.ldexp(E2M1[halves(b[:, 1:])], b[:, :1].astype(np.int64) - 127)]


def scale_last(b: np.ndarray):
    """The sixteen code bytes first, the scale byte last."""
    return blocks.mxfp4(np.concatenate([b[:, 16:], b[:, :16]], axis=1))


def sign_lowest(b: np.ndarray):
    """The sign in the lowest bit of a code."""
    q = halves(b[:, 1:])
    return [e8m0(b[:, :1]) * E2M1[(q >> 1) | ((q & 1) << 3)]]


def q5_high(b: np.ndarray):
    """q5_0: the fifth bits of the two halves exchanged."""
    b[:, 2:6] = b[:, [4, 5, 2, 3]]


def q8_unsigned(b: np.ndarray):
    """q8_0: bytes without sign."""
    return [f16(b, 0) * b[:, 2:].astype(np.float64)]


def k_signs(stored: str, sign: float):
    """q4_k and q5_k: the minimum added, or left out."""
    return lambda b: [DECODERS[stored](b)[0], sign * DECODERS[stored](b)[1]]


def exchange_scales(b: np.ndarray):
    """The six-bit scales and minima exchanged."""
    b[:, 4:8], b[:, 8:12] = b[:, 8:12].copy(), b[:, 4:8].copy()
    b[:, 12:16] = (b[:, 12:16] >> 4) | (b[:, 12:16] << 4)


def lose_high_bits(b: np.ndarray):
    """The upper two bits of scales and minima 4 to 7 are lost; those of 0 to 3 stay."""
    b[:, 4:12] &= 63


def exchange_d(b: np.ndarray):
    """d and dmin exchanged."""
    b[:, 0:4] = b[:, [2, 3, 0, 1]]


def unpack_plain(b: np.ndarray):
    """The twelve scale bytes read as four of 6-bit pairs in a row (another packing)."""
    b[:, 4:16] = np.roll(b[:, 4:16], 4, axis=1)


def q5_k_mask(b: np.ndarray):
    """q5_k: bit 0 of qh for each group."""
    b[:, 16:48] = np.where(b[:, 16:48] & 1, 255, 0)


def q6_scaled(q, scales, b):
    """q6_k of codes and scales."""
    value = (f16(b, 208) * scales)[:, :, None] * (q.reshape(-1, 16, 16).astype(np.float64) - 32)
    return [value.reshape(len(b), 256)]


def q6_signed(b):
    """The sixteen signed scales."""
    return np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float64)


def q6_unsigned(b: np.ndarray):
    """q6_k: scales without sign."""
    return q6_scaled(q6_k_codes(b), b[:, 192:208].astype(np.float64), b)


def q6_high(b: np.ndarray):
    """q6_k: the two high bits taken from the other end of their byte."""
    qh = b[:, 128:192]
    b[:, 128:192] = (qh >> 6) | ((qh >> 2) & 12) | ((qh << 2) & 48) | (qh << 6)


def q6_scale_order(b: np.ndarray):
    """q6_k: neighbouring scales exchanged."""
    b[:, 192:208] = b[:, 192:208].reshape(-1, 8, 2)[:, :, ::-1].reshape(-1, 16)


def q6_31(b: np.ndarray):
    """q6_k: offset 31."""
    unit = np.repeat(f16(b, 208) * q6_signed(b), 16, axis=1)
    return [blocks.q6_k(b)[0] + unit]


LINEAR_TABLE = np.concatenate([np.arange(8) / 2, -np.arange(8) / 2])
MINUS_EIGHT = np.where(np.arange(16) == 8, -8.0, E2M1)

DECODER_MISTAKES = {
    "mxfp4": {
        "bias_126": biased(126),
        "bias_128": biased(128),
        "block_of_16": half_blocks,
        "doubled_table": table(2 * E2M1),
        "linear_table": table(LINEAR_TABLE),
        "minus_zero_as_minus_eight": table(MINUS_EIGHT),
        "nibbles_in_pairs": rewritten("mxfp4", pairs(1)),
        "nibbles_swapped": rewritten("mxfp4", swap(1)),
        "scale_255_as_a_number": no_nan,
        "scale_byte_last": scale_last,
        "scale_of_next_block": rewritten("mxfp4", next_scale(0, 1)),
        "scale_zero_as_zero": zero_scale,
        "sign_in_lowest_bit": sign_lowest,
        **{f"table_entry_{code}": entry(code) for code in range(16)},
    },
    "q4_0": {
        "d_as_bf16": d_as_bf16("q4_0", 0),
        "nibbles_in_pairs": rewritten("q4_0", pairs(2)),
        "nibbles_swapped": rewritten("q4_0", swap(2)),
        "offset_7": shifted("q4_0", 1, lambda b: f16(b, 0)),
        "scale_of_next_block": rewritten("q4_0", next_scale(0, 2)),
        "subnormal_d_flushed": rewritten("q4_0", flush(0)),
        "through_f16": through_f16("q4_0"),
    },
    "q5_0": {
        "high_bits_exchanged": rewritten("q5_0", q5_high),
        "nibbles_swapped": rewritten("q5_0", swap(6)),
        "offset_15": shifted("q5_0", 1, lambda b: f16(b, 0)),
    },
    "q8_0": {
        "d_as_bf16": d_as_bf16("q8_0", 0),
        "scale_of_next_block": rewritten("q8_0", next_scale(0, 2)),
        "subnormal_d_flushed": rewritten("q8_0", flush(0)),
        "through_f16": through_f16("q8_0"),
        "unsigned": q8_unsigned,
    },
    "q4_k": {
        "d_and_dmin_swapped": rewritten("q4_k", exchange_d),
        "high_scale_bits_lost": rewritten("q4_k", lose_high_bits),
        "min_added": k_signs("q4_k", -1.0),
        "min_left_out": k_signs("q4_k", 0.0),
        "nibbles_swapped": rewritten("q4_k", swap(16)),
        "scale_and_min_swapped": rewritten("q4_k", exchange_scales),
        "scale_bytes_rotated": rewritten("q4_k", unpack_plain),
    },
    "q5_k": {
        "high_bit_not_shifted": rewritten("q5_k", q5_k_mask),
        "high_scale_bits_lost": rewritten("q5_k", lose_high_bits),
        "min_added": k_signs("q5_k", -1.0),
        "nibbles_swapped": rewritten("q5_k", swap(48)),
        "scale_and_min_swapped": rewritten("q5_k", exchange_scales),
    },
    "q6_k": {
        "d_as_bf16": d_as_bf16("q6_k", 208),
        "high_bits_from_other_end": rewritten("q6_k", q6_high),
        "nibbles_swapped": rewritten("q6_k", swap(0, 128)),
        "offset_31": q6_31,
        "scales_exchanged": rewritten("q6_k", q6_scale_order),
        "scales_unsigned": q6_unsigned,
        "subnormal_d_flushed": rewritten("q6_k", flush(208)),
    },
}
