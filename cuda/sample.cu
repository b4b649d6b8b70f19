// sample: id = the first whose running share exceeds a uniform draw
//
// Formula   Salmon et al. 2011, Philox4x32-10: key the seed, counter the index; 24 bits to a number
//           in [0, 1); shares by id
// Shapes    logits [count] f32; seed, index one 64-bit word; id [1]
// Requires  sm_80
// Launch    one block of 1024 threads, each a run of neighbouring ids
// Numerics  integers floor(exp(l - max) 2^32) summed in 64 bits, so the order of summation cannot
//           change the id; exp in f64; a NaN raises the fault
// Cost      the logits twice, the second time from cache
// Host      engine/src/ops/sample.rs
// Cases     specs/ops/sample.yaml
#include "common.cuh"

struct SampleArgs {
    const float* logits;
    const u64* seed;
    const u64* index;
    int* id;
    u32* fault;
    int count;
};

__device__ u32 philox_first(u64 index, u64 seed) {
    u32 c[4] = {u32(index), u32(index >> 32), 0, 0}, k[2] = {u32(seed), u32(seed >> 32)};
    for (int round = 0; round < 10; ++round) {
        const u64 a = u64(c[0]) * 0xD2511F53u, b = u64(c[2]) * 0xCD9E8D57u;
        const u32 n0 = u32(b >> 32) ^ c[1] ^ k[0], n2 = u32(a >> 32) ^ c[3] ^ k[1];
        c[1] = u32(b);
        c[3] = u32(a);
        c[0] = n0;
        c[2] = n2;
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return c[0];
}

extern "C" __global__ void sample_f32(const SampleArgs a) {
    __shared__ float scratch[32];
    __shared__ u64 sums[1024];
    wait_for_previous();
    float top = -infinity();
    for (int i = threadIdx.x; i < a.count; i += blockDim.x) top = max_nan(top, a.logits[i]);
    top = block_reduce<Max>(top, scratch);
    if (isnan(top) || top == -infinity()) {
        if (threadIdx.x == 0) {
            raise(a.fault, 1);
            *a.id = -1;
        }
        return;
    }
    const auto share = [top](float l) { return u64(exp(double(l) - double(top)) * 4294967296.0); };
    const int run = (a.count + blockDim.x - 1) / blockDim.x;
    const int first = min(a.count, int(threadIdx.x) * run), last = min(a.count, first + run);
    u64 sum = 0;
    for (int i = first; i < last; ++i) sum += share(a.logits[i]);
    sums[threadIdx.x] = sum;
    __syncthreads();
    u64 before = 0, total = 0;
    for (int t = 0; t < blockDim.x; ++t) {
        if (t < threadIdx.x) before += sums[t];
        total += sums[t];
    }
    // u * total with u = r / 2^24, in 128 bits, rounded down: a sum exceeds it exactly if it is
    // larger than this.
    const u64 r = philox_first(*a.index, *a.seed) >> 8;
    const u64 aim = __umul64hi(r, total) << 40 | (r * total) >> 24;
    if (before <= aim && before + sum > aim) {
        for (int i = first; i < last; ++i) {
            before += share(a.logits[i]);
            if (before > aim) {
                *a.id = i;
                break;
            }
        }
    }
}
