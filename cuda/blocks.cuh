// Stored weight types: plain numbers and GGUF blocks, read straight from memory.
//
// A lane takes a *unit* of a row at a time: RUNS runs of RUN neighbouring elements, each run with
// one scale and, for types that have one, one minimum. The value of an element is
// scale * q - minimum, and q, scale and minimum are exact in f32 (q4_k, q5_k, q6_k products may
// need more than 24 bits, so they stay apart).
#pragma once
#include "common.cuh"

template <typename W, int RUNS_, int RUN_> struct UnitOf {
    static constexpr int RUNS = RUNS_, RUN = RUN_;
    float q[RUNS][RUN];
    float scale[RUNS];
    float minimum[RUNS];
    int at[RUNS];
};

__device__ __forceinline__ float half_at(const u8* p) {
    f16 h;
    h.bits = u16(p[0] | p[1] << 8);
    return widen(h);
}
// The same where the address is even.
__device__ __forceinline__ float half_even(const u8* p) {
    return widen(*reinterpret_cast<const f16*>(p));
}

// Four bytes at any address. Reads the aligned words that hold them: up to three bytes past the
// last one, which memory slots (padded to 256 bytes) have.
__device__ __forceinline__ u32 word_at(const u8* p) {
    const u64 address = reinterpret_cast<u64>(p);
    const u32* words = reinterpret_cast<const u32*>(address & ~3ull);
    const u32 shift = u32(address & 3) * 8;
    return shift == 0 ? words[0] : __funnelshift_r(words[0], words[1], shift);
}

__device__ __forceinline__ float signed_byte(u32 word, int i) {
    return float(i8(word >> (8 * i)));
}

// 2^(e - 127); e = 0 is 2^-127, e = 255 is NaN.
__device__ __forceinline__ float e8m0(u32 e) {
    if (e == 255) return __int_as_float(0x7fffffff);
    return __uint_as_float(e == 0 ? 0x00400000u : e << 23);
}

// An E2M1 code: 0 0.5 1 1.5 2 3 4 6 and their negatives; code 8 is minus zero. Its bits are those
// of an f16 with the same sign, the two low bits of the exponent and the top bit of the fraction,
// 2^-14 times as large.
__device__ __forceinline__ float e2m1(u32 code) {
    f16 h;
    h.bits = u16((code & 7) << 9 | (code & 8) << 12);
    return widen(h) * 16384.0f;
}

// Types that hold one element each: a unit is RUN elements of the row.
template <typename W> struct Plain {
    static constexpr int ELEMENTS = 8, UNITS = 1, BYTES = 8 * sizeof(W);
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<W, 1, 8>;
    static __device__ __forceinline__ void read(const u8* block, int, Unit& u) {
        load_row<W, 8>(reinterpret_cast<const W*>(block), u.q[0]);
        u.scale[0] = 1.0f;
        u.at[0] = 0;
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        return widen(reinterpret_cast<const W*>(row)[i]);
    }
};

// Four bytes of nibbles: elements 4u.. in the low ones, 16 + 4u.. in the high ones.
template <typename U>
__device__ __forceinline__ void nibbles(u32 word, int u, U& unit, float less) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        unit.q[0][j] = float(word >> (8 * j) & 15) - less;
        unit.q[1][j] = float(word >> (8 * j + 4) & 15) - less;
    }
    unit.at[0] = 4 * u;
    unit.at[1] = 16 + 4 * u;
}

struct q4_0 {
    static constexpr int ELEMENTS = 32, UNITS = 4, BYTES = 18;
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<q4_0, 2, 4>;
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        unit.scale[0] = unit.scale[1] = half_even(block);
        nibbles(word_at(block + 2 + 4 * u), u, unit, 8.0f);
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 32 * BYTES;
        const int j = i % 32;
        return half_even(b) * (float(b[2 + j % 16] >> (j / 16 * 4) & 15) - 8.0f);
    }
};

struct q5_0 {
    static constexpr int ELEMENTS = 32, UNITS = 4, BYTES = 22;
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<q5_0, 2, 4>;
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        unit.scale[0] = unit.scale[1] = half_even(block);
        nibbles(word_at(block + 6 + 4 * u), u, unit, 16.0f);
        const u32 high = word_at(block + 2) >> (4 * u);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            unit.q[0][j] += float(high >> j & 1) * 16.0f;
            unit.q[1][j] += float(high >> (16 + j) & 1) * 16.0f;
        }
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 32 * BYTES;
        const int j = i % 32;
        const u32 low = b[6 + j % 16] >> (j / 16 * 4) & 15, high = b[2 + j / 8] >> (j % 8) & 1;
        return half_even(b) * (float(low | high << 4) - 16.0f);
    }
};

