// moe_ffn: y = sum over ranks of weight (w_down swiglu_clamped(gate, up) + b_down)
//
// Formula   openai/gpt-oss, gpt_oss/torch/model.py, MLPBlock
// Shapes    x [n, h]; ids, weights [n, top_k]; w_gate, w_up [e, f, h], w_down [e, h, f] of the
//           stored
//           type W (a define); biases f32; hidden [n top_k, f] in D; y [n, h]
// Requires  sm_80
// Launch    _inner: a warp a pair of token and rank and row of f; _outer: a warp a token and row
//           of h
// Numerics  products f32, every w and x exact; the activation is rounded once to D (keeps hidden);
//           ranks added in order; one rounding. An expert that no row chose is not read; an id
//           out of range raises the fault
// Cost      the chosen experts once a token that chose them
// Host      engine/src/ops/moe_ffn.rs
// Cases     specs/ops/moe_ffn.yaml
#include "blocks.cuh"

struct MoeFfnArgs {
    const void* x;
    const int* ids;
    const float* weights;
    const void* w_gate;
    const void* w_up;
    const void* w_down;
    const float* b_gate;
    const float* b_up;
    const float* b_down;
    void* hidden;
    void* y;
    u32* fault;
    int h;
    int f;
    int experts;
    int top_k;
    float alpha;
    float limit;
};

// A row of w times a vector, in every lane: units where the width is whole, else by element.
template <typename X> __device__ float dot(const u8* w, const X* x, int width) {
    using R = Reader<W>;
    const int lane = threadIdx.x & 31;
    float sum = 0.0f;
    if (width % R::ELEMENTS != 0) {
        for (int i = lane; i < width; i += 32) sum = fmaf(R::value(w, i), widen(x[i]), sum);
        return warp_reduce<Sum>(sum);
    }
    for (int i = lane; i < width / R::ELEMENTS * R::UNITS; i += 32) {
        typename R::Unit unit;
        typename R::Raw raw;
        R::fetch(w + i64(i / R::UNITS) * R::BYTES, i % R::UNITS, raw);
        R::unpack(raw, i % R::UNITS, unit);
#pragma unroll
        for (int r = 0; r < R::Unit::RUNS; ++r) {
            float v[R::Unit::RUN], part = 0.0f, total = 0.0f;
            load_row<X, R::Unit::RUN>(x + i / R::UNITS * R::ELEMENTS + unit.at[r], v);
#pragma unroll
            for (int k = 0; k < R::Unit::RUN; ++k) {
                part = fmaf(unit.q[r][k], v[k], part);
                if constexpr (R::MINIMUM) total += v[k];
            }
            sum = fmaf(unit.scale[r], part, sum);
            if constexpr (R::MINIMUM) sum = fmaf(-unit.minimum[r], total, sum);
        }
    }
    return warp_reduce<Sum>(sum);
}

template <typename D> __device__ void inner(const MoeFfnArgs& a) {
    const int pair = blockIdx.x, row = blockIdx.y * 4 + (threadIdx.x >> 5);
    wait_for_previous();
    if (row >= a.f) return;
    const int id = a.ids[pair];
    if (id < 0 || id >= a.experts) {
        if (row == 0 && threadIdx.x == 0) raise(a.fault, 1);
        return;
    }
    const D* x = static_cast<const D*>(a.x) + i64(pair / a.top_k) * a.h;
    const i64 at = i64(id) * a.f + row, offset = at * row_bytes<W>(a.h);
    float gate = dot(static_cast<const u8*>(a.w_gate) + offset, x, a.h);
    float up = dot(static_cast<const u8*>(a.w_up) + offset, x, a.h);
    let_next_start();
    if ((threadIdx.x & 31) != 0) return;
    gate = min_nan(gate + (a.b_gate ? a.b_gate[at] : 0.0f), a.limit);
    up = max_nan(min_nan(up + (a.b_up ? a.b_up[at] : 0.0f), a.limit), -a.limit);
    const float hidden = gate / (1.0f + expf(-a.alpha * gate)) * (up + 1.0f);
    static_cast<D*>(a.hidden)[i64(pair) * a.f + row] = narrow<D>(hidden);
}

template <typename D, typename Y> __device__ void outer(const MoeFfnArgs& a) {
    const int token = blockIdx.x, row = blockIdx.y * 4 + (threadIdx.x >> 5);
    wait_for_previous();
    if (row >= a.h) return;
    float y = 0.0f;
    for (int t = 0; t < a.top_k; ++t) {
        const int pair = token * a.top_k + t, id = a.ids[pair];
        if (id < 0 || id >= a.experts) return;
        const i64 at = i64(id) * a.h + row;
        const D* hidden = static_cast<const D*>(a.hidden) + i64(pair) * a.f;
        const float down =
            dot(static_cast<const u8*>(a.w_down) + at * row_bytes<W>(a.f), hidden, a.f);
        y = fmaf(a.weights[pair], down + (a.b_down ? a.b_down[at] : 0.0f), y);
    }
    let_next_start();
    if ((threadIdx.x & 31) == 0) {
        static_cast<Y*>(a.y)[i64(token) * a.h + row] = narrow<Y>(y);
    }
}

#define INNER(D)                                                                                 \
    extern "C" __global__ void moe_ffn_inner_##D(const MoeFfnArgs a) { inner<D>(a); }
#define OUTER(D, Y)                                                                              \
    extern "C" __global__ void moe_ffn_outer_##D##_##Y(const MoeFfnArgs a) { outer<D, Y>(a); }
INNER(f32)
INNER(f16)
INNER(bf16)
OUTER(f32, f32)
OUTER(f16, f16)
OUTER(f16, f32)
OUTER(bf16, bf16)
OUTER(bf16, f32)
