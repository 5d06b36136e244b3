// Put before every kernel file. No headers: NVRTC ships none of what would be needed.
//
// Activations are 16 bit (`half_t`): bfloat16, or IEEE half where WEFT_F16 is set or the GPU is older than sm_80.
// Arithmetic is in f32. Vectors are 8 elements, 16 bytes; every activation pointer and row stride is a multiple of that.
// `x_stride` beside a matrix `x` is the elements from one of its rows to the next. What lies between rows is not touched.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

typedef u16 half_t;

#define INFINITY __int_as_float(0x7f800000)

#if defined(WEFT_F16) || __CUDA_ARCH__ < 800
#define HALF_IS_F16 1
#endif

struct alignas(16) vec8 { u32 word[4]; };
struct alignas(16) float4_t { float x, y, z, w; };

// f32 → half_t, to the nearest, ties to even. `lo` lies first in memory.
__device__ __forceinline__ u32 pack2(float lo, float hi) {
    u32 out;
#if !defined(HALF_IS_F16)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(hi), "f"(lo));
#elif __CUDA_ARCH__ >= 800
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(hi), "f"(lo));
#else
    u16 a, b;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(a) : "f"(lo));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(b) : "f"(hi));
    out = (u32)a | ((u32)b << 16);
#endif
    return out;
}

__device__ __forceinline__ void unpack2(u32 pair, float& lo, float& hi) {
#if !defined(HALF_IS_F16)
    lo = __uint_as_float(pair << 16);
    hi = __uint_as_float(pair & 0xffff0000u);
#else
    asm("{.reg .b16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b;}" : "=f"(lo), "=f"(hi) : "r"(pair));
#endif
}

__device__ __forceinline__ float to_float(half_t value) {
    float lo, hi;
    unpack2((u32)value, lo, hi);
    return lo;
}

__device__ __forceinline__ half_t to_half(float value) { return (half_t)(pack2(value, 0.0f) & 0xffffu); }

__device__ __forceinline__ void unpack8(const vec8& v, float (&out)[8]) {
#pragma unroll
    for (int i = 0; i < 4; i++) unpack2(v.word[i], out[2 * i], out[2 * i + 1]);
}

__device__ __forceinline__ vec8 pack8(const float (&in)[8]) {
    vec8 v;
#pragma unroll
    for (int i = 0; i < 4; i++) v.word[i] = pack2(in[2 * i], in[2 * i + 1]);
    return v;
}

__device__ __forceinline__ vec8 load8(const half_t* at) { return *reinterpret_cast<const vec8*>(at); }
__device__ __forceinline__ void store8(half_t* at, const vec8& v) { *reinterpret_cast<vec8*>(at) = v; }

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) v += __shfl_xor_sync(0xffffffffu, v, lane);
    return v;
}

__device__ __forceinline__ double warp_sum(double v) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) v += __shfl_xor_sync(0xffffffffu, v, lane);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, lane));
    return v;
}

// Sum over the block in an order that its size alone decides; every thread gets it. `scratch` has 32 elements. Two
// calls in a row may share it.
template <class T>
__device__ __forceinline__ T block_sum(T v, T* scratch) {
    v = warp_sum(v);
    const u32 warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = (blockDim.x + 31) >> 5;
    __syncthreads();
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    return warp_sum(lane < warps ? scratch[lane] : T(0));
}
