// ffn_gelu: the inner half of a generated row, gelu(x w_up^T + b_up)
//
// Formula   Radford et al. 2019, GPT-2's feed-forward block, before w_down
// Shapes    x [n, in]; w_up [out, in] of the stored type W (a define); b_up [out] f32; hidden
//           [n, out] in D
// Requires  sm_80
// Launch    decode (n <= 8): a row of w_up 1, 2 or 4 warps (products.cuh); the outer half is linear
//           with a residual. A prompt takes linear, gelu and linear
// Numerics  products f32 as linear; the activation as gelu, rounded once to D (keeps hidden)
// Cost      w_up once
// Host      engine/src/ops/ffn_gelu.rs
// Cases     specs/ops/ffn_gelu.yaml
#include "activations.cuh"
#include "products.cuh"

struct FfnGeluArgs {
    const void* x;
    const void* w_up;
    const float* b_up;
    void* hidden;
    int in;
    int out;
    int n;
    int span;
};

template <typename D, float (*F)(float)> struct Hidden {
    const FfnGeluArgs& a;
    float bias;
    __device__ __forceinline__ void begin(int row) { bias = a.b_up[row]; }
    __device__ __forceinline__ void row(int j, int row, const float (&sum)[1]) const {
        static_cast<D*>(a.hidden)[i64(j) * a.out + row] = narrow<D>(F(sum[0] + bias));
    }
};

template <typename D, int NX, float (*F)(float)> __device__ void inner(const FfnGeluArgs& a) {
    const void* const w[1] = {a.w_up};
    Hidden<D, F> hidden = {a, 0.0f};
    products<D, NX, 1>({a.x, a.in, a.out, a.n, a.span}, w, hidden);
}

#define INNER(FORM, D)                                                                           \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void ffn_gelu_inner1_##FORM##_##D(       \
        const FfnGeluArgs a) { inner<D, 1, gelu_##FORM>(a); }                                    \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void ffn_gelu_inner8_##FORM##_##D(       \
        const FfnGeluArgs a) { inner<D, 8, gelu_##FORM>(a); }
#define INNERS(FORM)                                                                             \
    INNER(FORM, f32)                                                                             \
    INNER(FORM, f16)                                                                             \
    INNER(FORM, bf16)
INNERS(erf)
INNERS(tanh)
