// limits: what this card can do at most: copy, read, tensor products, a launch in a graph
//
// Formula   none; the yardsticks of a bench
// Shapes    from, to: `bytes` bytes; sink [1]
// Requires  sm_80
// Launch    _copy, _read: 1056 blocks of 512, 16-byte loads, four in flight a thread; _mma: eight
//           independent chains of m16n8k16 a warp, `bytes` rounds; _empty: nothing
// Numerics  none
// Cost      2 bytes, bytes; 8 * 4096 operations a warp and round
// Host      engine/src/exec/bench.rs
// Cases     none: `goldgate bench` prints them
#include "common.cuh"

struct LimitsArgs {
    const void* from;
    void* to;
    i64 bytes;
};

extern "C" __global__ void limits_copy(const LimitsArgs a) {
    const uint4* from = static_cast<const uint4*>(a.from);
    uint4* to = static_cast<uint4*>(a.to);
    const i64 count = a.bytes / 16, step = i64(gridDim.x) * blockDim.x;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += 4 * step) {
        uint4 v[4];
#pragma unroll
        for (int u = 0; u < 4; ++u) if (i + u * step < count) v[u] = from[i + u * step];
#pragma unroll
        for (int u = 0; u < 4; ++u) if (i + u * step < count) to[i + u * step] = v[u];
    }
}

extern "C" __global__ void limits_read(const LimitsArgs a) {
    const uint4* from = static_cast<const uint4*>(a.from);
    const i64 count = a.bytes / 16, step = i64(gridDim.x) * blockDim.x;
    u32 sum = 0;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += 4 * step) {
        uint4 v[4] = {};
#pragma unroll
        for (int u = 0; u < 4; ++u) if (i + u * step < count) v[u] = from[i + u * step];
#pragma unroll
        for (int u = 0; u < 4; ++u) sum ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
    }
    if (sum == 0x9e3779b9u) *static_cast<u32*>(a.to) = sum;  // never, but the compiler cannot know
}

extern "C" __global__ void limits_mma(const LimitsArgs a) {
    float c[8][4] = {};
    u32 x[4], w[2];
    for (int i = 0; i < 4; ++i) x[i] = threadIdx.x * 0x00010003u + i;
    for (int i = 0; i < 2; ++i) w[i] = threadIdx.x * 0x00030001u + i;
    for (i64 round = 0; round < a.bytes; ++round) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                         "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                         : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
                         : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(w[0]), "r"(w[1]));
        }
    }
    float sum = 0.0f;
    for (int j = 0; j < 8; ++j) sum += c[j][0] + c[j][1] + c[j][2] + c[j][3];
    if (sum == 12345.0f) *static_cast<float*>(a.to) = sum;
}

extern "C" __global__ void limits_empty(const LimitsArgs a) {}
