// rmsnorm_residual: sum = x + residual; y = rmsnorm(sum)
//
// Formula   as rmsnorm, of the sum rounded to its stored type
// Shapes    x, residual, sum, y [n, h]; gamma [h] f32
// Requires  sm_80
// Launch    as layernorm_residual
// Numerics  as rmsnorm; the sum is rounded once to the residual's type, and y is of that
// Cost      n h (sizeof x + 2 sizeof residual + sizeof y) bytes, 5 operations an element
// Host      engine/src/ops/rmsnorm_residual.rs
// Cases     specs/ops/rmsnorm_residual.yaml
#include "norms.cuh"

NORM_RESIDUAL_TYPES(rmsnorm_residual, Norm::Rms)
