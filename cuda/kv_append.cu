// kv_append: k_cache[position(i)] = k[i], v_cache[position(i)] = v[i]
//
// Formula   position = positions[i], else start + the count of earlier rows of the same sequence;
//           mod c in a ring
// Shapes    k, v [n, k, d]; caches [s, c, k, d]; sequences, positions [n]; row = k d
// Requires  sm_80
// Launch    a block a token
// Numerics  one rounding from D to C; of rows that fall on one place in a ring the last stays
// Cost      k and v read and written once
// Host      engine/src/ops/kv_append.rs
// Cases     specs/ops/kv_append.yaml
#include "attention.cuh"

struct KvAppendArgs {
    const void* k;
    const void* v;
    void* k_cache;
    void* v_cache;
    const int* sequences;
    const int* positions;
    const int* start;
    u32* fault;
    int n;
    int row;
    int c;
    int caches;
    int ring;
};

template <typename D, typename C> __device__ void append(const KvAppendArgs& a) {
    wait_for_previous();
    let_next_start();
    const int token = blockIdx.x;
    const int sequence = a.sequences ? a.sequences[token] : 0;
    if (sequence < 0 || sequence >= a.caches) {
        if (threadIdx.x == 0) raise(a.fault, 1);
        return;
    }
    const int position = place(a.sequences, a.positions, a.start, token);
    if (position < 0 || (!a.ring && position >= a.c)) {
        if (threadIdx.x == 0) raise(a.fault, a.positions ? 3 : 2);
        return;
    }
    // A later row of this call may take the place; the last one stays.
    if (a.positions) {
        for (int i = token + 1; i < a.n; ++i) {
            const bool same = !a.sequences || a.sequences[i] == sequence;
            if (same && (a.positions[i] - position) % a.c == 0) return;
        }
    } else if (a.ring) {
        int later = a.n - 1 - token;
        if (a.sequences) {
            later = 0;
            for (int i = token + 1; i < a.n; ++i) later += a.sequences[i] == sequence;
        }
        if (later >= a.c) return;
    }
    const i64 to = cache_row(sequence, position, a.c, a.ring) * a.row, from = i64(token) * a.row;
    for (int i = threadIdx.x; i < a.row; i += blockDim.x) {
        static_cast<C*>(a.k_cache)[to + i] = narrow<C>(widen(static_cast<const D*>(a.k)[from + i]));
        static_cast<C*>(a.v_cache)[to + i] = narrow<C>(widen(static_cast<const D*>(a.v)[from + i]));
    }
}

#define APPEND(D, C)                                                                             \
    extern "C" __global__ void kv_append_##D##_##C(const KvAppendArgs a) { append<D, C>(a); }
APPEND(f32, f32)
APPEND(f32, f16)
APPEND(f32, bf16)
APPEND(f16, f32)
APPEND(f16, f16)
APPEND(f16, bf16)
APPEND(bf16, f32)
APPEND(bf16, f16)
APPEND(bf16, bf16)
