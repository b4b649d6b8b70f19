// attention_prefill: y = softmax(scale q k^T, causal, windowed, with sinks) v
//
// Formula   Vaswani et al. 2017, eq. 1; grouped heads: Ainslie et al. 2023; sinks: openai/gpt-oss
// Shapes    q, y [n, q, d]; k, v [s, c, k, d]; sinks [q] f32; sequences, positions [n]; a query
//           at position p sees keys j with p - window < j <= p
// Requires  sm_80
// Launch    _simt: a warp a query and head. _mma: 4 warps, 64 queries of a head, keys 64 at a time
// Numerics  scores, maxima and sums f32, exponentials by ex2.approx (2 ulp); _simt keeps p in f32;
//           _mma rounds p to D (keeps p) and has tensor accumulators; a sink is one more term with
//           v = 0, added at the end, once; IEEE division; one rounding; keys not seen are not read
//           (_mma: read as zeros)
// Cost      q, y once, k and v once a head; 4 n c q d / 2 operations
// Host      engine/src/ops/attention_prefill.rs
// Cases     specs/ops/attention_prefill.yaml
#include "attention.cuh"

struct AttentionPrefillArgs {
    const void* q;
    const void* k;
    const void* v;
    const float* sinks;
    const int* sequences;
    const int* positions;
    const int* start;
    void* y;
    u32* fault;
    int n;
    int heads;
    int kv_heads;
    int d;
    int c;
    int caches;
    int window;
    int ring;
    float scale;
};

// Head sizes up to DIMS * 32, a lane every 32nd of them.
constexpr int DIMS = 8;

template <typename D, typename C> __device__ void prefill_simt(const AttentionPrefillArgs& a) {
    extern __shared__ float shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = blockIdx.x, head = blockIdx.y * (blockDim.x / 32) + warp;
    wait_for_previous();
    if (head >= a.heads) return;
    const int sequence = a.sequences ? a.sequences[row] : 0;
    if (sequence < 0 || sequence >= a.caches) {
        if (lane == 0) raise(a.fault, 1);
        return;
    }
    const int position = place(a.sequences, a.positions, a.start, row);
    if (position < 0 || (!a.ring && position >= a.c)) {
        if (lane == 0) raise(a.fault, a.positions ? 3 : 2);
        return;
    }
    const int kv = head / (a.heads / a.kv_heads);
    const i64 pitch = i64(a.kv_heads) * a.d;
    const C* k = static_cast<const C*>(a.k) + kv * a.d;
    const C* v = static_cast<const C*>(a.v) + kv * a.d;
    float* q = shared + warp * a.d;
    const i64 at = (i64(row) * a.heads + head) * a.d;
    for (int i = lane; i < a.d; i += 32) q[i] = widen(static_cast<const D*>(a.q)[at + i]);
    __syncwarp();

    float top = -infinity(), sum = 0.0f, y[DIMS] = {};
    const Seen s = seen(position, a.window);
    for (int tile = s.first / SPLIT * SPLIT; tile <= s.last; tile += SPLIT) {
        float score[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int j = tile + lane + 32 * h;
            score[h] = -infinity();
            if (j < s.first || j > s.last) continue;
            const C* key = k + cache_row(sequence, j, a.c, a.ring) * pitch;
            float dot = 0.0f;
            for (int i = 0; i < a.d; ++i) dot = fmaf(q[i], widen(key[i]), dot);
            score[h] = dot * a.scale;
        }
        const float higher = max_nan(top, warp_reduce<Max>(max_nan(score[0], score[1])));
        const float fade = top == -infinity() ? 0.0f : exp_below(top - higher);
        float p[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            p[h] = score[h] == -infinity() ? 0.0f : exp_below(score[h] - higher);
        }
        sum = sum * fade + warp_reduce<Sum>(p[0] + p[1]);
#pragma unroll
        for (int i = 0; i < DIMS; ++i) y[i] *= fade;
        for (int t = 0; t < SPLIT; ++t) {
            const int j = tile + t;
            const float weight = __shfl_sync(~0u, t < 32 ? p[0] : p[1], t & 31);
            if (j < s.first || j > s.last) continue;
            const C* value = v + cache_row(sequence, j, a.c, a.ring) * pitch;
#pragma unroll
            for (int i = 0; i < DIMS; ++i) {
                const int x = lane + 32 * i;
                if (x < a.d) y[i] = fmaf(weight, widen(value[x]), y[i]);
            }
        }
        top = higher;
    }
    let_next_start();
    if (a.sinks) {
        const float higher = max_nan(top, a.sinks[head]);
        const float fade = exp_below(top - higher);
        sum = sum * fade + exp_below(a.sinks[head] - higher);
#pragma unroll
        for (int i = 0; i < DIMS; ++i) y[i] *= fade;
    }
#pragma unroll
    for (int i = 0; i < DIMS; ++i) {
        const int x = lane + 32 * i;
        if (x < a.d) static_cast<D*>(a.y)[at + x] = narrow<D>(y[i] / sum);
    }
}

