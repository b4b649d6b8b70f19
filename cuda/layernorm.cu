// layernorm: y = (x - mean) / sqrt(var + eps) * gamma + beta, over the last axis
//
// Formula   Ba, Kiros & Hinton 2016, "Layer Normalization", eq. 4; biased variance, two passes
// Shapes    x, y [n, h]; gamma, beta [h] f32
// Requires  sm_80
// Launch    one block a row; _kept holds the row in registers (whole 16-byte vectors,
//           at most KEEP a thread), _any reads it again in each pass
// Numerics  f32; the row's first element is subtracted before the first pass, so the error does
//           not grow with the mean; IEEE division and square root; one rounding at the store
// Cost      n h (sizeof x + sizeof y) bytes, 8 operations an element
// Host      engine/src/ops/layernorm.rs
// Cases     specs/ops/layernorm.yaml
#include "norms.cuh"

NORM_TYPES(layernorm, Norm::Layer)
