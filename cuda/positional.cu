// positional: y = x + table[position]
//
// Formula   Radford et al. 2019, GPT-2: learned positions; position = start + i, or positions[i]
// Shapes    x, y [b, n, h]; table [p, h]; positions [n]; rows = b n; y may share x
// Requires  sm_80
// Launch    FLIGHT vectors a thread; _wide where h is whole vectors, _any else
// Numerics  f32; one rounding; a position out of range raises the fault and nothing is read or
//           written for it
// Cost      x and y once, the table once
// Host      engine/src/ops/positional.rs
// Cases     specs/ops/positional.yaml
#include "elementwise.cuh"

struct PositionalArgs {
    const void* x;
    const void* table;
    const int* positions;
    const int* start;
    void* y;
    u32* fault;
    i64 rows;
    int tokens;
    int hidden;
    int limit;
};

// N elements a thread at a time, all of one row.
template <typename X, typename T, int N> __device__ void positional(const PositionalArgs& a) {
    wait_for_previous();
    const int parts = a.hidden / N;
    const i64 count = a.rows * parts;
    const i64 first = i64(blockIdx.x) * blockDim.x * FLIGHT + threadIdx.x;
    const int start = *a.start;
    float x[FLIGHT][N], t[FLIGHT][N];
    bool good[FLIGHT];
#pragma unroll
    for (int u = 0; u < FLIGHT; ++u) {
        const i64 i = first + i64(u) * blockDim.x;
        good[u] = i < count;
        if (!good[u]) continue;
        const i64 row = i / parts;
        const int token = int(row % a.tokens), part = int(i - row * parts);
        const int position = a.positions ? a.positions[token] : start + token;
        good[u] = position >= 0 && position < a.limit;
        if (!good[u]) {
            raise(a.fault, 1);
            continue;
        }
        load_row<X, N>(static_cast<const X*>(a.x) + i * N, x[u]);
        load_row<T, N>(static_cast<const T*>(a.table) + (i64(position) * parts + part) * N, t[u]);
    }
    let_next_start();
#pragma unroll
    for (int u = 0; u < FLIGHT; ++u) {
        if (!good[u]) continue;
#pragma unroll
        for (int j = 0; j < N; ++j) x[u][j] += t[u][j];
        store_row<X, N>(static_cast<X*>(a.y) + (first + i64(u) * blockDim.x) * N, x[u]);
    }
}

#define POSITIONAL(X, T)                                                                         \
    extern "C" __global__ void positional_wide_##X##_##T(const PositionalArgs a) {               \
        positional<X, T, elements_at_once(narrower<X, T>())>(a);                                 \
    }                                                                                            \
    extern "C" __global__ void positional_any_##X##_##T(const PositionalArgs a) {                \
        positional<X, T, 1>(a);                                                                  \
    }
POSITIONAL(f32, f32)
POSITIONAL(f16, f16)
POSITIONAL(bf16, bf16)
POSITIONAL(f32, f16)
POSITIONAL(f32, bf16)
POSITIONAL(f16, f32)
POSITIONAL(bf16, f32)
