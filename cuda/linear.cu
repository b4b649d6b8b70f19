// linear: y = x w^T + bias
//
// Formula   y[i, o] = sum over k of x[i, k] w[o, k], plus bias[o]
// Shapes    x [n, in]; w [out, in] of the stored type W (a define); bias [out] f32; y [n, out];
//           inside fused steps residual [n, out] of y's type, added behind the bias
// Requires  sm_80
// Launch    decode (n <= 8): a row of w 1, 2 or 4 warps, by type and width (products.cuh); prefill:
//           tiles of TILE x TILE outputs, mma where x and w share a 16-bit type or w has blocks,
//           else simt
// Numerics  decode and simt: f32, every w and x exact, products fused into the sum; a lane's runs
//           are summed by themselves first. mma: tensor accumulator; blocks are rounded to the
//           type of x (keeps w). One rounding at the store
// Cost      bytes of w, x, y; 2 n in out operations
// Host      engine/src/ops/linear.rs
// Cases     specs/ops/linear.yaml
#include "products.cuh"

struct LinearArgs {
    const void* w;
    const void* x;
    const float* bias;
    const void* residual;
    void* y;
    int in;
    int out;
    int n;
    int span;
};

// The sum, its bias, and what stands in the residual stream.
template <typename Y> struct Store {
    const LinearArgs& a;
    float bias;
    __device__ __forceinline__ void begin(int row) { bias = a.bias ? a.bias[row] : 0.0f; }
    __device__ __forceinline__ void row(int j, int row, const float (&sum)[1]) const {
        const i64 at = i64(j) * a.out + row;
        float y = sum[0] + bias;
        if (a.residual) y = widen(static_cast<const Y*>(a.residual)[at]) + y;
        static_cast<Y*>(a.y)[at] = narrow<Y>(y);
    }
};

template <typename X, typename Y, int NX> __device__ void decode_wide(const LinearArgs& a) {
    const void* const w[1] = {a.w};
    Store<Y> store = {a, 0.0f};
    products<X, NX, 1>({a.x, a.in, a.out, a.n, a.span}, w, store);
}

// Any width, an element at a time.
template <typename X, typename Y, int NX> __device__ void decode_any(const LinearArgs& a) {
    const int row = blockIdx.x * WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    wait_for_previous();
    if (row >= a.out) return;
    const u8* w = static_cast<const u8*>(a.w) + row * row_bytes<W>(a.in);
    const X* x = static_cast<const X*>(a.x);
    float sum[NX] = {};
    for (int i = lane; i < a.in; i += 32) {
        const float q = Reader<W>::value(w, i);
#pragma unroll
        for (int j = 0; j < NX; ++j) {
            if (j < a.n) sum[j] = fmaf(q, widen(x[i64(j) * a.in + i]), sum[j]);
        }
    }
    let_next_start();
    Store<Y> store = {a, 0.0f};
    store.begin(row);
#pragma unroll
    for (int j = 0; j < NX; ++j) {
        if (j >= a.n) break;
        const float of[1] = {warp_reduce<Sum>(sum[j])};
        if (lane == 0) store.row(j, row, of);
    }
}

// Prefill on CUDA cores: every operand exact in f32, a thread 4 x 4 outputs of a tile.
constexpr int SIMT = 64, SIMT_K = 16;

template <typename X, typename Y> __device__ void prefill_simt(const LinearArgs& a) {
    __shared__ float xs[SIMT_K][SIMT + 1], ws[SIMT_K][SIMT + 1];
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const int row0 = blockIdx.y * SIMT, col0 = blockIdx.x * SIMT;
    const X* x = static_cast<const X*>(a.x);
    const u8* w = static_cast<const u8*>(a.w);
    const i64 pitch = row_bytes<W>(a.in);
    float sum[4][4] = {};
    wait_for_previous();
    for (int k0 = 0; k0 < a.in; k0 += SIMT_K) {
        for (int i = threadIdx.x; i < SIMT * SIMT_K; i += 256) {
            const int k = i % SIMT_K, r = i / SIMT_K;
            const bool in = k0 + k < a.in;
            xs[k][r] = in && row0 + r < a.n ? widen(x[i64(row0 + r) * a.in + k0 + k]) : 0.0f;
            ws[k][r] = in && col0 + r < a.out
                           ? Reader<W>::value(w + (col0 + r) * pitch, k0 + k) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < SIMT_K; ++k) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    sum[i][j] = fmaf(xs[k][ty + 16 * i], ws[k][tx + 16 * j], sum[i][j]);
                }
            }
        }
        __syncthreads();
    }
    let_next_start();
    Store<Y> store = {a, 0.0f};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int r = row0 + ty + 16 * i, c = col0 + tx + 16 * j;
            if (r < a.n && c < a.out) {
                const float of[1] = {sum[i][j]};
                store.begin(c);
                store.row(r, c, of);
            }
        }
    }
}

// Prefill on tensor cores: 8 warps, each 64 x 32 outputs of a 128 x 128 tile, K by 32.
constexpr int TILE = 128, TILE_K = 32, PITCH = TILE_K + 8;

