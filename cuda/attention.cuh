// What attention's pages share: where a position lies in a cache, and which keys a query sees.
#pragma once
#include "common.cuh"

// Row of the cache [sequences, c, k, d] that holds a position: the position itself, or position
// mod c where the cache is a ring. The one place that knows; its twin is ops::attention::cache_row.
__device__ __forceinline__ i64 cache_row(int sequence, int position, int c, bool ring) {
    return i64(sequence) * c + (ring ? position % c : position);
}

// Keys [first, last] are seen by a query at `position`.
struct Seen {
    int first, last;
};
__device__ __forceinline__ Seen seen(int position, int window) {
    return {window > 0 ? max(0, position - window + 1) : 0, position};
}

// Keys are taken SPLIT at a time, at multiples of SPLIT positions, in order: a query's sums do not
// depend on what shares its block or its call.
constexpr int SPLIT = 64;

// How many rows before `row` belong to the same sequence: a row's position in this call.
__device__ __forceinline__ int earlier(const int* sequences, int row) {
    int count = 0;
    for (int i = 0; i < row; ++i) count += sequences[i] == sequences[row];
    return count;
}

// A row's position: as told, or start plus its place among the call's rows of its sequence.
__device__ __forceinline__ int place(const int* sequences, const int* positions, const int* start,
                                     int row) {
    if (positions) return positions[row];
    return *start + (sequences ? earlier(sequences, row) : row);
}

constexpr float LOG2E = 1.44269504088896341f;

// e^x for x <= 0: ex2.approx of x log2 e, 2 ulp, plus |x| 2^-24 from the product.
__device__ __forceinline__ float exp_below(float x) { return exp2f(x * LOG2E); }
