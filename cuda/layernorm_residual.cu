// layernorm_residual: sum = x + residual; y = layernorm(sum)
//
// Formula   as layernorm, of the sum rounded to its stored type
// Shapes    x, residual, sum, y [n, h]; gamma, beta [h] f32
// Requires  sm_80
// Launch    as layernorm; _any reads back the sum that it stored
// Numerics  as layernorm; the sum is rounded once to the residual's type, and y is of that
// Cost      n h (sizeof x + 2 sizeof residual + sizeof y) bytes, 9 operations an element
// Host      engine/src/ops/layernorm_residual.rs
// Cases     specs/ops/layernorm_residual.yaml
#include "norms.cuh"

NORM_RESIDUAL_TYPES(layernorm_residual, Norm::Layer)
