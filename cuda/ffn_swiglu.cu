// ffn_swiglu: the inner half of a generated row, silu(x w_gate^T) * (x w_up^T)
//
// Formula   Shazeer 2020, "GLU Variants Improve Transformer", eq. 6, before w_down
// Shapes    x [n, in]; w_gate, w_up [out, in] of one stored type W (a define); hidden [n, out] in D
// Requires  sm_80
// Launch    decode (n <= 8): a row of both matrices 1, 2 or 4 warps (products.cuh); the outer half
//           is linear with a residual. A prompt takes linear, swiglu and linear
// Numerics  products f32 as linear; expf of the CUDA library (2 ulp), IEEE division; the
//           activation is rounded once to D (keeps hidden)
// Cost      both weights once
// Host      engine/src/ops/ffn_swiglu.rs
// Cases     specs/ops/ffn_swiglu.yaml
#include "activations.cuh"
#include "products.cuh"

struct FfnSwigluArgs {
    const void* x;
    const void* w_gate;
    const void* w_up;
    void* hidden;
    int in;
    int out;
    int n;
    int span;
};

template <typename D> struct Hidden {
    const FfnSwigluArgs& a;
    __device__ __forceinline__ void begin(int) {}
    __device__ __forceinline__ void row(int j, int row, const float (&sum)[2]) const {
        const float y = silu_times(sum[0], sum[1]);
        static_cast<D*>(a.hidden)[i64(j) * a.out + row] = narrow<D>(y);
    }
};

template <typename D, int NX> __device__ void inner(const FfnSwigluArgs& a) {
    const void* const w[2] = {a.w_gate, a.w_up};
    Hidden<D> hidden = {a};
    products<D, NX, 2>({a.x, a.in, a.out, a.n, a.span}, w, hidden);
}

#define INNER(D)                                                                                 \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void ffn_swiglu_inner1_##D(              \
        const FfnSwigluArgs a) { inner<D, 1>(a); }                                               \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void ffn_swiglu_inner8_##D(              \
        const FfnSwigluArgs a) { inner<D, 8>(a); }
INNER(f32)
INNER(f16)
INNER(bf16)
