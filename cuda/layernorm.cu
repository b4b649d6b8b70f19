// layernorm: y = (x - mean) / sqrt(var + eps) * gamma + beta, over the last axis
//
// Formula   Ba, Kiros & Hinton 2016, "Layer Normalization", eq. 4; biased variance, two passes.
// Shapes    x, y [rows, hidden]; gamma, beta [hidden] f32
// Requires  sm_80
// Launch    one block a row; `_kept` holds the row in registers (hidden a multiple of 16 bytes and
//           at most KEEP vectors a thread), `_any` reads it three times
// Numerics  f32; the row's first element is subtracted before the first pass, so the error does
//           not grow with the mean; IEEE division and square root; one rounding at the store
// Cost      rows * hidden * (sizeof x + sizeof y) bytes, 8 operations an element
// Host      engine/src/ops/layernorm.rs
// Cases     specs/ops/layernorm.yaml
#include "common.cuh"

struct LayernormArgs {
    const void* x;
    const float* gamma;
    const float* beta;
    void* y;
    int hidden;
    float eps;
};

// A thread's share of a row: up to KEEP vectors, block-strided so that loads coalesce.
constexpr int KEEP = 4;

template <typename X, typename Y> __device__ void layernorm_kept(const LayernormArgs& a) {
    constexpr int N = Vector<X>::N;
    __shared__ float scratch[32];
    wait_for_previous();
    const i64 row = i64(blockIdx.x) * a.hidden;
    const X* x = static_cast<const X*>(a.x) + row;
    Y* y = static_cast<Y*>(a.y) + row;
    const float origin = widen(x[0]);

    // The row, less its first element.
    float d[KEEP][N];
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        const int i = (k * blockDim.x + threadIdx.x) * N;
        if (i < a.hidden) {
            const Vector<X> v = load16(x + i);
#pragma unroll
            for (int j = 0; j < N; ++j) {
                d[k][j] = widen(v.at[j]) - origin;
                sum += d[k][j];
            }
        }
    }
    const float mean = block_reduce<Sum>(sum, scratch) / float(a.hidden);

    // The variance about that mean.
    float squares = 0.0f;
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        const int i = (k * blockDim.x + threadIdx.x) * N;
        if (i < a.hidden) {
#pragma unroll
            for (int j = 0; j < N; ++j) squares += (d[k][j] - mean) * (d[k][j] - mean);
        }
    }
    const float variance = block_reduce<Sum>(squares, scratch) / float(a.hidden);
    const float scale = 1.0f / sqrtf(variance + a.eps);
    let_next_start();

    // Normalise, scale, shift, round once.
#pragma unroll
    for (int k = 0; k < KEEP; ++k) {
        const int i = (k * blockDim.x + threadIdx.x) * N;
        if (i < a.hidden) {
#pragma unroll
            for (int j = 0; j < N; ++j) {
                d[k][j] = (d[k][j] - mean) * scale * a.gamma[i + j] + a.beta[i + j];
            }
            store_row<Y, N>(y + i, d[k]);
        }
    }
}

template <typename X, typename Y> __device__ void layernorm_any(const LayernormArgs& a) {
    __shared__ float scratch[32];
    wait_for_previous();
    const i64 row = i64(blockIdx.x) * a.hidden;
    const X* x = static_cast<const X*>(a.x) + row;
    Y* y = static_cast<Y*>(a.y) + row;
    const float origin = widen(x[0]);

    float sum = 0.0f;
    for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) sum += widen(x[i]) - origin;
    const float mean = block_reduce<Sum>(sum, scratch) / float(a.hidden);

    float squares = 0.0f;
    for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) {
        const float d = widen(x[i]) - origin - mean;
        squares += d * d;
    }
    const float variance = block_reduce<Sum>(squares, scratch) / float(a.hidden);
    const float scale = 1.0f / sqrtf(variance + a.eps);
    let_next_start();

    for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) {
        const float d = widen(x[i]) - origin - mean;
        y[i] = narrow<Y>(d * scale * a.gamma[i] + a.beta[i]);
    }
}

#define LAYERNORM(X, Y)                                                                         \
    extern "C" __global__ void layernorm_kept_##X##_##Y(const LayernormArgs a) {                \
        layernorm_kept<X, Y>(a);                                                                \
    }                                                                                           \
    extern "C" __global__ void layernorm_any_##X##_##Y(const LayernormArgs a) {                 \
        layernorm_any<X, Y>(a);                                                                 \
    }
LAYERNORM(f32, f32)
LAYERNORM(f16, f16)
LAYERNORM(bf16, bf16)
LAYERNORM(f32, f16)
LAYERNORM(f32, bf16)
LAYERNORM(f16, f32)
LAYERNORM(bf16, f32)
