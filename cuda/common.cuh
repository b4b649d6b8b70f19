// Storage types, loads and stores, reductions: what every page shares.
//
// f16 and bf16 are bits here; arithmetic is f32. Widening is exact, narrowing rounds to nearest
// even once, at the store.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef int i32;
typedef long long i64;

struct f16 { u16 bits; };
struct bf16 { u16 bits; };
typedef float f32;

static_assert(sizeof(f16) == 2 && sizeof(bf16) == 2, "half types are two bytes");

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ f16 narrow<f16>(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// Sixteen bytes at once. N elements of T; the address is a multiple of 16.
template <typename T> struct alignas(16) Vector {
    static constexpr int N = 16 / sizeof(T);
    T at[N];
};

template <typename T> __device__ __forceinline__ Vector<T> load16(const T* from) {
    Vector<T> v;
    *reinterpret_cast<uint4*>(&v) = *reinterpret_cast<const uint4*>(from);
    return v;
}
template <typename T> __device__ __forceinline__ void store16(T* to, const Vector<T>& v) {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&v);
}

// N numbers, widened exactly, with the widest loads that N elements of X allow.
template <typename X, int N> __device__ __forceinline__ void load_row(const X* from, float* to) {
    if constexpr (N >= Vector<X>::N) {
#pragma unroll
        for (int i = 0; i < N; i += Vector<X>::N) {
            const Vector<X> v = load16(from + i);
#pragma unroll
            for (int j = 0; j < Vector<X>::N; ++j) to[i + j] = widen(v.at[j]);
        }
    } else {
        struct alignas(N * sizeof(X)) Part { X at[N]; };
        const Part v = *reinterpret_cast<const Part*>(from);
#pragma unroll
        for (int j = 0; j < N; ++j) to[j] = widen(v.at[j]);
    }
}

// N numbers, rounded once each, with the widest stores that N elements of Y allow.
template <typename Y, int N> __device__ __forceinline__ void store_row(Y* to, const float* from) {
    if constexpr (N >= Vector<Y>::N) {
#pragma unroll
        for (int i = 0; i < N; i += Vector<Y>::N) {
            Vector<Y> v;
#pragma unroll
            for (int j = 0; j < Vector<Y>::N; ++j) v.at[j] = narrow<Y>(from[i + j]);
            store16(to + i, v);
        }
    } else {
        struct alignas(N * sizeof(Y)) Part { Y at[N]; } v;
#pragma unroll
        for (int j = 0; j < N; ++j) v.at[j] = narrow<Y>(from[j]);
        *reinterpret_cast<Part*>(to) = v;
    }
}

// Clamps and maxima that let NaN through, unlike fminf and fmaxf.
__device__ __forceinline__ float min_nan(float a, float b) {
    float y;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}
__device__ __forceinline__ float max_nan(float a, float b) {
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

struct Sum {
    static __device__ __forceinline__ float of(float a, float b) { return a + b; }
    static __device__ __forceinline__ float identity() { return 0.0f; }
};
struct Max {
    static __device__ __forceinline__ float of(float a, float b) { return max_nan(a, b); }
    static __device__ __forceinline__ float identity() { return -infinity(); }
};

// The reduction of a warp's values, in a fixed order, in every lane.
template <typename R> __device__ __forceinline__ float warp_reduce(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) x = R::of(x, __shfl_xor_sync(~0u, x, step));
    return x;
}

// The reduction of a block's values, in a fixed order, in every thread. `scratch` holds 32 floats;
// it may be used again at once, for the block waits before and after.
template <typename R> __device__ __forceinline__ float block_reduce(float x, float* scratch) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    x = warp_reduce<R>(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = lane < warps ? scratch[lane] : R::identity();
    return warp_reduce<R>(x);
}

// Waits for the launch ahead, where launches overlap; nothing written by it is read before.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the next launch start; it waits by itself for this one's results.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Says once that the data break a rule; the launcher knows what `code` means.
__device__ __forceinline__ void raise(u32* fault, u32 code) { atomicCAS(fault, 0u, code); }
