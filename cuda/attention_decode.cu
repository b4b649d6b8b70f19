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

// Elements from a row of a split to the next in shared memory: whole vectors, and 64 bytes beside a
// multiple of 128, so that eight neighbouring lanes of the scores, four a key, meet no bank twice.
template <typename C> __device__ __forceinline__ int pitch_of(int d) {
    return (d * int(sizeof(C)) + 127) / 128 * (128 / sizeof(C)) + 64 / sizeof(C);
}

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
    const i64 cached = i64(a.kv_heads) * a.d;
    C* k = static_cast<C*>(a.k_cache) + kv * a.d;
    C* v = static_cast<C*>(a.v_cache) + kv * a.d;
    const int wide = a.d % WIDE == 0 ? WIDE : 1, per = a.d / wide, pitch = pitch_of<C>(a.d);
#pragma unroll 4
    for (int i = threadIdx.x; i < SPLIT * per; i += blockDim.x) {
        const int t = i / per, x = i % per * wide, j = split * SPLIT + t;
        const bool read = j >= s.first && j <= s.last && j != r.position;
        const i64 at = read ? cache_row(r.sequence, j, a.c, a.ring) * cached + x : 0;
        C *key = ks + t * pitch + x, *value = vs + t * pitch + x;
        if (wide == 1) {
            *key = read ? k[at] : narrow<C>(0.0f);
            *value = read ? v[at] : narrow<C>(0.0f);
            continue;
        }
        const uint4 zero = {0, 0, 0, 0};
        const uint4 ku = read ? *reinterpret_cast<const uint4*>(k + at) : zero;
        const uint4 vu = read ? *reinterpret_cast<const uint4*>(v + at) : zero;
        *reinterpret_cast<uint4*>(key) = ku;
        *reinterpret_cast<uint4*>(value) = vu;
    }
    const int t = r.position - split * SPLIT;
    if (t < 0 || t >= SPLIT) return;
    __syncthreads();
    const i64 at = cache_row(r.sequence, r.position, a.c, a.ring) * cached;
    for (int x = threadIdx.x; x < a.d; x += blockDim.x) {
        const i64 from = row * cached + kv * a.d + x;
        const C key = narrow<C>(widen(static_cast<const D*>(a.k_new)[from]));
        const C value = narrow<C>(widen(static_cast<const D*>(a.v_new)[from]));
        ks[t * pitch + x] = k[at + x] = key;
        vs[t * pitch + x] = v[at + x] = value;
    }
}

// p = scale * q . k of each head and key of a split, four lanes a key; -inf where it is not seen.
template <typename C>
__device__ __forceinline__ void scores(const AttentionDecodeArgs& a, const Seen& s, int split,
                                       const float* q, const C* ks, float* p) {
    constexpr int WIDE = 16 / sizeof(C), KEYS = 8;
    const int lane = threadIdx.x & 31, warps = blockDim.x >> 5, quarter = lane % 4;
    const int group = a.heads / a.kv_heads, pitch = pitch_of<C>(a.d);
    for (int i = threadIdx.x >> 5; i < group * (SPLIT / KEYS); i += warps) {
        const int h = i / (SPLIT / KEYS), t = i % (SPLIT / KEYS) * KEYS + lane / 4;
        const float* query = q + h * a.d;
        const C* key = ks + t * pitch;
        float dot = 0.0f;
        if (a.d % WIDE == 0) {
#pragma unroll 2
            for (int x = quarter * WIDE; x < a.d; x += 4 * WIDE) {
                float qs[WIDE], k[WIDE];
                load_row<float, WIDE>(query + x, qs);
                load_row<C, WIDE>(key + x, k);
#pragma unroll
                for (int e = 0; e < WIDE; ++e) dot = fmaf(qs[e], k[e], dot);
            }
        } else {
            for (int x = quarter; x < a.d; x += 4) dot = fmaf(query[x], widen(key[x]), dot);
        }
        dot += __shfl_xor_sync(~0u, dot, 1);
        dot += __shfl_xor_sync(~0u, dot, 2);
        const int j = split * SPLIT + t;
        const bool read = j >= s.first && j <= s.last;
        if (quarter == 0) p[h * SPLIT + t] = read ? dot * a.scale : -infinity();
    }
}

