// dequantize: y = the numbers that stored blocks mean
//
// Formula   GGUF block layouts; OCP Microscaling 1.0 for mxfp4
// Shapes    w [r, columns] of the stored type W (a define); y [r, columns] f32
// Requires  sm_80
// Launch    a block a row and 1024 columns
// Numerics  the nearest f32: exact but for the one rounding of q4_k, q5_k and q6_k; subnormals
//           kept;
//           scale byte 255 is NaN
// Cost      w and y once
// Host      engine/src/ops/dequantize.rs
// Cases     specs/ops/dequantize.yaml
#include "blocks.cuh"

struct DequantizeArgs {
    const void* w;
    float* y;
    int columns;
};

extern "C" __global__ void dequantize_f32(const DequantizeArgs a) {
    wait_for_previous();
    let_next_start();
    const u8* row = static_cast<const u8*>(a.w) + blockIdx.x * row_bytes<W>(a.columns);
    float* y = a.y + i64(blockIdx.x) * a.columns;
    const int first = blockIdx.y * blockDim.x * 4 + threadIdx.x;
#pragma unroll
    for (int u = 0; u < 4; ++u) {
        const int i = first + u * blockDim.x;
        if (i < a.columns) y[i] = Reader<W>::value(row, i);
    }
}
