// swiglu: y = silu(gate) * up
//
// Formula   Shazeer 2020, "GLU Variants Improve Transformer", eq. 5; silu(g) = g / (1 + exp(-g))
// Shapes    gate, up, y [n, f]
// Requires  sm_80
// Launch    elements 16 bytes at a time, FLIGHT loads in flight a thread (elementwise.cuh)
// Numerics  f32; expf of the CUDA library (2 ulp), IEEE division; one rounding at the store
// Cost      2 sizeof X + sizeof D bytes an element
// Host      engine/src/ops/swiglu.rs
// Cases     specs/ops/swiglu.yaml
#include "activations.cuh"
#include "elementwise.cuh"

struct SwigluArgs {
    const void* gate;
    const void* up;
    void* y;
    i64 count;
    float alpha;
    float limit;
};

template <typename X, typename Y> struct Swiglu {
    const SwigluArgs& a;
    template <int N> __device__ void load(i64 i, float (&in)[2][N]) const {
        load_row<X, N>(static_cast<const X*>(a.gate) + i, in[0]);
        load_row<X, N>(static_cast<const X*>(a.up) + i, in[1]);
    }
    template <int N> __device__ void store(i64 i, float (&in)[2][N]) const {
#pragma unroll
        for (int j = 0; j < N; ++j) in[0][j] = silu_times(in[0][j], in[1][j]);
        store_row<Y, N>(static_cast<Y*>(a.y) + i, in[0]);
    }
};

#define SWIGLU(X, Y)                                                                             \
    extern "C" __global__ void swiglu_##X##_##Y(const SwigluArgs a) {                    \
        wait_for_previous();                                                                     \
        elementwise<elements_at_once(narrower<X, Y>()), 2>(a.count, Swiglu<X, Y>{a});            \
    }
SWIGLU(f32, f32)
SWIGLU(f16, f16)
SWIGLU(bf16, bf16)
SWIGLU(f32, f16)
SWIGLU(f32, bf16)