template <typename D>
__device__ __forceinline__ void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1);
template <>
__device__ __forceinline__ void mma<f16>(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void mma<bf16>(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void matrices(u32 (&f)[4], const void* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"(u32(__cvta_generic_to_shared(at))));
}
__device__ __forceinline__ void matrices_transposed(u32 (&f)[4], const void* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"(u32(__cvta_generic_to_shared(at))));
}
template <typename D> __device__ __forceinline__ u32 pair(float low, float high) {
    return u32(narrow<D>(low).bits) | u32(narrow<D>(high).bits) << 16;
}
__device__ __forceinline__ void copy16(void* to, const void* from, bool there) {
    // Sixteen bytes to shared memory in the background; zeros where there is nothing to read.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(u32(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 16 : 0));
}

// 64 queries of one head; H is the head size, a multiple of 16. One sequence.
template <typename D, int H> __device__ void prefill_mma(const AttentionPrefillArgs& a) {
    constexpr int PITCH = H + 8, DIM = H / 8, STEP = H / 16;
    extern __shared__ float shared[];
    D* ks = reinterpret_cast<D*>(shared);
    D* vs = ks + 2 * SPLIT * PITCH;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int head = blockIdx.y, kv = head / (a.heads / a.kv_heads);
    // The longest rows first, so that the last blocks are short.
    const int row0 = (gridDim.x - 1 - blockIdx.x) * 64;
    const i64 pitch = i64(a.kv_heads) * H;
    const D* k = static_cast<const D*>(a.k) + kv * H;
    const D* v = static_cast<const D*>(a.v) + kv * H;
    wait_for_previous();
    const int start = *a.start;
    const int last_row = min(a.n, row0 + 64) - 1;
    if (!a.ring && start + last_row >= a.c) {
        if (threadIdx.x == 0) raise(a.fault, 2);
        return;
    }
    const int begin = seen(start + row0, a.window).first / SPLIT * SPLIT;
    const int end = start + last_row;
    const int oldest = seen(start + row0, a.window).first;

    // Queries as fragments of 16 rows a warp.
    u32 q[STEP][4];
    const int r0 = row0 + warp * 16 + lane / 4;
#pragma unroll
    for (int s = 0; s < STEP; ++s) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int row = r0 + e % 2 * 8, x = s * 16 + e / 2 * 8 + lane % 4 * 2;
            const D* from = static_cast<const D*>(a.q) + (i64(row) * a.heads + head) * H + x;
            q[s][e] = row < a.n ? *reinterpret_cast<const u32*>(from) : 0;
        }
    }
    const auto fetch = [&](int buffer, int tile) {
        for (int i = threadIdx.x; i < SPLIT * (H / 8); i += 128) {
            const int j = i / (H / 8), x = i % (H / 8) * 8, position = tile + j;
            const bool there = position >= oldest && position <= end;
            const i64 from = (there ? cache_row(0, position, a.c, a.ring) : 0) * pitch + x;
            const int to = (buffer * SPLIT + j) * PITCH + x;
            copy16(ks + to, k + from, there);
            copy16(vs + to, v + from, there);
        }
        asm volatile("cp.async.commit_group;");
    };

    float y[DIM][4] = {}, top[2] = {-infinity(), -infinity()}, sum[2] = {};
    const float scale = a.scale;
    fetch(0, begin);
    for (int tile = begin, buffer = 0; tile <= end; tile += SPLIT, buffer ^= 1) {
        if (tile + SPLIT <= end) fetch(buffer ^ 1, tile + SPLIT);
        else asm volatile("cp.async.commit_group;");
        asm volatile("cp.async.wait_group 1;");
        __syncthreads();

        // Scores of 16 queries and 64 keys.
        float s[8][4] = {};
#pragma unroll
        for (int step = 0; step < STEP; ++step) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                u32 f[4];
                const int key = buffer * SPLIT + 16 * j + lane % 8 + lane / 16 * 8;
                matrices(f, ks + key * PITCH + step * 16 + lane / 8 % 2 * 8);
                mma<D>(s[2 * j], q[step], f[0], f[1]);
                mma<D>(s[2 * j + 1], q[step], f[2], f[3]);
            }
        }
        // Scale, hide what is not seen, and the maximum of each of a lane's two rows.
        float higher[2] = {top[0], top[1]};
