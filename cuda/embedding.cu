// embedding: y[i] = table[ids[i]]
//
// Formula   a gather of rows
// Shapes    ids [n]; table [v, h] of the stored type W (a define); y [n, h]
// Requires  sm_80
// Launch    a block a token
// Numerics  exact but for one f32 rounding in q4_k and q5_k (and one to a 16-bit result); an id
//           out of range raises the fault and nothing is read or written
// Cost      a row read, a row written
// Host      engine/src/ops/embedding.rs
// Cases     specs/ops/embedding.yaml
#include "blocks.cuh"

struct EmbeddingArgs {
    const int* ids;
    const void* table;
    void* y;
    u32* fault;
    int hidden;
    int vocabulary;
};

template <typename Y> __device__ void embedding(const EmbeddingArgs& a) {
    wait_for_previous();
    let_next_start();
    const int id = a.ids[blockIdx.x];
    if (id < 0 || id >= a.vocabulary) {
        if (threadIdx.x == 0) raise(a.fault, 1);
        return;
    }
    const u8* row = static_cast<const u8*>(a.table) + id * row_bytes<W>(a.hidden);
    Y* y = static_cast<Y*>(a.y) + i64(blockIdx.x) * a.hidden;
    for (int i = threadIdx.x; i < a.hidden; i += blockDim.x) {
        y[i] = narrow<Y>(Reader<W>::value(row, i));
    }
}

extern "C" __global__ void embedding_f32(const EmbeddingArgs a) { embedding<f32>(a); }
extern "C" __global__ void embedding_f16(const EmbeddingArgs a) { embedding<f16>(a); }
extern "C" __global__ void embedding_bf16(const EmbeddingArgs a) { embedding<bf16>(a); }
