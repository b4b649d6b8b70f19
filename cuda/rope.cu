// rope: rotate pairs of a head by position * inv_freq
//
// Formula   Su et al. 2021, eq. 34; half-split pairs (i, i + r/2) as NeoX, interleaved ones (2i,
//           2i + 1) as the
//           paper; frequencies scaled on the host (llama3, yarn), divided by divisors here
// Shapes    x, y [n, heads, d]; positions [n]; frequencies [r / 2] f64; divisors [r / 2] f32; r =
//           rotary
// Requires  sm_80
// Launch    blocks a token, threads over heads and pairs
// Numerics  the angle in f64, reduced to [-pi, pi]; sine and cosine f32 of the CUDA library (2
//           ulp);
//           products f32; one rounding; elements beyond r are copied
// Cost      x and y once
// Host      engine/src/ops/rope.rs
// Cases     specs/ops/rope.yaml
#include "common.cuh"

struct RopeArgs {
    const void* x;
    const int* positions;
    const double* frequencies;
    const float* divisors;
    void* y;
    u32* fault;
    int heads;
    int d;
    int rotary;
    int interleaved;
    float factor;
};

template <typename D> __device__ void rope(const RopeArgs& a) {
    constexpr double TURN = 6.283185307179586476925;
    const int half = a.rotary / 2, first_pair = blockIdx.y * blockDim.x + threadIdx.x;
    // Constants and weights, before what the launch ahead wrote.
    const auto frequency_of = [&](int i) {
        return a.divisors ? a.frequencies[i] / double(a.divisors[i]) : a.frequencies[i];
    };
    double frequency = first_pair < a.heads * half ? frequency_of(first_pair % half) : 0.0;
    wait_for_previous();
    let_next_start();
    const int position = a.positions[blockIdx.x];
    if (position < 0) {
        if (threadIdx.x == 0) raise(a.fault, 1);
        return;
    }
    const D* x = static_cast<const D*>(a.x) + i64(blockIdx.x) * a.heads * a.d;
    D* y = static_cast<D*>(a.y) + i64(blockIdx.x) * a.heads * a.d;
    for (int t = first_pair; t < a.heads * half; t += gridDim.y * blockDim.x) {
        const int head = t / half, i = t % half;
        if (t != first_pair) frequency = frequency_of(i);
        double angle = double(position) * frequency;
        angle -= TURN * rint(angle * (1.0 / TURN));
        float s, c;
        sincosf(float(angle), &s, &c);
        s *= a.factor;
        c *= a.factor;
        const int first = head * a.d + (a.interleaved ? 2 * i : i);
        const int second = first + (a.interleaved ? 1 : half);
        const float x1 = widen(x[first]), x2 = widen(x[second]);
        y[first] = narrow<D>(x1 * c - x2 * s);
        y[second] = narrow<D>(x2 * c + x1 * s);
    }
    const int rest = a.d - a.rotary;
    for (int t = first_pair; t < a.heads * rest; t += gridDim.y * blockDim.x) {
        const int at = t / rest * a.d + a.rotary + t % rest;
        y[at] = x[at];
    }
}

extern "C" __global__ void rope_f32(const RopeArgs a) { rope<f32>(a); }
extern "C" __global__ void rope_f16(const RopeArgs a) { rope<f16>(a); }
extern "C" __global__ void rope_bf16(const RopeArgs a) { rope<bf16>(a); }
