// report: what a step leaves for the host, into page-locked memory
//
// Formula   to = (tokens, faults), word by word
// Shapes    tokens [rows], faults [steps], to [rows + steps], 32-bit words
// Requires  sm_80
// Launch    one block behind a step: a copy by the copy engine would cost two changes of engine
// Numerics  none
// Cost      a few KiB over the bus
// Host      engine/src/exec/ahead.rs
// Cases     every text that a device generates
#include "common.cuh"

struct ReportArgs {
    const u32* tokens;
    const u32* faults;
    u32* to;
    int rows;
    int steps;
};

extern "C" __global__ void report(const ReportArgs a) {
    wait_for_previous();
    for (int i = threadIdx.x; i < a.rows + a.steps; i += blockDim.x) {
        a.to[i] = i < a.rows ? a.tokens[i] : a.faults[i - a.rows];
    }
}
