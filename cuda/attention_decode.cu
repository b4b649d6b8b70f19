// attention_decode: append k_new, v_new at their positions, then attend, one query a sequence
//
// Formula   as attention_prefill of one row, after kv_append
// Shapes    q, y [n, q, d]; k_new, v_new [n, k, d]; caches [s, c, k, d]; sequences, positions [n];
//           partial [n, splits, q, d + 2] f32
// Requires  sm_80
// Launch    _partial: a block a row, group of heads and split of 64 keys, blocks take splits until
//           there are none, so the grid does not depend on the context; _combine: a block a row
//           and head. What a row does depends on its own sequence alone
// Numerics  scores, p and sums f32; splits are added in order; a sink is added once, in _combine;
//           IEEE division; one rounding
// Cost      the seen part of both caches once
// Host      engine/src/ops/attention_decode.rs
// Cases     specs/ops/attention_decode.yaml
#include "attention.cuh"

struct AttentionDecodeArgs {
    const void* q;
    const void* k_new;
    const void* v_new;
    void* k_cache;
    void* v_cache;
    const float* sinks;
    const int* sequences;
    const int* positions;
    const int* position;
    float* partial;
    void* y;
    u32* fault;
    int heads;
    int kv_heads;
    int d;
    int c;
    int n;
    int caches;
    int splits;
    int window;
    int ring;
    float scale;
};

constexpr int DIMS = 8;

// Where a row of the call stands; not ok: a fault was raised, and nothing is stored.
struct Row {
    int sequence, position;
    bool ok;
};
__device__ __forceinline__ Row row_of(const AttentionDecodeArgs& a, int row, bool speaks) {
    Row r = {a.sequences ? a.sequences[row] : 0, 0, true};
    r.position = a.positions ? a.positions[row] : *a.position;
    u32 fault = 0;
    if (r.position < 0 || (!a.ring && r.position >= a.c)) fault = 1;
    if (r.sequence < 0 || r.sequence >= a.caches) fault = 2;
    for (int i = 0; i < row; ++i) {
        if ((a.sequences ? a.sequences[i] : 0) == r.sequence) fault = 2;
    }
    if (a.ring && r.position >= a.c && (a.window == 0 || a.window > a.c)) fault = 3;
    r.ok = fault == 0;
    if (!r.ok && speaks) raise(a.fault, fault);
    return r;
}

// The keys and values of one split into shared memory, rows that are not seen as zeros: sixteen
// bytes at a time where a head is whole vectors. The new row comes from the call, and this block,
// which alone owns its split, writes it to the cache.
template <typename D, typename C>
__device__ __forceinline__ void load_split(const AttentionDecodeArgs& a, const Row& r,
                                           const Seen& s, int row, int kv, int split, C* ks,
                                           C* vs) {
    constexpr int WIDE = 16 / sizeof(C);
    const i64 pitch = i64(a.kv_heads) * a.d;
    C* k = static_cast<C*>(a.k_cache) + kv * a.d;
    C* v = static_cast<C*>(a.v_cache) + kv * a.d;
    const int wide = a.d % WIDE == 0 ? WIDE : 1, per = a.d / wide;
#pragma unroll 4
    for (int i = threadIdx.x; i < SPLIT * per; i += blockDim.x) {
        const int t = i / per, x = i % per * wide, j = split * SPLIT + t;
        const bool read = j >= s.first && j <= s.last && j != r.position;
        const i64 at = read ? cache_row(r.sequence, j, a.c, a.ring) * pitch + x : 0;
        C *key = ks + t * (a.d + 2) + x, *value = vs + t * (a.d + 2) + x;
        if (wide == 1) {
            *key = read ? k[at] : narrow<C>(0.0f);
            *value = read ? v[at] : narrow<C>(0.0f);
            continue;
        }
        const uint4 zero = {0, 0, 0, 0};
        const uint4 ku = read ? *reinterpret_cast<const uint4*>(k + at) : zero;
        const uint4 vu = read ? *reinterpret_cast<const uint4*>(v + at) : zero;
        // A row of shared memory is two elements longer, so it begins at a word, not at a vector.
        u32 *kw = reinterpret_cast<u32*>(key), *vw = reinterpret_cast<u32*>(value);
        kw[0] = ku.x, kw[1] = ku.y, kw[2] = ku.z, kw[3] = ku.w;
        vw[0] = vu.x, vw[1] = vu.y, vw[2] = vu.z, vw[3] = vu.w;
    }
    const int t = r.position - split * SPLIT;
    if (t < 0 || t >= SPLIT) return;
    __syncthreads();
    const i64 at = cache_row(r.sequence, r.position, a.c, a.ring) * pitch;
    for (int x = threadIdx.x; x < a.d; x += blockDim.x) {
        const i64 from = row * pitch + kv * a.d + x;
        const C key = narrow<C>(widen(static_cast<const D*>(a.k_new)[from]));
        const C value = narrow<C>(widen(static_cast<const D*>(a.v_new)[from]));
        ks[t * (a.d + 2) + x] = k[at + x] = key;
        vs[t * (a.d + 2) + x] = v[at + x] = value;
    }
}

