// Stored weight types: plain numbers and GGUF blocks, read straight from memory.
//
// A lane takes a *unit* of a row at a time: `fetch` starts its loads and looks at nothing, `unpack`
// makes numbers of what came: RUNS runs of RUN neighbouring elements, each run with one scale and,
// for types that have one, one minimum. The value of an element is
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

// A half of a block; every block that has one lies at an even address.
__device__ __forceinline__ float half_even(const u8* p) {
    return widen(*reinterpret_cast<const f16*>(p));
}

// N words at any address, as the aligned words that hold them: no byte beyond the last aligned
// one, and no use of what was loaded before `at`, so that many may be under way.
template <int N> struct Words {
    u32 word[N + 1];
    u32 shift;
    __device__ __forceinline__ void fetch(const u8* p) {
        const u64 address = reinterpret_cast<u64>(p);
        const u32* words = reinterpret_cast<const u32*>(address & ~3ull);
        shift = u32(address & 3) * 8;
#pragma unroll
        for (int i = 0; i < N; ++i) word[i] = words[i];
        word[N] = words[shift == 0 ? N - 1 : N];
    }
    __device__ __forceinline__ u32 at(int i) const {
        return __funnelshift_r(word[i], word[i + 1], shift);
    }
};

// Four numbers from the bytes of a word.
template <typename T, int N> __device__ __forceinline__ void bytes_of(u32 word, float (&q)[N],
                                                                      int from) {
#pragma unroll
    for (int j = 0; j < 4; ++j) q[from + j] = float(T(word >> (8 * j)));
}

// Each byte of a word less half of its BITS-bit range, as a signed byte: the sign bit is turned
// and copied upward, within each byte.
template <int BITS> __device__ __forceinline__ u32 centred(u32 word) {
    constexpr u32 SIGN = 0x01010101u << (BITS - 1), SPREAD = (256 >> (BITS - 1)) - 2;
    const u32 turned = word ^ SIGN;
    return turned | (turned & SIGN) * SPREAD;
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
    struct Raw { uint4 part[BYTES / 16]; };
    static __device__ __forceinline__ void fetch(const u8* block, int, Raw& raw) {
#pragma unroll
        for (int i = 0; i < BYTES / 16; ++i) {
            raw.part[i] = reinterpret_cast<const uint4*>(block)[i];
        }
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int, Unit& u) {
        const W* w = reinterpret_cast<const W*>(&raw);
#pragma unroll
        for (int i = 0; i < ELEMENTS; ++i) u.q[0][i] = widen(w[i]);
        u.scale[0] = 1.0f;
        u.at[0] = 0;
    }
    static __device__ __forceinline__ float value(const u8* row, i64 i) {
        return widen(reinterpret_cast<const W*>(row)[i]);
    }
};

// A unit of the 32-element types with nibbles: elements 4u.. in the low ones, 16 + 4u.. in the
// high ones.
template <typename U> __device__ __forceinline__ void two_runs(int u, float scale, U& unit) {
    unit.scale[0] = unit.scale[1] = scale;
    unit.at[0] = 4 * u;
    unit.at[1] = 16 + 4 * u;
}

constexpr u32 LOW_NIBBLES = 0x0f0f0f0f;

