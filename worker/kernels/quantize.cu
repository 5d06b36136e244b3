// 16 bit → NF4, blocks of 64. Source: QLoRA (2305.14314) §3; the CPU reference is src/quant/nf4.rs, whose bits these are:
// a code is the number of thresholds strictly below value · (1 / magnitude), each operation rounded once to f32.

// A constant each, so that comparisons need no memory.
__device__ __forceinline__ u32 code_of(float v) {
    return (v > -0.8480964f) + (v > -0.6106329f) + (v > -0.45999527f) + (v > -0.33967943f) + (v > -0.2346074f) +
        (v > -0.13791173f) + (v > -0.045525018f) + (v > 0.03979015f) + (v > 0.12025525f) + (v > 0.20352125f) +
        (v > 0.29201377f) + (v > 0.38931254f) + (v > 0.50166342f) + (v > 0.6427869f) + (v > 0.8614784f);
}

template <bool F16>
__device__ __forceinline__ float widen(u32 half) {
    if (!F16) return __uint_as_float(half << 16);
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"((u16)half));
    return v;
}

template <bool F16>
__device__ __forceinline__ void quantize(const u16* from, u32 vectors, u8* packed, u32* magnitudes) {
    const u32 lane = threadIdx.x & 31, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    // A loop whose bounds are the warp's, because its lanes exchange maxima.
    for (u32 first = warp * 32; first < vectors; first += gridDim.x * blockDim.x) {
        const u32 vector = min(first + lane, vectors - 1);
        const vec8 raw = reinterpret_cast<const vec8*>(from)[vector];
        float values[8];
        u32 largest = 0;  // as bits: of numbers without a sign they have the same order, and NaN is above all
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            values[j] = widen<F16>(raw.word[j / 2] >> (16 * (j & 1)) & 0xffff);
            largest = max(largest, __float_as_uint(values[j]) & 0x7fffffff);
        }
#pragma unroll
        for (u32 other = 1; other < 8; other *= 2) largest = max(largest, __shfl_xor_sync(~0u, largest, other));
        // Infinite for a block of zeros: the products are not numbers then, and their code is 0.
        const float inverse = __fdiv_rn(1.0f, __uint_as_float(largest));
        u32 codes = 0;
#pragma unroll
        for (u32 j = 0; j < 8; j++)  // the even element in the high half of its byte
            codes |= code_of(__fmul_rn(values[j], inverse)) << (8 * (j / 2) + 4 * (1 - (j & 1)));
        if (first + lane < vectors) {
            reinterpret_cast<u32*>(packed)[vector] = codes;
            if (lane % 8 == 0) magnitudes[vector / 8] = largest;
        }
    }
}

// Codes and magnitudes of a matrix of 8 · vectors elements, which are whole blocks. A magnitude that is no finite number
// says that its block holds one that is none.
//
// grid   any                                               block  256
// in     from: bfloat16, or IEEE half where `f16`, 16-byte aligned
// out    packed `=`, 4 bits an element, the even one high; magnitudes `=`, an f32 per 64 elements; they overlap nothing
// sums   none        bound  memory: 2 bytes read and 0.56 written an element
extern "C" __global__ void __launch_bounds__(256) nf4_quantize(const u16* __restrict__ from, u32 vectors, u32 f16,
    u8* __restrict__ packed, u32* __restrict__ magnitudes) {
    if (f16) quantize<true>(from, vectors, packed, magnitudes);
    else quantize<false>(from, vectors, packed, magnitudes);
}