template <typename D, typename C> __device__ void partial(const AttentionDecodeArgs& a) {
    extern __shared__ float shared[];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    const int kv = blockIdx.y, group = a.heads / a.kv_heads;
    float* q = shared;  // [group, d]
    C* ks = reinterpret_cast<C*>(q + group * a.d);  // [SPLIT, d + 2]
    C* vs = ks + SPLIT * (a.d + 2);
    wait_for_previous();
    let_next_start();
    const int row = blockIdx.z;
    const Row r = row_of(a, row, threadIdx.x == 0);
    if (!r.ok) return;
    for (int i = threadIdx.x; i < group * a.d; i += blockDim.x) {
        q[i] = widen(static_cast<const D*>(a.q)[(i64(row) * a.heads + kv * group) * a.d + i]);
    }
    const Seen s = seen(r.position, a.window);
    const int first = s.first / SPLIT, last = s.last / SPLIT;
    for (int split = first + blockIdx.x; split <= last; split += gridDim.x) {
        __syncthreads();
        load_split<D, C>(a, r, s, row, kv, split, ks, vs);
        __syncthreads();
        for (int h = warp; h < group; h += warps) {
            float score[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int t = lane + 32 * e, j = split * SPLIT + t;
                float dot = 0.0f;
#pragma unroll 8
                for (int i = 0; i < a.d; ++i) {
                    dot = fmaf(q[h * a.d + i], widen(ks[t * (a.d + 2) + i]), dot);
                }
                score[e] = j >= s.first && j <= s.last ? dot * a.scale : -infinity();
            }
            const float top = warp_reduce<Max>(max_nan(score[0], score[1]));
            float p[2], y[DIMS] = {};
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                p[e] = score[e] == -infinity() ? 0.0f : exp_below(score[e] - top);
            }
            const float sum = warp_reduce<Sum>(p[0] + p[1]);
            const int from = max(0, s.first - split * SPLIT);
            const int upto = min(SPLIT - 1, s.last - split * SPLIT);
#pragma unroll 4
            for (int t = from; t <= upto; ++t) {
                const float weight = __shfl_sync(~0u, t < 32 ? p[0] : p[1], t & 31);
#pragma unroll
                for (int i = 0; i < DIMS; ++i) {
                    const int x = lane + 32 * i;
                    if (x < a.d) y[i] = fmaf(weight, widen(vs[t * (a.d + 2) + x]), y[i]);
                }
            }
            const i64 part = i64(row) * a.splits + split - first;
            float* to = a.partial + (part * a.heads + kv * group + h) * (a.d + 2);
#pragma unroll
            for (int i = 0; i < DIMS; ++i) {
                const int x = lane + 32 * i;
                if (x < a.d) to[x] = y[i];
            }
            if (lane == 0) {
                to[a.d] = top;
                to[a.d + 1] = sum;
            }
        }
    }
}

// Splits in order, then the sink, then one division.
template <typename D> __device__ void combine(const AttentionDecodeArgs& a) {
    wait_for_previous();
    let_next_start();
    const int head = blockIdx.x, row = blockIdx.y;
    const Row r = row_of(a, row, false);
    if (!r.ok) return;
    const Seen s = seen(r.position, a.window);
    const int splits = s.last / SPLIT - s.first / SPLIT + 1;
    const float* part = a.partial + (i64(row) * a.splits * a.heads + head) * (a.d + 2);
    const i64 step = i64(a.heads) * (a.d + 2);
    float top = a.sinks ? a.sinks[head] : -infinity();
    for (int i = 0; i < splits; ++i) top = max_nan(top, part[i * step + a.d]);
    for (int x = threadIdx.x; x < a.d; x += blockDim.x) {
        float y = 0.0f, sum = 0.0f;
        for (int i = 0; i < splits; ++i) {
            const float fade = exp_below(part[i * step + a.d] - top);
            y = fmaf(part[i * step + x], fade, y);
            sum = fmaf(part[i * step + a.d + 1], fade, sum);
        }
        if (a.sinks) sum += exp_below(a.sinks[head] - top);
        static_cast<D*>(a.y)[(i64(row) * a.heads + head) * a.d + x] = narrow<D>(y / sum);
    }
}

#define PARTIAL(D, C)                                                                            \
    extern "C" __global__ void attention_decode_partial_##D##_##C(const AttentionDecodeArgs a) { \
        partial<D, C>(a);                                                                        \
    }
#define COMBINE(D)                                                                               \
    extern "C" __global__ void attention_decode_combine_##D(const AttentionDecodeArgs a) {       \
        combine<D>(a);                                                                           \
    }
PARTIAL(f32, f32)
PARTIAL(f32, f16)
PARTIAL(f32, bf16)
PARTIAL(f16, f32)
PARTIAL(f16, f16)
PARTIAL(f16, bf16)
PARTIAL(bf16, f32)
PARTIAL(bf16, f16)
PARTIAL(bf16, bf16)
COMBINE(f32)
COMBINE(f16)
COMBINE(bf16)
