// swiglu_clamped: y = g * sigmoid(alpha g) * (u + 1), clamped
//
// Formula   openai/gpt-oss, gpt_oss/torch/model.py, swiglu: the gate is clamped from above only,
//           up on
//           both sides
// Shapes    gate, up, y [n, f]
// Requires  sm_80
// Launch    elements 16 bytes at a time, FLIGHT loads in flight a thread (elementwise.cuh)
// Numerics  as swiglu; clamps let NaN through
// Cost      2 sizeof X + sizeof D bytes an element
// Host      engine/src/ops/swiglu_clamped.rs
// Cases     specs/ops/swiglu_clamped.yaml
#include "elementwise.cuh"

struct SwigluArgs {
    const void* gate;
    const void* up;
    void* y;
    i64 count;
    float alpha;
    float limit;
};

__device__ __forceinline__ float unit(float gate, float up, const SwigluArgs& a) {
    gate = min_nan(gate, a.limit);
    up = max_nan(min_nan(up, a.limit), -a.limit);
    return gate / (1.0f + expf(-a.alpha * gate)) * (up + 1.0f);
}

template <typename X, typename Y> struct Swiglu {
    const SwigluArgs& a;
    template <int N> __device__ void load(i64 i, float (&in)[2][N]) const {
        load_row<X, N>(static_cast<const X*>(a.gate) + i, in[0]);
        load_row<X, N>(static_cast<const X*>(a.up) + i, in[1]);
    }
    template <int N> __device__ void store(i64 i, float (&in)[2][N]) const {
#pragma unroll
        for (int j = 0; j < N; ++j) in[0][j] = unit(in[0][j], in[1][j], a);
        store_row<Y, N>(static_cast<Y*>(a.y) + i, in[0]);
    }
};

#define SWIGLU(X, Y)                                                                             \
    extern "C" __global__ void swiglu_clamped_##X##_##Y(const SwigluArgs a) {                    \
        wait_for_previous();                                                                     \
        elementwise<elements_at_once(narrower<X, Y>()), 2>(a.count, Swiglu<X, Y>{a});            \
    }
SWIGLU(f32, f32)
SWIGLU(f16, f16)
SWIGLU(bf16, bf16)
SWIGLU(f32, f16)
SWIGLU(f32, bf16)
