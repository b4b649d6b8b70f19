// argmax: ids[i] = the first index of the largest x[i, .]
//
// Formula   greedy decoding; ties go to the lower id
// Shapes    x [n, columns] f32; ids [n]
// Requires  sm_80
// Launch    a block a row
// Numerics  exact comparisons; a NaN gives id -1 and raises the fault
// Cost      x once
// Host      engine/src/ops/argmax.rs
// Cases     specs/ops/argmax.yaml
#include "common.cuh"

struct ArgmaxArgs {
    const float* x;
    int* ids;
    u32* fault;
    int columns;
};

// A logit and its id as one key: larger is better, and of equals the lower id. NaN is the largest.
__device__ __forceinline__ u64 key(float x, int id) {
    if (x == 0.0f) x = 0.0f;  // minus zero equals zero
    const u32 bits = __float_as_uint(x);
    const u32 ordered = isnan(x) ? ~0u : (bits & 0x80000000u ? ~bits : bits | 0x80000000u);
    return u64(ordered) << 32 | u32(~id);
}

__device__ __forceinline__ u64 larger(u64 a, u64 b) { return a > b ? a : b; }

extern "C" __global__ void argmax_f32(const ArgmaxArgs a) {
    __shared__ u64 scratch[32];
    wait_for_previous();
    let_next_start();
    const float* x = a.x + i64(blockIdx.x) * a.columns;
    // A thread's ids rise, so the first of its largest stays; a NaN is larger than all.
    float top = -infinity();
    int at = threadIdx.x;
    bool nan_seen = false;
#pragma unroll 8
    for (int i = threadIdx.x; i < a.columns; i += blockDim.x) {
        const float v = x[i];
        nan_seen |= isnan(v);
        if (v > top) top = v, at = i;
    }
    u64 best = at < a.columns ? key(nan_seen ? __int_as_float(0x7fffffff) : top, at) : 0;
    for (int step = 16; step > 0; step >>= 1) best = larger(best, __shfl_xor_sync(~0u, best, step));
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < blockDim.x / 32; ++w) best = larger(best, scratch[w]);
        const bool nan = u32(best >> 32) == ~0u;
        if (nan) raise(a.fault, 1);
        a.ids[blockIdx.x] = nan ? -1 : int(~u32(best));
    }
}