// p = exp(p - top) of a head's keys; what the split's top and sum are.
__device__ __forceinline__ float2 weigh(float* p) {
    const int lane = threadIdx.x & 31;
    const float score[2] = {p[lane], p[lane + 32]};
    const float top = warp_reduce<Max>(max_nan(score[0], score[1]));
    float e[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        e[i] = score[i] == -infinity() ? 0.0f : exp_below(score[i] - top);
        p[lane + 32 * i] = e[i];
    }
    return {top, warp_reduce<Sum>(e[0] + e[1])};
}

// y = p v over keys [from, upto), a lane two neighbouring elements of each 64 (one, where a head is
// odd); rows that are not seen are zeros with weight zero.
template <typename C, int PARTS>
__device__ __forceinline__ void add_values(int d, const float* p, const C* vs, int from, int upto,
                                           float* to) {
    const int lane = threadIdx.x & 31, pitch = pitch_of<C>(d);
    if (d % 2 != 0) {
        for (int x = lane; x < d; x += 32) {
            float y = 0.0f;
            for (int t = from; t < upto; ++t) y = fmaf(p[t], widen(vs[t * pitch + x]), y);
            to[x] = y;
        }
        return;
    }
    float y[PARTS][2] = {};
#pragma unroll 4
    for (int t = from; t < upto; ++t) {
        const float weight = p[t];
#pragma unroll
        for (int i = 0; i < PARTS; ++i) {
            const int x = 64 * i + 2 * lane;
            if (x >= d) break;
            float v[2];
            load_row<C, 2>(vs + t * pitch + x, v);
            y[i][0] = fmaf(weight, v[0], y[i][0]);
            y[i][1] = fmaf(weight, v[1], y[i][1]);
        }
    }
#pragma unroll
    for (int i = 0; i < PARTS; ++i) {
        const int x = 64 * i + 2 * lane;
        if (x < d) store_row<float, 2>(to + x, y[i]);
    }
}

template <typename D, typename C, int PARTS> __device__ void partial(const AttentionDecodeArgs& a) {
    extern __shared__ float shared[];
    const int warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    const int kv = blockIdx.y, group = a.heads / a.kv_heads, pitch = pitch_of<C>(a.d);
    // Few heads leave warps over: then each takes a part of a head's keys, and parts are added in
    // order.
    const int share = group >= warps ? 1 : 1 << (31 - __clz(warps / group));
    C* ks = reinterpret_cast<C*>(shared);  // [SPLIT, pitch]
    C* vs = ks + SPLIT * pitch;
    float* p = reinterpret_cast<float*>(vs + SPLIT * pitch);  // [group, SPLIT]
    float* q = p + group * SPLIT;                             // [group, d]
    float* parts = q + group * a.d;                           // [group, share, d + d % 2]
    const int even = a.d + a.d % 2;
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
        scores<C>(a, s, split, q, ks, p);
        __syncthreads();
        const i64 part = i64(row) * a.splits + split - first;
        float* to = a.partial + (part * a.heads + kv * group) * (a.d + 2);
        for (int h = warp; h < group; h += warps) {
            const float2 weights = weigh(p + h * SPLIT);
            if ((threadIdx.x & 31) == 0) {
                to[h * (a.d + 2) + a.d] = weights.x;
                to[h * (a.d + 2) + a.d + 1] = weights.y;
            }
        }
        __syncthreads();
        const int keys = SPLIT / share, seen_upto = min(SPLIT, s.last - split * SPLIT + 1);
        for (int i = warp; i < group * share; i += warps) {
            const int from = i % share * keys, upto = min(from + keys, seen_upto);
            add_values<C, PARTS>(a.d, p + i / share * SPLIT, vs, from, upto, parts + i * even);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < group * a.d; i += blockDim.x) {
            const int h = i / a.d, x = i % a.d;
            float y = parts[h * share * even + x];
            for (int k = 1; k < share; ++k) y += parts[(h * share + k) * even + x];
            to[h * (a.d + 2) + x] = y;
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

// PARTS: how many times 64 elements a head has, at most.
#define PARTIAL_OF(D, C, PARTS)                                                                  \
    extern "C" __global__ void attention_decode_partial##PARTS##_##D##_##C(                      \
        const AttentionDecodeArgs a) {                                                           \
        partial<D, C, PARTS>(a);                                                                 \
    }
#define PARTIAL(D, C)                                                                            \
    PARTIAL_OF(D, C, 1)                                                                          \
    PARTIAL_OF(D, C, 2)                                                                          \
    PARTIAL_OF(D, C, 4)
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
