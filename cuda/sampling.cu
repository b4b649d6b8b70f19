// repetition_penalty, temperature, top_k, top_p, min_p: the steps before a draw, in place
//
// Formula   Keskar et al. 2019; Fan et al. 2018; Holtzman et al. 2020; Nguyen et al. 2024
// Shapes    logits [count] f32; seen [count / 32, rounded up] bits; removed logits become -inf
// Requires  sm_80
// Launch    one block of 1024 threads; top_k and top_p find their threshold by a radix search over
//           the bits of the logits, eight at a time, so no sort and no limit on the vocabulary
// Numerics  f32; top_p sums integers floor(exp(l - max) 2^32), so the order of summation cannot
//           change the result; of equal logits the lower id stays
// Cost      the logits a few times, from cache
// Host      engine/src/ops/sampling.rs and a file an op
// Cases     specs/ops/{repetition_penalty,temperature,top_k,top_p,min_p}.yaml
#include "common.cuh"

struct SamplingArgs {
    float* logits;
    const u32* seen;
    u32* fault;
    int count;
    float value;
    int k;
};

extern "C" __global__ void sampling_repetition_penalty(const SamplingArgs a) {
    wait_for_previous();
    for (int i = threadIdx.x; i < a.count; i += blockDim.x) {
        const float l = a.logits[i];
        if (isnan(l)) raise(a.fault, 1);
        if (a.seen[i / 32] >> (i % 32) & 1) {
            a.logits[i] = l > 0.0f ? l / a.value : l * a.value;
        }
    }
}

extern "C" __global__ void sampling_temperature(const SamplingArgs a) {
    wait_for_previous();
    for (int i = threadIdx.x; i < a.count; i += blockDim.x) {
        if (isnan(a.logits[i])) raise(a.fault, 1);
        a.logits[i] /= a.value;
    }
}

// The largest logit, in every thread; a NaN raises the fault.
__device__ float largest(const SamplingArgs& a, float* scratch) {
    float top = -infinity();
    for (int i = threadIdx.x; i < a.count; i += blockDim.x) top = max_nan(top, a.logits[i]);
    top = block_reduce<Max>(top, scratch);
    if (isnan(top) && threadIdx.x == 0) raise(a.fault, 1);
    return top;
}

extern "C" __global__ void sampling_min_p(const SamplingArgs a) {
    __shared__ float scratch[32];
    wait_for_previous();
    const float top = largest(a, scratch);
    if (isnan(top) || a.value == 0.0f) return;
    const float floor = top + logf(a.value);
    __syncthreads();
    for (int i = threadIdx.x; i < a.count; i += blockDim.x) {
        if (a.logits[i] < floor) a.logits[i] = -infinity();
    }
}

// Bits whose unsigned order is the order of the numbers; minus zero equals zero.
__device__ __forceinline__ u32 ordered(float x) {
    const u32 bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Keeps the largest logits until their weights reach `target`: the logits above a threshold, and
// the first few that equal it. WEIGHT is one (top_k) or the integer share of a logit (top_p).
template <typename Weight>
__device__ void keep_until(const SamplingArgs& a, u64 target, Weight weight) {
    __shared__ u64 bins[256], passed;
    __shared__ u32 prefix, stays[33];
    if (threadIdx.x == 0) passed = prefix = 0;
    // Eight bits of the threshold at a time, from the top.
    for (int shift = 24; shift >= 0; shift -= 8) {
        if (threadIdx.x < 256) bins[threadIdx.x] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < a.count; i += blockDim.x) {
            const u32 key = ordered(a.logits[i]);
            if (shift == 24 || key >> (shift + 8) == prefix) {
                atomicAdd(&bins[key >> shift & 255], weight(a.logits[i]));
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int bin = 255;
            while (bin > 0 && passed + bins[bin] < target) passed += bins[bin--];
            prefix = prefix << 8 | u32(bin);
        }
        __syncthreads();
    }
    // How many of those that equal the threshold stay, the lower ids first.
    const u32 threshold = prefix;
    const u32 back = threshold & 0x80000000u ? threshold & 0x7fffffffu : ~threshold;
    const u64 each = weight(__uint_as_float(back));
    const u64 left = target > passed ? target - passed : 0;
    const u64 quota = each == 0 ? ~0ull : max(u64(1), (left + each - 1) / each);
    u64 before = 0;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int base = 0; base < a.count; base += blockDim.x) {
        const int i = base + threadIdx.x;
        const u32 key = i < a.count ? ordered(a.logits[i]) : 0;
        const bool equal = i < a.count && key == threshold;
        const u32 votes = __ballot_sync(~0u, equal);
        __syncthreads();
        if (lane == 0) stays[warp] = __popc(votes);
        __syncthreads();
        u64 rank = before + __popc(votes & ((1u << lane) - 1));
        for (int w = 0; w < warp; ++w) rank += stays[w];
        if (i < a.count && (key < threshold || (equal && rank >= quota))) {
            a.logits[i] = -infinity();
        }
        for (int w = 0; w < blockDim.x / 32; ++w) before += stays[w];
    }
}

extern "C" __global__ void sampling_top_k(const SamplingArgs a) {
    __shared__ float scratch[32];
    wait_for_previous();
    const float top = largest(a, scratch);
    if (isnan(top) || a.k == 0 || a.k >= a.count) return;
    __syncthreads();
    keep_until(a, u64(a.k), [](float) { return 1ull; });
}

extern "C" __global__ void sampling_top_p(const SamplingArgs a) {
    __shared__ float scratch[32];
    __shared__ u64 total;
    wait_for_previous();
    const float top = largest(a, scratch);
    if (isnan(top) || a.value >= 1.0f || top == -infinity()) return;
    const auto share = [top](float l) { return u64(exp(double(l) - double(top)) * 4294967296.0); };
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    u64 sum = 0;
    for (int i = threadIdx.x; i < a.count; i += blockDim.x) sum += share(a.logits[i]);
    atomicAdd(&total, sum);
    __syncthreads();
    // At least the first stays, also for p = 0.
    keep_until(a, max(u64(1), u64(ceil(double(a.value) * double(total)))), share);
}
