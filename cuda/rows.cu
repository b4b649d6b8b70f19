// rows: y[i] = x[rows[i]]
//
// Formula   a gather of rows
// Shapes    x [n, h]; rows [m]; y [m, h]; bytes = h sizeof x
// Requires  sm_80
// Launch    a block a row, two bytes a thread at a time
// Numerics  exact copy; a row out of range raises the fault and nothing is read or written
// Cost      2 bytes m
// Host      engine/src/ops/rows.rs
// Cases     specs/ops/rows.yaml
#include "common.cuh"

struct RowsArgs {
    const void* x;
    const int* rows;
    void* y;
    u32* fault;
    int bytes;
    int n;
};

extern "C" __global__ void rows_bytes(const RowsArgs a) {
    wait_for_previous();
    let_next_start();
    const int row = a.rows[blockIdx.x];
    if (row < 0 || row >= a.n) {
        if (threadIdx.x == 0) raise(a.fault, 1);
        return;
    }
    const u8* x = static_cast<const u8*>(a.x) + i64(row) * a.bytes;
    u8* y = static_cast<u8*>(a.y) + i64(blockIdx.x) * a.bytes;
    if (a.bytes % 16 == 0) {
        for (int i = threadIdx.x * 16; i < a.bytes; i += blockDim.x * 16) {
            store16(y + i, load16(x + i));
        }
    } else {
        for (int i = threadIdx.x * 2; i < a.bytes; i += blockDim.x * 2) {
            *reinterpret_cast<u16*>(y + i) = *reinterpret_cast<const u16*>(x + i);
        }
    }
}
