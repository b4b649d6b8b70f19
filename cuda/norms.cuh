// One row of layernorm or rmsnorm, with or without a residual, in registers or read again.
#pragma once
#include "common.cuh"

struct NormArgs {
    const void* x;
    const void* residual;
    const float* gamma;
    const float* beta;
    void* y;
    void* sum;
    int hidden;
    float eps;
};

// Vectors of a row that a thread of a `_kept` entry holds, block-strided so that loads coalesce.
constexpr int KEEP = 4;

// What is added up to find the scale, and what is subtracted first.
enum class Norm { Layer, Rms };

// Element i of the row: x, or x + residual rounded once to R and stored as the sum.
template <bool RESIDUAL, typename X, typename R, int N>
__device__ __forceinline__ void norm_load(const NormArgs& a, i64 at, float* v) {
    load_row<X, N>(static_cast<const X*>(a.x) + at, v);
    if constexpr (RESIDUAL) {
        float r[N];
        load_row<R, N>(static_cast<const R*>(a.residual) + at, r);
#pragma unroll
        for (int j = 0; j < N; ++j) v[j] = widen(narrow<R>(v[j] + r[j]));
        store_row<R, N>(static_cast<R*>(a.sum) + at, v);
    }
}

// Gamma and beta of N elements: weights, so they may be read before the launch ahead has ended.
template <Norm KIND, int N> struct Vectors {
    float gamma[N], beta[N];
    __device__ __forceinline__ void load(const NormArgs& a, int i) {
        load_row<float, N>(a.gamma + i, gamma);
        if constexpr (KIND == Norm::Layer) load_row<float, N>(a.beta + i, beta);
    }
    __device__ __forceinline__ void apply(float* v, float mean, float scale) const {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            if constexpr (KIND == Norm::Layer) {
                v[j] = (v[j] - mean) * scale * gamma[j] + beta[j];
            } else {
                v[j] = v[j] * scale * gamma[j];
            }
        }
    }
};

// The row in registers: read once, two passes over what is held. N elements a vector.
template <Norm KIND, bool RESIDUAL, typename X, typename R, typename Y>
__device__ void norm_kept(const NormArgs& a) {
    constexpr int N = Vector<X>::N;
    __shared__ float scratch[32];
    __shared__ float first;
    Vectors<KIND, N> vectors[KEEP];
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        const int i = (k * blockDim.x + threadIdx.x) * N;
        if (i < a.hidden) vectors[k].load(a, i);
    }
    wait_for_previous();
    let_next_start();
    const i64 row = i64(blockIdx.x) * a.hidden;
    float v[KEEP][N];
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        const int i = (k * blockDim.x + threadIdx.x) * N;
        if (i < a.hidden) norm_load<RESIDUAL, X, R, N>(a, row + i, v[k]);
    }
    float mean = 0.0f;
    if constexpr (KIND == Norm::Layer) {
        // Less the first element, so that the error does not grow with the mean.
        if (threadIdx.x == 0) first = v[0][0];
        __syncthreads();
        const float origin = first;
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < KEEP; ++k) {
            if ((k * blockDim.x + threadIdx.x) * N < a.hidden) {
#pragma unroll
                for (int j = 0; j < N; ++j) sum += v[k][j] -= origin;
            }
        }
        mean = block_reduce<Sum>(sum, scratch) / float(a.hidden);
    }
    float squares = 0.0f;
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        if ((k * blockDim.x + threadIdx.x) * N < a.hidden) {
#pragma unroll
            for (int j = 0; j < N; ++j) squares += (v[k][j] - mean) * (v[k][j] - mean);
        }
    }
    const float scale =
        1.0f / sqrtf(block_reduce<Sum>(squares, scratch) / float(a.hidden) + a.eps);
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        const int i = (k * blockDim.x + threadIdx.x) * N;
        if (i < a.hidden) {
            vectors[k].apply(v[k], mean, scale);
            store_row<Y, N>(static_cast<Y*>(a.y) + row + i, v[k]);
        }
    }
}

