// Products of generated rows: a row of w a group of warps, one or more matrices of one x at once.
//
// A group is SPAN warps, chosen by the launcher from type and width of w alone; each lane adds up
// its units in order, then lanes and warps are added in a fixed order. The first units of w are on
// their way before the launch ahead has ended: weights are nobody's result.
#pragma once
#include "blocks.cuh"

constexpr int WARPS = 4;

struct Product {
    const void* x;  // [n, in]
    int in;
    int out;
    int n;
    int span;
};

// What a unit of each of M rows adds to the sums of NX rows of x.
template <typename X, int NX, int M, typename U>
__device__ __forceinline__ void add_unit(const U (&unit)[M], const X* x, int in, int n,
                                         float (&sum)[M][NX]) {
#pragma unroll
    for (int r = 0; r < U::RUNS; ++r) {
#pragma unroll
        for (int j = 0; j < NX; ++j) {
            if (j >= n) break;
            float v[U::RUN], total = 0.0f;
            load_row<X, U::RUN>(x + i64(j) * in + unit[0].at[r], v);
            if constexpr (Reader<W>::MINIMUM) {
#pragma unroll
                for (int k = 0; k < U::RUN; ++k) total += v[k];
            }
#pragma unroll
            for (int m = 0; m < M; ++m) {
                float part = 0.0f;
#pragma unroll
                for (int k = 0; k < U::RUN; ++k) part = fmaf(unit[m].q[r][k], v[k], part);
                sum[m][j] = fmaf(unit[m].scale[r], part, sum[m][j]);
                if constexpr (Reader<W>::MINIMUM) {
                    sum[m][j] = fmaf(-unit[m].minimum[r], total, sum[m][j]);
                }
            }
        }
    }
}

// The sums of a group's lanes, in its first lane.
template <int NX, int M>
__device__ __forceinline__ void gather(float (&sum)[M][NX], int n, int span) {
    __shared__ float scratch[M][NX][WARPS];
    const int warp = threadIdx.x >> 5;
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int j = 0; j < NX; ++j) {
            if (j >= n) break;
            sum[m][j] = warp_reduce<Sum>(sum[m][j]);
            if (span > 1 && (threadIdx.x & 31) == 0) scratch[m][j][warp] = sum[m][j];
        }
    }
    if (span == 1) return;
    __syncthreads();
    if (threadIdx.x % (32 * span) != 0) return;
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int j = 0; j < NX; ++j) {
            if (j >= n) break;
            for (int i = 1; i < span; ++i) sum[m][j] += scratch[m][j][warp + i];
        }
    }
}

// Whole units: `in` is a multiple of the reader's elements. `finish` is told the row before its
// sums are known (what it reads of weights comes early), then each row of x with its M sums.
template <typename X, int NX, int M, typename F>
__device__ __forceinline__ void products(const Product& p, const void* const (&w)[M], F& finish) {
    using R = Reader<W>;
    constexpr int AHEAD = M == 1 ? 4 : 2;
    const int stride = 32 * p.span, lane = threadIdx.x % stride;
    const int row = blockIdx.x * (WARPS / p.span) + threadIdx.x / stride;
    const int units = row < p.out ? p.in / R::ELEMENTS * R::UNITS : 0;
    const X* x = static_cast<const X*>(p.x);
    const i64 first = row * row_bytes<W>(p.in);
    typename R::Raw raw[AHEAD][M];
    const auto fetch = [&](int i, typename R::Raw(&to)[M]) {
        if (i >= units) return;
#pragma unroll
        for (int m = 0; m < M; ++m) {
            const u8* from = static_cast<const u8*>(w[m]) + first;
            R::fetch(from + i64(i / R::UNITS) * R::BYTES, i % R::UNITS, to[m]);
        }
    };
#pragma unroll
    for (int d = 0; d < AHEAD; ++d) fetch(lane + d * stride, raw[d]);
    if (row < p.out && lane == 0) finish.begin(row);
    wait_for_previous();
    let_next_start();
    float sum[M][NX] = {};
    for (int i0 = lane; i0 < units; i0 += AHEAD * stride) {
#pragma unroll
        for (int d = 0; d < AHEAD; ++d) {
            const int i = i0 + d * stride;
            if (i >= units) break;
            typename R::Unit unit[M];
#pragma unroll
            for (int m = 0; m < M; ++m) R::unpack(raw[d][m], i % R::UNITS, unit[m]);
            fetch(i + AHEAD * stride, raw[d]);
            add_unit<X, NX, M>(unit, x + i / R::UNITS * R::ELEMENTS, p.in, p.n, sum);
        }
    }
    gather<NX, M>(sum, p.n, p.span);
    if (row >= p.out || lane != 0) return;
#pragma unroll
    for (int j = 0; j < NX; ++j) {
        if (j >= p.n) break;
        float of[M];
#pragma unroll
        for (int m = 0; m < M; ++m) of[m] = sum[m][j];
        finish.row(j, row, of);
    }
}
