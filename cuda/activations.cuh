// The activations of feed-forward blocks, in f32.
#pragma once
#include "common.cuh"

// x * Phi(x); erfc of -x / sqrt 2, so the negative side does not cancel.
__device__ __forceinline__ float gelu_erf(float x) {
    return 0.5f * x * erfcf(x * -0.70710678118654752f);
}

// GPT-2's form of it by tanh, as x / (1 + exp(-2u)).
__device__ __forceinline__ float gelu_tanh(float x) {
    const float u = 0.79788456080286536f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * u));
}

// silu(gate) * up, silu(g) = g / (1 + exp(-g)).
__device__ __forceinline__ float silu_times(float gate, float up) {
    return gate / (1.0f + expf(-gate)) * up;
}