struct q4_0 {
    static constexpr int ELEMENTS = 32, UNITS = 4, BYTES = 18;
    static constexpr bool MINIMUM = false;
    using Unit = UnitOf<q4_0, 2, 4>;
    struct Raw {
        f16 d;
        Words<1> codes;
    };
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        raw.d = *reinterpret_cast<const f16*>(block);
        raw.codes.fetch(block + 2 + 4 * u);
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        const u32 codes = raw.codes.at(0);
        two_runs(u, widen(raw.d), unit);
        bytes_of<i8>(centred<4>(codes & LOW_NIBBLES), unit.q[0], 0);
        bytes_of<i8>(centred<4>(codes >> 4 & LOW_NIBBLES), unit.q[1], 0);
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
    struct Raw {
        f16 d;
        Words<1> high, codes;
    };
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        raw.d = *reinterpret_cast<const f16*>(block);
        raw.high.fetch(block + 2);
        raw.codes.fetch(block + 6 + 4 * u);
    }
    // The lowest four bits, one a byte, as the fifth bit of a code: the copies that the product
    // makes do not meet, so nothing is carried.
    static __device__ __forceinline__ u32 fifth(u32 bits) {
        return ((bits & 15) * 0x00204081u & 0x01010101u) << 4;
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        const u32 codes = raw.codes.at(0), high = raw.high.at(0) >> (4 * u);
        two_runs(u, widen(raw.d), unit);
        bytes_of<i8>(centred<5>(codes & LOW_NIBBLES | fifth(high)), unit.q[0], 0);
        bytes_of<i8>(centred<5>(codes >> 4 & LOW_NIBBLES | fifth(high >> 16)), unit.q[1], 0);
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
    struct Raw {
        f16 d;
        Words<2> codes;
    };
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        raw.d = *reinterpret_cast<const f16*>(block);
        raw.codes.fetch(block + 2 + 8 * u);
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        unit.scale[0] = widen(raw.d);
        unit.at[0] = 8 * u;
        bytes_of<i8>(raw.codes.at(0), unit.q[0], 0);
        bytes_of<i8>(raw.codes.at(1), unit.q[0], 4);
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
    struct Raw {
        u8 e;
        Words<1> codes;
    };
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        raw.e = block[0];
        raw.codes.fetch(block + 1 + 4 * u);
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        const u32 codes = raw.codes.at(0);
        two_runs(u, e8m0(raw.e), unit);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            unit.q[0][j] = e2m1(codes >> (8 * j) & 15);
            unit.q[1][j] = e2m1(codes >> (8 * j + 4) & 15);
        }
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
    struct Raw { uint4 head, codes; };
    // Unit u: sixteen code bytes, half of sub-blocks 2p (low nibbles) and 2p + 1 (high ones).
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        raw.head = *reinterpret_cast<const uint4*>(block);
        raw.codes = *reinterpret_cast<const uint4*>(block + 16 + 16 * u);
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        const u32 words[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            run_of(raw.head, u, r, unit);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                bytes_of<u8>(words[j] >> (4 * r) & LOW_NIBBLES, unit.q[r], 4 * j);
            }
        }
    }
    // Place, scale and minimum of a run: d and dmin, then k_scale from the header in registers,
    // bytes 4 to 15 of which are words y, z and w.
    template <typename U>
    static __device__ __forceinline__ void run_of(const uint4& head, int u, int r, U& unit) {
        const u8* h = reinterpret_cast<const u8*>(&head);
        const int g = u / 2 * 2 + r;
        const u32 shift = 8 * (g & 3);
        const u32 a = head.y >> shift, b = head.z >> shift, c = head.w >> shift;
        const u32 scale = g < 4 ? a & 63 : (c & 15) | (a >> 6 & 3) << 4;
        const u32 minimum = g < 4 ? b & 63 : (c >> 4 & 15) | (b >> 6 & 3) << 4;
        unit.scale[r] = half_even(h) * float(scale);
        unit.minimum[r] = half_even(h + 2) * float(minimum);
        unit.at[r] = 32 * g + 16 * (u % 2);
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
    struct Raw { uint4 head, high, codes; };
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        raw.head = *reinterpret_cast<const uint4*>(block);
        raw.high = *reinterpret_cast<const uint4*>(block + 16 + 16 * (u % 2));
        raw.codes = *reinterpret_cast<const uint4*>(block + 48 + 16 * u);
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        const u32 words[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
        const u32 bits[4] = {raw.high.x, raw.high.y, raw.high.z, raw.high.w};
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            q4_k::run_of(raw.head, u, r, unit);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const u32 fifth = (bits[j] >> (u / 2 * 2 + r) & 0x01010101u) << 4;
                bytes_of<u8>(words[j] >> (4 * r) & LOW_NIBBLES | fifth, unit.q[r], 4 * j);
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
    struct Raw {
        f16 d;
        Words<1> low[2], high;
        Words<2> scales;
    };
    // Unit u: half h = u / 8, elements l = 4 (u % 8) .. of each of its four quarters.
    static __device__ __forceinline__ void fetch(const u8* block, int u, Raw& raw) {
        const int half = u / 8, l = 4 * (u % 8);
        raw.low[0].fetch(block + 64 * half + l);
        raw.low[1].fetch(block + 64 * half + 32 + l);
        raw.high.fetch(block + 128 + 32 * half + l);
        raw.scales.fetch(block + 192 + 8 * half);
        raw.d = *reinterpret_cast<const f16*>(block + 208);
    }
    static __device__ __forceinline__ void unpack(const Raw& raw, int u, Unit& unit) {
        const int half = u / 8, l = 4 * (u % 8);
        const u32 low[2] = {raw.low[0].at(0), raw.low[1].at(0)}, high = raw.high.at(0);
        const u32 scales[2] = {raw.scales.at(0) >> (l / 16 * 8), raw.scales.at(1) >> (l / 16 * 8)};
        const float d = widen(raw.d);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            unit.scale[r] = d * float(i8(scales[r / 2] >> (16 * (r % 2))));
            unit.at[r] = 128 * half + 32 * r + l;
            const u32 nibbles = low[r & 1] >> (4 * (r >> 1)) & LOW_NIBBLES;
            const u32 two = (high >> (2 * r) & 0x03030303u) << 4;
            bytes_of<i8>(centred<6>(nibbles | two), unit.q[r], 0);
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