struct q8_0 {
    static constexpr int ELEMENTS = 32, UNITS = 4, BYTES = 34;
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<q8_0, 1, 8>;
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        unit.scale[0] = half_even(block);
        unit.at[0] = 8 * u;
        const u32 a = word_at(block + 2 + 8 * u), b = word_at(block + 6 + 8 * u);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            unit.q[0][j] = signed_byte(a, j);
            unit.q[0][4 + j] = signed_byte(b, j);
        }
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 32 * BYTES;
        return half_even(b) * float(i8(b[2 + i % 32]));
    }
};

struct mxfp4 {
    static constexpr int ELEMENTS = 32, UNITS = 4, BYTES = 17;
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<mxfp4, 2, 4>;
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        unit.scale[0] = unit.scale[1] = e8m0(block[0]);
        const u32 word = word_at(block + 1 + 4 * u);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            unit.q[0][j] = e2m1(word >> (8 * j) & 15);
            unit.q[1][j] = e2m1(word >> (8 * j + 4) & 15);
        }
        unit.at[0] = 4 * u;
        unit.at[1] = 16 + 4 * u;
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 32 * BYTES;
        const int j = i % 32;
        return e8m0(b[0]) * e2m1(b[1 + j % 16] >> (j / 16 * 4) & 15);
    }
};

// Scale and minimum g of 8 from the packed twelve bytes of q4_k and q5_k: six bits each, the upper
// two bits of the last four in the top of the first eight bytes.
__device__ __forceinline__ void k_scale(const u8* packed, int g, float& scale, float& minimum) {
    u32 s, m;
    if (g < 4) {
        s = packed[g] & 63;
        m = packed[g + 4] & 63;
    } else {
        s = (packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4;
        m = (packed[g + 4] >> 4) | (packed[g] >> 6) << 4;
    }
    scale = float(s);
    minimum = float(m);
}

struct q4_k {
    static constexpr int ELEMENTS = 256, UNITS = 8, BYTES = 144;
    static constexpr bool MINIMUM = true;
    using Unit = UnitOf<q4_k, 2, 16>;
    // Unit u: sixteen code bytes, half of sub-blocks 2p (low nibbles) and 2p + 1 (high ones).
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        const uint4 head = *reinterpret_cast<const uint4*>(block);
        const uint4 codes = *reinterpret_cast<const uint4*>(block + 16 + 16 * u);
        const u8* h = reinterpret_cast<const u8*>(&head);
        const float d = half_even(h), dmin = half_even(h + 2);
        const u32 words[4] = {codes.x, codes.y, codes.z, codes.w};
        const int pair = u / 2;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float s, m;
            k_scale_of(head, 2 * pair + r, s, m);
            unit.scale[r] = d * s;
            unit.minimum[r] = dmin * m;
            unit.at[r] = 64 * pair + 32 * r + 16 * (u % 2);
#pragma unroll
            for (int j = 0; j < 16; ++j) {
                unit.q[r][j] = float(words[j / 4] >> (8 * (j % 4) + 4 * r) & 15);
            }
        }
    }
    // As k_scale, from the header in registers: bytes 4 to 15 are words y, z and w.
    static __device__ __forceinline__ void k_scale_of(const uint4& head, int g, float& scale,
                                                      float& minimum) {
        const u32 shift = 8 * (g & 3);
        const u32 a = head.y >> shift, b = head.z >> shift, c = head.w >> shift;
        scale = float(g < 4 ? a & 63 : (c & 15) | (a >> 6 & 3) << 4);
        minimum = float(g < 4 ? b & 63 : (c >> 4 & 15) | (b >> 6 & 3) << 4);
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 256 * BYTES;
        const int j = i % 256, pair = j / 64, half = j / 32 % 2;
        float s, m;
        k_scale(b + 4, j / 32, s, m);
        const u32 q = b[16 + 32 * pair + j % 32] >> (4 * half) & 15;
        return __fsub_rn(half_even(b) * s * float(q), half_even(b + 2) * m);
    }
};

