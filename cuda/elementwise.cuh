// Ops on each element alone, sixteen bytes at a time, several loads in flight a thread.
#pragma once
#include "common.cuh"

// Elements a thread takes at once where the narrowest operand has `bytes` bytes an element.
__host__ __device__ constexpr int elements_at_once(int bytes) { return 16 / bytes; }

// Vectors a thread holds before it stores the first: an operand may share the result's memory, so
// the compiler may not move a load over a store by itself.
constexpr int FLIGHT = 4;

// Runs `f.load<N>(i, in)` and then `f.store<N>(i, in)` for every i in [0, count) by steps of N, and
// one by one for what is left. K is the number of operands. Grid: one block for each
// blockDim.x * FLIGHT vectors.
template <int N, int K, typename F> __device__ __forceinline__ void elementwise(i64 count, F f) {
    const i64 vectors = count / N;
    const i64 first = i64(blockIdx.x) * blockDim.x * FLIGHT + threadIdx.x;
    float in[FLIGHT][K][N];
#pragma unroll
    for (int u = 0; u < FLIGHT; ++u) {
        const i64 i = first + i64(u) * blockDim.x;
        if (i < vectors) f.template load<N>(i * N, in[u]);
    }
#pragma unroll
    for (int u = 0; u < FLIGHT; ++u) {
        const i64 i = first + i64(u) * blockDim.x;
        if (i < vectors) f.template store<N>(i * N, in[u]);
    }
    const i64 rest = vectors * N + threadIdx.x;
    if (blockIdx.x == 0 && rest < count) {
        float one[K][1];
        f.template load<1>(rest, one);
        f.template store<1>(rest, one);
    }
}

template <typename A, typename B> __host__ __device__ constexpr int narrower() {
    return sizeof(A) < sizeof(B) ? sizeof(A) : sizeof(B);
}