// Any width: the row is read again in each pass (with a residual, the sum that was stored).
template <Norm KIND, bool RESIDUAL, typename X, typename R, typename Y>
__device__ void norm_any(const NormArgs& a) {
    __shared__ float scratch[32];
    wait_for_previous();
    let_next_start();
    const i64 row = i64(blockIdx.x) * a.hidden;
    const auto value = [&](int i) {
        if constexpr (RESIDUAL) return widen(static_cast<const R*>(a.sum)[row + i]);
        else return widen(static_cast<const X*>(a.x)[row + i]);
    };
    if constexpr (RESIDUAL) {
        for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) {
            float v;
            norm_load<true, X, R, 1>(a, row + i, &v);
        }
        __syncthreads();
    }
    float origin = 0.0f, mean = 0.0f;
    if constexpr (KIND == Norm::Layer) {
        origin = value(0);
        float sum = 0.0f;
        for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) sum += value(i) - origin;
        mean = block_reduce<Sum>(sum, scratch) / float(a.hidden);
    }
    float squares = 0.0f;
    for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) {
        const float d = value(i) - origin - mean;
        squares += d * d;
    }
    const float scale =
        1.0f / sqrtf(block_reduce<Sum>(squares, scratch) / float(a.hidden) + a.eps);
    for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) {
        float v = value(i) - origin;
        Vectors<KIND, 1> vectors;
        vectors.load(a, i);
        vectors.apply(&v, mean, scale);
        static_cast<Y*>(a.y)[row + i] = narrow<Y>(v);
    }
}

// Entries <op>_<form>_<x>_<y>, or with a residual <op>_<form>_<x>_<residual>_<y>.
#define NORM_ENTRIES(OP, KIND, X, Y)                                                             \
    extern "C" __global__ void OP##_kept_##X##_##Y(const NormArgs a) {                           \
        norm_kept<KIND, false, X, X, Y>(a);                                                      \
    }                                                                                            \
    extern "C" __global__ void OP##_any_##X##_##Y(const NormArgs a) {                            \
        norm_any<KIND, false, X, X, Y>(a);                                                       \
    }
#define NORM_RESIDUAL_ENTRIES(OP, KIND, X, R, Y)                                                 \
    extern "C" __global__ void OP##_kept_##X##_##R##_##Y(const NormArgs a) {                     \
        norm_kept<KIND, true, X, R, Y>(a);                                                       \
    }                                                                                            \
    extern "C" __global__ void OP##_any_##X##_##R##_##Y(const NormArgs a) {                      \
        norm_any<KIND, true, X, R, Y>(a);                                                        \
    }
#define NORM_TYPES(OP, KIND)                                                                     \
    NORM_ENTRIES(OP, KIND, f32, f32)                                                             \
    NORM_ENTRIES(OP, KIND, f16, f16)                                                             \
    NORM_ENTRIES(OP, KIND, bf16, bf16)                                                           \
    NORM_ENTRIES(OP, KIND, f32, f16)                                                             \
    NORM_ENTRIES(OP, KIND, f32, bf16)                                                            \
    NORM_ENTRIES(OP, KIND, f16, f32)                                                             \
    NORM_ENTRIES(OP, KIND, bf16, f32)
#define NORM_RESIDUAL_HALF(OP, KIND, D)                                                          \
    NORM_RESIDUAL_ENTRIES(OP, KIND, D, D, D)                                                     \
    NORM_RESIDUAL_ENTRIES(OP, KIND, D, D, f32)                                                   \
    NORM_RESIDUAL_ENTRIES(OP, KIND, D, f32, D)                                                   \
    NORM_RESIDUAL_ENTRIES(OP, KIND, D, f32, f32)                                                 \
    NORM_RESIDUAL_ENTRIES(OP, KIND, f32, D, D)                                                   \
    NORM_RESIDUAL_ENTRIES(OP, KIND, f32, D, f32)                                                 \
    NORM_RESIDUAL_ENTRIES(OP, KIND, f32, f32, D)
#define NORM_RESIDUAL_TYPES(OP, KIND)                                                            \
    NORM_RESIDUAL_ENTRIES(OP, KIND, f32, f32, f32)                                               \
    NORM_RESIDUAL_HALF(OP, KIND, f16)                                                            \
    NORM_RESIDUAL_HALF(OP, KIND, bf16)