struct q5_k {
    static constexpr int ELEMENTS = 256, UNITS = 8, BYTES = 176;
    static constexpr bool MINIMUM = true;
    using Unit = UnitOf<q5_k, 2, 16>;
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        const uint4 head = *reinterpret_cast<const uint4*>(block);
        const uint4 high = *reinterpret_cast<const uint4*>(block + 16 + 16 * (u % 2));
        const uint4 codes = *reinterpret_cast<const uint4*>(block + 48 + 16 * u);
        const u8* h = reinterpret_cast<const u8*>(&head);
        const float d = half_even(h), dmin = half_even(h + 2);
        const u32 words[4] = {codes.x, codes.y, codes.z, codes.w};
        const u32 bits[4] = {high.x, high.y, high.z, high.w};
        const int pair = u / 2;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float s, m;
            q4_k::k_scale_of(head, 2 * pair + r, s, m);
            unit.scale[r] = d * s;
            unit.minimum[r] = dmin * m;
            unit.at[r] = 64 * pair + 32 * r + 16 * (u % 2);
#pragma unroll
            for (int j = 0; j < 16; ++j) {
                const u32 low = words[j / 4] >> (8 * (j % 4) + 4 * r) & 15;
                const u32 fifth = bits[j / 4] >> (8 * (j % 4) + 2 * pair + r) & 1;
                unit.q[r][j] = float(low | fifth << 4);
            }
        }
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 256 * BYTES;
        const int j = i % 256, group = j / 32;
        float s, m;
        k_scale(b + 4, group, s, m);
        const u32 low = b[48 + 32 * (group / 2) + j % 32] >> (4 * (group % 2)) & 15;
        const u32 fifth = b[16 + j % 32] >> group & 1;
        return __fsub_rn(half_even(b) * s * float(low | fifth << 4), half_even(b + 2) * m);
    }
};

struct q6_k {
    static constexpr int ELEMENTS = 256, UNITS = 16, BYTES = 210;
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<q6_k, 4, 4>;
    // Unit u: half h = u / 8, elements l = 4 (u % 8) .. of each of its four quarters.
    static __device__ __forceinline__ void read(const u8* block, int u, Unit& unit) {
        const int half = u / 8, l = 4 * (u % 8);
        const u32 low[2] = {word_at(block + 64 * half + l), word_at(block + 64 * half + 32 + l)};
        const u32 high = word_at(block + 128 + 32 * half + l);
        const float d = half_even(block + 208);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            unit.scale[r] = d * float(i8(block[192 + 8 * half + l / 16 + 2 * r]));
            unit.at[r] = 128 * half + 32 * r + l;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const u32 nibble = low[r & 1] >> (8 * j + 4 * (r >> 1)) & 15;
                unit.q[r][j] = float(nibble | (high >> (8 * j + 2 * r) & 3) << 4) - 32.0f;
            }
        }
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        const u8* b = row + i / 256 * BYTES;
        const int j = i % 256, half = j / 128, quarter = j / 32 % 4, l = j % 32;
        const u32 nibble = b[64 * half + 32 * (quarter & 1) + l] >> (4 * (quarter >> 1)) & 15;
        const u32 high = b[128 + 32 * half + l] >> (2 * quarter) & 3;
        const float scale = float(i8(b[192 + 8 * half + l / 16 + 2 * quarter]));
        return half_even(b + 208) * scale * (float(nibble | high << 4) - 32.0f);
    }
};

// How a weight type's name in an entry maps to its reader.
template <typename W> struct ReaderOf { using type = W; };
template <> struct ReaderOf<f32> { using type = Plain<f32>; };
template <> struct ReaderOf<f16> { using type = Plain<f16>; };
template <> struct ReaderOf<bf16> { using type = Plain<bf16>; };
template <typename W> using Reader = typename ReaderOf<W>::type;

// Bytes of a row of `count` elements.
template <typename W> __device__ __forceinline__ i64 row_bytes(i64 count) {
    return count / Reader<W>::ELEMENTS * Reader<W>::BYTES;
}
template <> __device__ __forceinline__ i64 row_bytes<f32>(i64 count) { return count * 4; }
template <> __device__ __forceinline__ i64 row_bytes<f16>(i64 count) { return count * 2; }
template <> __device__ __forceinline__ i64 row_bytes<bf16>(i64 count) { return count * 2; }
