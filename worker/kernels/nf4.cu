// NF4 with double quantization → 16 bit. Source: QLoRA (2305.14314) §3; the CPU reference is src/quant/nf4.rs.
//
// Every element is table[code] · (map[absmax_code] · nested + offset), each product and sum rounded once to f32, so
// that the bits equal the CPU's before the last rounding.

constexpr u32 DEQUANTIZE_UNROLL = 4;

__constant__ float NF4_TABLE[16] = {-1.0f, -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f,
    -0.091050036f, 0.0f, 0.0795803f, 0.1609302f, 0.2461123f, 0.33791524f, 0.44070983f, 0.562617f, 0.72295684f, 1.0f};

__device__ __forceinline__ float round_to(float v, u32 stored) {
    if (stored == 2) {
        u16 half;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(v));
        asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(half));
    }
    return v;
}

// out_oi = dequantized matrix; row i begins at out + i · out_stride.
//
// grid   any; rounds of 256 · 4 vectors are strided over it, vectors = rows · cols / 8      block  256
// in     packed (4 bits an element, even element high), absmax_codes (1 byte per 64), nested (f32 per 64 · 256),
//        map (256 f32); with `nested` null, absmax_codes is an f32 per 64 elements and map is not read
// out    out `=`, overlaps no input         accumulation  none
// bound  memory: 0.516 bytes read and 2 written an element. cols is a multiple of 8, rows · cols of 64.
extern "C" __global__ void __launch_bounds__(256) nf4_dequantize(
    const u32* __restrict__ packed, const u8* __restrict__ absmax_codes, const float* __restrict__ nested,
    const float* __restrict__ map, float offset, u32 vectors, u32 vectors_per_row, u32 out_stride, u32 stored,
    half_t* __restrict__ out) {
    __shared__ float table[16];
    __shared__ float levels[256];
    if (threadIdx.x < 16) table[threadIdx.x] = NF4_TABLE[threadIdx.x];
    if (nested) levels[threadIdx.x] = map[threadIdx.x];
    __syncthreads();
    const bool dense = vectors_per_row * 8 == out_stride;
    for (u32 first = blockIdx.x * (256 * DEQUANTIZE_UNROLL) + threadIdx.x; first < vectors;
         first += gridDim.x * (256 * DEQUANTIZE_UNROLL)) {
        u32 codes[DEQUANTIZE_UNROLL];
        float scale[DEQUANTIZE_UNROLL];
#pragma unroll
        for (u32 i = 0; i < DEQUANTIZE_UNROLL; i++) {
            const u32 vector = min(first + i * 256, vectors - 1), block = vector >> 3;
            codes[i] = __ldcs(packed + vector);
            if (nested) scale[i] = __fadd_rn(__fmul_rn(levels[absmax_codes[block]], nested[block >> 8]), offset);
            else scale[i] = reinterpret_cast<const float*>(absmax_codes)[block];
        }
#pragma unroll
        for (u32 i = 0; i < DEQUANTIZE_UNROLL; i++) {
            const u32 vector = first + i * 256;
            if (vector >= vectors) break;
            float values[8];
#pragma unroll
            for (u32 byte = 0; byte < 4; byte++) {
                const u32 pair = codes[i] >> (8 * byte);
                values[2 * byte] = round_to(__fmul_rn(table[(pair >> 4) & 15], scale[i]), stored);
                values[2 * byte + 1] = round_to(__fmul_rn(table[pair & 15], scale[i]), stored);
            }
            u64 at = (u64)vector * 8;
            if (!dense) {
                const u32 row = vector / vectors_per_row;
                at = (u64)row * out_stride + (vector - row * vectors_per_row) * 8;
            }
            store8(out + at, pack8(values));
        }
    }
}
