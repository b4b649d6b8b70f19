// positional_extract: y = table[start .. start + count]
//
// Formula   a range of rows
// Shapes    table [p, h]; y [count, h]; row = h sizeof table, bytes = count row
// Requires  sm_80
// Launch    16 bytes a thread, two at a time where the rows are no whole vectors
// Numerics  exact copy
// Cost      2 bytes
// Host      engine/src/ops/positional_extract.rs
// Cases     specs/ops/positional_extract.yaml
#include "common.cuh"

struct PositionalExtractArgs {
    const void* table;
    const int* start;
    void* y;
    i64 row;
    i64 bytes;
};

extern "C" __global__ void positional_extract_bytes(const PositionalExtractArgs a) {
    wait_for_previous();
    let_next_start();
    const u8* from = static_cast<const u8*>(a.table) + *a.start * a.row;
    u8* to = static_cast<u8*>(a.y);
    const i64 i = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * 16;
    if (a.row % 16 == 0 && i + 16 <= a.bytes) {
        store16(to + i, load16(from + i));
        return;
    }
    for (i64 j = i; j < i + 16 && j < a.bytes; j += 2) {
        *reinterpret_cast<u16*>(to + j) = *reinterpret_cast<const u16*>(from + j);
    }
}