#pragma unroll
        for (int j = 0; j < 8; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int row = r0 + e / 2 * 8, key = tile + 8 * j + lane % 4 * 2 + e % 2;
                const Seen see = seen(start + row, a.window);
                const bool hidden = key < see.first || key > see.last;
                s[j][e] = hidden ? -infinity() : s[j][e] * scale;
                higher[e / 2] = max_nan(higher[e / 2], s[j][e]);
            }
        }
        float fade[2], part[2] = {};
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            higher[h] = max_nan(higher[h], __shfl_xor_sync(~0u, higher[h], 1));
            higher[h] = max_nan(higher[h], __shfl_xor_sync(~0u, higher[h], 2));
            fade[h] = top[h] == -infinity() ? 0.0f : exp_below(top[h] - higher[h]);
            top[h] = higher[h];
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const bool none = s[j][e] == -infinity();
                s[j][e] = none ? 0.0f : exp_below(s[j][e] - top[e / 2]);
                part[e / 2] += s[j][e];
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            part[h] += __shfl_xor_sync(~0u, part[h], 1);
            part[h] += __shfl_xor_sync(~0u, part[h], 2);
            sum[h] = sum[h] * fade[h] + part[h];
        }
#pragma unroll
        for (int i = 0; i < DIM; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) y[i][e] *= fade[e / 2];
        }
        // p, rounded to D, times v.
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const u32 p[4] = {pair<D>(s[2 * j][0], s[2 * j][1]), pair<D>(s[2 * j][2], s[2 * j][3]),
                              pair<D>(s[2 * j + 1][0], s[2 * j + 1][1]),
                              pair<D>(s[2 * j + 1][2], s[2 * j + 1][3])};
#pragma unroll
            for (int i = 0; i < H / 16; ++i) {
                u32 f[4];
                const int key = buffer * SPLIT + 16 * j + lane % 16;
                matrices_transposed(f, vs + key * PITCH + 16 * i + lane / 16 * 8);
                mma<D>(y[2 * i], p, f[0], f[1]);
                mma<D>(y[2 * i + 1], p, f[2], f[3]);
            }
        }
        __syncthreads();
    }
    let_next_start();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int row = r0 + 8 * h;
        if (row >= a.n) continue;
        float fade = 1.0f;
        if (a.sinks) {
            const float higher = max_nan(top[h], a.sinks[head]);
            fade = exp_below(top[h] - higher);
            sum[h] = sum[h] * fade + exp_below(a.sinks[head] - higher);
        }
        D* to = static_cast<D*>(a.y) + (i64(row) * a.heads + head) * H + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < DIM; ++i) {
            const float low = y[i][2 * h] * fade / sum[h], high = y[i][2 * h + 1] * fade / sum[h];
            *reinterpret_cast<u32*>(to + 8 * i) = pair<D>(low, high);
        }
    }
}

#define SIMT(D, C)                                                                               \
    extern "C" __global__ void attention_prefill_simt_##D##_##C(const AttentionPrefillArgs a) {  \
        prefill_simt<D, C>(a);                                                                   \
    }
#define MMA(D, H)                                                                                \
    extern "C" __global__ __launch_bounds__(128) void attention_prefill_mma_##D##_##H(           \
        const AttentionPrefillArgs a) { prefill_mma<D, H>(a); }
SIMT(f32, f32)
SIMT(f32, f16)
SIMT(f32, bf16)
SIMT(f16, f32)
SIMT(f16, f16)
SIMT(f16, bf16)
SIMT(bf16, f32)
SIMT(bf16, f16)
SIMT(bf16, bf16)
MMA(f16, 64)
MMA(f16, 80)
MMA(f16, 96)
MMA(f16, 128)
MMA(bf16, 64)
MMA(bf16, 80)
MMA(bf16, 96)
MMA(bf16, 128)
