// gelu: y = x * Phi(x) * scale
//
// Formula   Hendrycks & Gimpel 2016, section 2: by erf, or by tanh as GPT-2 has it
// Shapes    x, y any shape; y may share x
// Requires  sm_80
// Launch    elements 16 bytes at a time, FLIGHT loads in flight a thread (elementwise.cuh)
// Numerics  f32; erf through erfc of -x / sqrt 2, so the negative side does not cancel; tanh
//           as x / (1 + exp(-2u)); expf and erfcf of the CUDA library (2 and 4 ulp); one
//           rounding at the store
// Cost      2 sizeof D bytes an element; erf about 30 instructions, tanh 20
// Host      engine/src/ops/gelu.rs
// Cases     specs/ops/gelu.yaml
#include "activations.cuh"
#include "elementwise.cuh"

struct GeluArgs {
    const void* x;
    void* y;
    i64 count;
    float scale;
};

template <typename X, typename Y, float (*F)(float)> struct Gelu {
    const GeluArgs& a;
    template <int N> __device__ void load(i64 i, float (&in)[1][N]) const {
        load_row<X, N>(static_cast<const X*>(a.x) + i, in[0]);
    }
    template <int N> __device__ void store(i64 i, float (&in)[1][N]) const {
#pragma unroll
        for (int j = 0; j < N; ++j) in[0][j] = F(in[0][j]) * a.scale;
        store_row<Y, N>(static_cast<Y*>(a.y) + i, in[0]);
    }
};

#define GELU(FORM, X, Y)                                                                         \
    extern "C" __global__ void gelu_##FORM##_##X##_##Y(const GeluArgs a) {                       \
        wait_for_previous();                                                                     \
        elementwise<elements_at_once(narrower<X, Y>()), 1>(a.count, Gelu<X, Y, gelu_##FORM>{a}); \
    }
#define GELU_TYPES(FORM)                                                                         \
    GELU(FORM, f32, f32)                                                                         \
    GELU(FORM, f16, f16)                                                                         \
    GELU(FORM, bf16, bf16)                                                                       \
    GELU(FORM, f32, f16)                                                                         \
    GELU(FORM, f32, bf16)
GELU_TYPES(erf)
GELU_TYPES(tanh)
