// residual: y = a + b
//
// Formula   He et al. 2015, eq. 1
// Shapes    a, b, y one shape; y may share a
// Requires  sm_80
// Launch    elements 16 bytes at a time, FLIGHT loads in flight a thread (elementwise.cuh)
// Numerics  f32; one rounding, to the type of a
// Cost      2 sizeof a + sizeof b bytes an element
// Host      engine/src/ops/residual.rs
// Cases     specs/ops/residual.yaml
#include "elementwise.cuh"

struct ResidualArgs {
    const void* a;
    const void* b;
    void* y;
    i64 count;
};

template <typename A, typename B> struct Residual {
    const ResidualArgs& a;
    template <int N> __device__ void load(i64 i, float (&in)[2][N]) const {
        load_row<A, N>(static_cast<const A*>(a.a) + i, in[0]);
        load_row<B, N>(static_cast<const B*>(a.b) + i, in[1]);
    }
    template <int N> __device__ void store(i64 i, float (&in)[2][N]) const {
#pragma unroll
        for (int j = 0; j < N; ++j) in[0][j] += in[1][j];
        store_row<A, N>(static_cast<A*>(a.y) + i, in[0]);
    }
};

#define RESIDUAL(A, B)                                                                           \
    extern "C" __global__ void residual_##A##_##B(const ResidualArgs a) {                        \
        wait_for_previous();                                                                     \
        elementwise<elements_at_once(narrower<A, B>()), 2>(a.count, Residual<A, B>{a});          \
    }
RESIDUAL(f32, f32)
RESIDUAL(f16, f16)
RESIDUAL(bf16, bf16)
RESIDUAL(f32, f16)
RESIDUAL(f32, bf16)
RESIDUAL(f16, f32)
RESIDUAL(bf16, f32)
