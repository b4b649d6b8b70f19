// rmsnorm: y = x / sqrt(mean(x^2) + eps) * gamma, over the last axis
//
// Formula   Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", eq. 4
// Shapes    x, y [n, h]; gamma [h] f32
// Requires  sm_80
// Launch    as layernorm
// Numerics  f32; gamma multiplied in f32, one rounding at the store
// Cost      n h (sizeof x + sizeof y) bytes, 4 operations an element
// Host      engine/src/ops/rmsnorm.rs
// Cases     specs/ops/rmsnorm.yaml
#include "norms.cuh"

NORM_TYPES(rmsnorm, Norm::Rms)
