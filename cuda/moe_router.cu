// moe_router: the top_k experts by logit, and the softmax over the chosen
//
// Formula   openai/gpt-oss, gpt_oss/torch/model.py
// Shapes    x [n, h]; w [e, h] of the stored type W (a define); b [e] f32; ids, weights [n, top_k]
// Requires  sm_80
// Launch    a block a token, a warp an expert at a time; one thread chooses
// Numerics  logits f32, every w and x exact; ties to the lower id; expf of the CUDA library (2
//           ulp);
//           a NaN raises the fault and gives ids -1
// Cost      w and x once
// Host      engine/src/ops/moe_router.rs
// Cases     specs/ops/moe_router.yaml
#include "blocks.cuh"

struct MoeRouterArgs {
    const void* x;
    const void* w;
    const float* b;
    int* ids;
    float* weights;
    u32* fault;
    int hidden;
    int experts;
    int top_k;
};

template <typename X> __device__ void moe_router(const MoeRouterArgs& a) {
    __shared__ float logits[1024];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    wait_for_previous();
    const X* x = static_cast<const X*>(a.x) + i64(blockIdx.x) * a.hidden;
    for (int e = warp; e < a.experts; e += blockDim.x / 32) {
        const u8* w = static_cast<const u8*>(a.w) + e * row_bytes<W>(a.hidden);
        float sum = 0.0f;
        for (int i = lane; i < a.hidden; i += 32) {
            sum = fmaf(Reader<W>::value(w, i), widen(x[i]), sum);
        }
        sum = warp_reduce<Sum>(sum);
        if (lane == 0) logits[e] = sum + (a.b ? a.b[e] : 0.0f);
    }
    __syncthreads();
    let_next_start();
    if (warp != 0) return;
    int* ids = a.ids + i64(blockIdx.x) * a.top_k;
    float* weights = a.weights + i64(blockIdx.x) * a.top_k;
    bool nan = false;
    for (int e = lane; e < a.experts; e += 32) nan |= isnan(logits[e]);
    nan = __any_sync(~0u, nan);
    if (nan && lane == 0) raise(a.fault, 1);
    float top = 0.0f, sum = 0.0f;
    for (int t = 0; t < a.top_k; ++t) {
        // The best that is left: the larger logit, then the lower id.
        float best = -infinity();
        int id = a.experts;
        for (int e = lane; e < a.experts; e += 32) {
            if (logits[e] > best || (logits[e] == best && e < id)) best = logits[e], id = e;
        }
        for (int step = 16; step > 0; step >>= 1) {
            const float other = __shfl_xor_sync(~0u, best, step);
            const int other_id = __shfl_xor_sync(~0u, id, step);
            if (other > best || (other == best && other_id < id)) best = other, id = other_id;
        }
        if (t == 0) top = best;
        sum += expf(best - top);
        __syncwarp();
        if (lane == 0) {
            ids[t] = nan ? -1 : id;
            weights[t] = expf(best - top);
            if (id < a.experts) logits[id] = __int_as_float(0x7fc00000);  // taken: compares false
        }
        __syncwarp();
    }
    for (int t = lane; t < a.top_k; t += 32) weights[t] /= sum;
}

extern "C" __global__ void moe_router_f32(const MoeRouterArgs a) { moe_router<f32>(a); }
extern "C" __global__ void moe_router_f16(const MoeRouterArgs a) { moe_router<f16>(a); }
extern "C" __global__ void moe_router_bf16(const MoeRouterArgs a) { moe_router<bf16>(a); }