template <typename X>
__device__ __forceinline__ void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]);
template <>
__device__ __forceinline__ void mma<f16>(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma<bf16>(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void load_fragment(u32 (&f)[4], const void* at) {
    const u32 address = u32(__cvta_generic_to_shared(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3]) : "r"(address));
}

// Sixteen elements of a row, from k on, as X; zero beyond the row's end.
template <typename X> __device__ __forceinline__ void take_x(const X* row, int k, int in, X* to) {
    if (k + 16 <= in && in % 8 == 0) {
        store16(to, load16(row + k));
        store16(to + 8, load16(row + k + 8));
        return;
    }
    for (int j = 0; j < 16; ++j) to[j] = k + j < in ? row[k + j] : narrow<X>(0.0f);
}
template <typename X> __device__ __forceinline__ void take_w(const u8* row, int k, int in, X* to) {
    if constexpr (sizeof(W) == sizeof(X) && Reader<W>::BYTES == 16) {
        take_x(reinterpret_cast<const X*>(row), k, in, to);
    } else {
        for (int j = 0; j < 16; ++j) {
            to[j] = narrow<X>(k + j < in ? Reader<W>::value(row, k + j) : 0.0f);
        }
    }
}

template <typename X, typename Y> __device__ void prefill_mma(const LinearArgs& a) {
    __shared__ alignas(16) X xs[2][TILE][PITCH], ws[2][TILE][PITCH];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    const int wr = warp / 4 * 64, wc = warp % 4 * 32;
    const i64 pitch = row_bytes<W>(a.in);
    // A thread brings sixteen elements of one row of each tile.
    const int r = threadIdx.x / 2, k16 = threadIdx.x % 2 * 16;
    const X* x = static_cast<const X*>(a.x) + i64(row0 + r) * a.in;
    const u8* w = static_cast<const u8*>(a.w) + (col0 + r) * pitch;
    const int x_in = row0 + r < a.n ? a.in : 0, w_in = col0 + r < a.out ? a.in : 0;
    float sum[4][4][4] = {};
    wait_for_previous();
    const auto fill = [&](int buffer, int k0) {
        alignas(16) X part[16];
        take_x(x, k0 + k16, x_in, part);
        store16(&xs[buffer][r][k16], load16(part));
        store16(&xs[buffer][r][k16 + 8], load16(part + 8));
        take_w(w, k0 + k16, w_in, part);
        store16(&ws[buffer][r][k16], load16(part));
        store16(&ws[buffer][r][k16 + 8], load16(part + 8));
    };
    fill(0, 0);
    __syncthreads();
    int buffer = 0;
    for (int k0 = 0; k0 < a.in; k0 += TILE_K, buffer ^= 1) {
        if (k0 + TILE_K < a.in) fill(buffer ^ 1, k0 + TILE_K);
#pragma unroll
        for (int k = 0; k < TILE_K; k += 16) {
            u32 fx[4][4], fw[2][4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                load_fragment(fx[i], &xs[buffer][wr + 16 * i + lane % 16][k + lane / 16 * 8]);
            }
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                // Two 8-column fragments: rows of w are columns of the product.
                const int c = wc + 16 * j + lane % 8 + lane / 16 * 8;
                load_fragment(fw[j], &ws[buffer][c][k + lane / 8 % 2 * 8]);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const u32 b[2] = {fw[j / 2][j % 2 * 2], fw[j / 2][j % 2 * 2 + 1]};
                    mma<X>(sum[i][j], fx[i], b);
                }
            }
        }
        __syncthreads();
    }
    let_next_start();
    Store<Y> store = {a, 0.0f};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int row = row0 + wr + 16 * i + lane / 4 + e / 2 * 8;
                const int col = col0 + wc + 8 * j + lane % 4 * 2 + e % 2;
                if (row < a.n && col < a.out) {
                    const float of[1] = {sum[i][j][e]};
                    store.begin(col);
                    store.row(row, col, of);
                }
            }
        }
    }
}

#define LINEAR(X, Y)                                                                             \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void linear_wide1_##X##_##Y(             \
        const LinearArgs a) { decode_wide<X, Y, 1>(a); }                                         \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void linear_wide8_##X##_##Y(             \
        const LinearArgs a) { decode_wide<X, Y, 8>(a); }                                         \
    extern "C" __global__ __launch_bounds__(32 * WARPS) void linear_any_##X##_##Y(               \
        const LinearArgs a) { decode_any<X, Y, 8>(a); }                                          \
    extern "C" __global__ __launch_bounds__(256) void linear_simt_##X##_##Y(                     \
        const LinearArgs a) { prefill_simt<X, Y>(a); }
#define LINEAR_MMA(X, Y)                                                                         \
    extern "C" __global__ __launch_bounds__(256) void linear_mma_##X##_##Y(const LinearArgs a) { \
        prefill_mma<X, Y>(a);                                                                    \
    }
LINEAR(f32, f32)
LINEAR(f16, f16)
LINEAR(bf16, bf16)
LINEAR(f16, f32)
LINEAR(bf16, f32)
LINEAR(f32, f16)
LINEAR(f32, bf16)
LINEAR_MMA(f16, f16)
LINEAR_MMA(f16, f32)
LINEAR_MMA(bf16, bf16)
LINEAR_MMA(bf16, f32)
