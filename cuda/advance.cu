// advance: a sampled id becomes the next call's token, at the next position
//
// Formula   token = id; position = length; length + 1; draws + 1; bit id of seen set
// Shapes    id, token, position, length, draws [1]; seen [words]
// Requires  sm_80
// Launch    one warp, of which one thread works
// Numerics  whole numbers; an id that no bit stands for raises the fault and nothing is written
// Cost      44 bytes
// Host      engine/src/ops/advance.rs
// Cases     specs/ops/advance.yaml
#include "common.cuh"

struct AdvanceArgs {
    const int* id;
    int* token;
    int* position;
    int* length;
    int* draws;
    int* seen;
    u32* fault;
    int words;
};

extern "C" __global__ void advance_i32(const AdvanceArgs a) {
    wait_for_previous();
    let_next_start();
    if (threadIdx.x != 0) return;
    const int id = *a.id;
    if (id < 0 || id / 32 >= a.words) {
        raise(a.fault, 1);
        return;
    }
    *a.token = id;
    *a.position = *a.length;
    *a.length += 1;
    *a.draws += 1;
    a.seen[id / 32] |= 1 << id % 32;
}
