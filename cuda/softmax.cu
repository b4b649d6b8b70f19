// softmax: y = exp(z - max z) / sum exp(z - max z), z = scale x
//
// Formula   with the maximum subtracted
// Shapes    x, y [n, columns]
// Requires  sm_80
// Launch    a block a row; the row is read three times (from cache after the first)
// Numerics  f32; expf of the CUDA library (2 ulp), IEEE division; one rounding; NaN reaches the
//           whole row
// Cost      x and y once
// Host      engine/src/ops/softmax.rs
// Cases     specs/ops/softmax.yaml
#include "common.cuh"

struct SoftmaxArgs {
    const void* x;
    void* y;
    int columns;
    float scale;
};

template <typename X, typename Y> __device__ void softmax(const SoftmaxArgs& a) {
    __shared__ float scratch[32];
    wait_for_previous();
    const X* x = static_cast<const X*>(a.x) + i64(blockIdx.x) * a.columns;
    Y* y = static_cast<Y*>(a.y) + i64(blockIdx.x) * a.columns;

    float top = -infinity();
    for (int i = threadIdx.x; i < a.columns; i += blockDim.x) top = max_nan(top, widen(x[i]));
    top = block_reduce<Max>(top, scratch);

    float sum = 0.0f;
    for (int i = threadIdx.x; i < a.columns; i += blockDim.x) {
        sum += expf(a.scale * (widen(x[i]) - top));
    }
    sum = block_reduce<Sum>(sum, scratch);
    let_next_start();

    for (int i = threadIdx.x; i < a.columns; i += blockDim.x) {
        y[i] = narrow<Y>(expf(a.scale * (widen(x[i]) - top)) / sum);
    }
}

#define SOFTMAX(X, Y)                                                                            \
    extern "C" __global__ void softmax_##X##_##Y(const SoftmaxArgs a) { softmax<X, Y>(a); }
SOFTMAX(f32, f32)
SOFTMAX(f16, f16)
SOFTMAX(bf16, bf16)
SOFTMAX(f32, f16)
SOFTMAX(f32, bf16)
SOFTMAX(f16, f32)
SOFTMAX(bf16, f32)
