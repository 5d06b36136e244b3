// NF4 with double quantization → 16 bit, a group of matrices at once. Source: QLoRA (2305.14314) §3; the CPU reference is
// src/quant/nf4.rs.
//
// Every element is table[code] · (map[absmax_code] · nested + offset), each product and sum rounded once to f32, so
// that the bits equal the CPU's before the last rounding.

// One matrix of the group: quantized, or dense where `packed` is null. With `nested` null, absmax is an f32 per 64 elements
// and map is not read. `adapter` is null where there is none; `whole` says that its rows are whole vectors.
struct Part {
    const u8* packed;     // 4 bits an element, even element high
    const u8* absmax;     // a code per 64 elements
    const float* nested;  // a magnitude per 64 · 256
    const float* map;     // 256
    const half_t* dense;
    const half_t* adapter;  // rows × rank, packed
    float offset;
    u32 stored, dense_stride, rank, tail_column, whole, vectors, first_tile, first_row;
};

// `first_tile` and `first_row` of what is no part are beyond all.
struct Group {
    Part part[3];
    u32 tiles, tail_tiles, vectors_per_row, tail_vectors, rows;
};

__constant__ float NF4_TABLE[16] = {-1.0f, -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f,
    -0.091050036f, 0.0f, 0.0795803f, 0.1609302f, 0.2461123f, 0.33791524f, 0.44070983f, 0.562617f, 0.72295684f, 1.0f};

// `stored` of a matrix that was of the other 16-bit format: what is dequantized is rounded to that first.
#if defined(HALF_IS_F16)
constexpr u32 OTHER = 1;
#else
constexpr u32 OTHER = 2;
#endif
constexpr u32 TILE = 128;  // vectors that a warp moves at once, 4 a lane

__device__ __forceinline__ float round_to_other(float v) {
#if defined(HALF_IS_F16)
    const u32 bits = __float_as_uint(v);
    return __uint_as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
#else
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(v));
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(half));
    return v;
#endif
}

// Written once, read by the product that follows: leaves the caches first.
__device__ __forceinline__ void store_streaming(half_t* at, const vec8& v) {
    asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]),
        "r"(v.word[3]) : "memory");
}

__device__ __forceinline__ vec8 load_streaming(const void* at) {
    vec8 v;
    asm volatile("ld.global.cs.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]),
        "=r"(v.word[3]) : "l"(at));
    return v;
}

__device__ __forceinline__ float scale_of(const Part& part, u32 block) {
    if (!part.nested) return __ldg(reinterpret_cast<const float*>(part.absmax) + block);
    const float level = __ldg(part.map + __ldg(part.absmax + block));
    return __fadd_rn(__fmul_rn(level, __ldg(part.nested + (block >> 8))), part.offset);
}

__device__ __forceinline__ u32 load_code(const void* at) {
    u32 v;
    asm volatile("ld.global.cs.b32 %0, [%1];" : "=r"(v) : "l"(at));
    return v;
}

// Eight elements. `table` is the lane's entry, number lane modulo 16; all lanes are here.
template <bool ROUND>
__device__ __forceinline__ vec8 dequantize(u32 codes, float scale, float table) {
    float values[8];
#pragma unroll
    for (u32 byte = 0; byte < 4; byte++) {
        // A lane is taken modulo 32, so that the bits above a code change nothing.
        values[2 * byte] = __fmul_rn(__shfl_sync(~0u, table, codes >> (8 * byte + 4)), scale);
        values[2 * byte + 1] = __fmul_rn(__shfl_sync(~0u, table, codes >> (8 * byte)), scale);
    }
    if (ROUND) {
#pragma unroll
        for (u32 j = 0; j < 8; j++) values[j] = round_to_other(values[j]);
    }
    return pack8(values);
}

// A tile of a quantized matrix: 128 vectors, 16 blocks. Lanes take vectors side by side, so that a warp writes 512 bytes at
// once; each reads the magnitude of one block, which is asked of it when it is needed.
template <bool ROUND>
__device__ __forceinline__ void quantized_tile(const Part& part, u32 tile, u32 per_row, float table, half_t* out, u32 stride) {
    const u32 lane = threadIdx.x & 31, first = tile * TILE, last = part.vectors - 1;
    u32 codes[4];
#pragma unroll
    for (u32 j = 0; j < 4; j++) codes[j] = load_code(part.packed + (u64)min(first + lane + 32 * j, last) * 4);
    const float scale = scale_of(part, min(first / 8 + (lane & 15), last / 8));
    u32 row = (first + lane) / per_row, column = first + lane - row * per_row;
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        const vec8 v = dequantize<ROUND>(codes[j], __shfl_sync(~0u, scale, lane / 8 + 4 * j), table);
        if (first + lane + 32 * j <= last) store_streaming(out + (u64)row * stride + column * 8, v);
        column += 32;
        while (column >= per_row) column -= per_row, row++;
    }
}

__device__ __forceinline__ void dense_tile(const Part& part, u32 tile, u32 per_row, half_t* out, u32 stride) {
    const u32 first = tile * TILE + (threadIdx.x & 31);
    vec8 v[4];
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        const u32 vector = min(first + j * 32, part.vectors - 1), row = vector / per_row;
        v[j] = load_streaming(part.dense + (u64)row * part.dense_stride + (vector - row * per_row) * 8);
    }
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        const u32 vector = first + j * 32, row = vector / per_row;
        if (vector < part.vectors) store_streaming(out + (u64)row * stride + (vector - row * per_row) * 8, v[j]);
    }
}

// Eight columns of a row's tail: the adapter's where they are its own, else 0.
__device__ __forceinline__ vec8 tail_vector(const Part& part, u32 row, u32 column) {
    vec8 v = {{0, 0, 0, 0}};
    if (!part.adapter) return v;
    const half_t* from = part.adapter + (u64)row * part.rank;
    const u32 inside = column - part.tail_column;  // wraps before the adapter's columns
    if (part.whole) {
        if (inside < part.rank) v = load8(from + inside);
        return v;
    }
#pragma unroll
    for (u32 j = 0; j < 8; j++)
        if (inside + j < part.rank) v.word[j / 2] |= (u32)from[inside + j] << (16 * (j & 1));
    return v;
}

// 128 vectors of the rows' tails.
__device__ __forceinline__ void tail_tile(const Group& group, u32 tile, half_t* out, u32 stride) {
    const u32 first = tile * TILE + (threadIdx.x & 31);
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        const u32 row = (first + j * 32) / group.tail_vectors, vector = first + j * 32 - row * group.tail_vectors;
        if (row >= group.rows) continue;
        const u32 at = (row >= group.part[1].first_row) + (row >= group.part[2].first_row);
        const Part& part = group.part[at];
        const vec8 v = tail_vector(part, row - part.first_row, vector * 8);
        store_streaming(out + (u64)row * stride + (group.vectors_per_row + vector) * 8, v);
    }
}

// Matrices below each other, each row followed by its tail: row i begins at out + i · stride, its tail of 8 · tail_vectors
// columns at 8 · vectors_per_row.
//
// A warp has one tile: more of them, one after another, were a tenth slower.
//
// grid   ceil((tiles + tail_tiles) / 8)        block  256
// in     the group: up to three matrices of 8 · vectors_per_row columns, whose elements are multiples of 64 each
// out    out `=`, overlaps no input         accumulation  none
// bound  memory: 0.516 bytes read (2 where dense) and 2 written an element
extern "C" __global__ void __launch_bounds__(256) nf4_dequantize_group(const Group group, half_t* __restrict__ out, u32 stride) {
    const u32 tile = blockIdx.x * 8 + threadIdx.x / 32;
    if (tile >= group.tiles) {
        if (tile - group.tiles < group.tail_tiles) tail_tile(group, tile - group.tiles, out, stride);
        return;
    }
    const u32 at = (tile >= group.part[1].first_tile) + (tile >= group.part[2].first_tile);
    const Part& part = group.part[at];
    const u32 in_part = tile - part.first_tile, per_row = group.vectors_per_row;
    const float table = NF4_TABLE[threadIdx.x & 15];
    half_t* rows = out + (u64)part.first_row * stride;
    if (!part.packed) dense_tile(part, in_part, per_row, rows, stride);
    else if (part.stored == OTHER) quantized_tile<true>(part, in_part, per_row, table, rows, stride);
    else quantized_tile<false>(part, in_part, per_row, table, rows, stride);
}

// Where a product with one vector goes: `residual` is null where nothing is added.
struct Output {
    half_t* y;
    const half_t* residual;
};

struct Outputs { Output part[3]; };

struct alignas(8) Pair { float first, second; };

constexpr u32 CHUNK = 32;  // elements of a row that a lane takes at once: within one block of 64
constexpr u32 COPIES = 16;  // of the table: lanes of a half warp, which is served at once, read banks of their own

// Two rows below each other, a chunk a lane at a time. `table` is this lane's copy of all bytes' pairs of values.
__device__ __forceinline__ void nf4_rows(const Part& part, u32 row, u32 columns, const half_t* x, const Pair* table,
    float (&sums)[2]) {
    for (u32 column = (threadIdx.x & 31) * CHUNK; column < columns; column += 32 * CHUNK) {
        const u64 at = (u64)row * columns + column;
        vec8 codes[2];
        float scales[2];
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            codes[i] = load_streaming(part.packed + (at + i * columns) / 2);
            scales[i] = scale_of(part, (u32)((at + i * columns) >> 6));
        }
        float chunk[2] = {0.0f, 0.0f};
#pragma unroll
        for (u32 word = 0; word < CHUNK / 8; word++) {
            float values[8];
            unpack8(load8(x + column + word * 8), values);
#pragma unroll
            for (u32 i = 0; i < 2; i++)
#pragma unroll
                for (u32 byte = 0; byte < 4; byte++) {
                    const Pair w = table[(codes[i].word[word] >> (8 * byte) & 255) * COPIES];
                    chunk[i] += w.first * values[2 * byte];
                    chunk[i] += w.second * values[2 * byte + 1];
                }
        }
#pragma unroll
        for (u32 i = 0; i < 2; i++) sums[i] += scales[i] * chunk[i];
    }
}

__device__ __forceinline__ void dense_rows(const Part& part, u32 row, u32 columns, const half_t* x, float (&sums)[2]) {
    const half_t* first = part.dense + (u64)row * part.dense_stride;
#pragma unroll 2
    for (u32 column = (threadIdx.x & 31) * 8; column < columns; column += 32 * 8) {
        const vec8 w[2] = {load_streaming(first + column), load_streaming(first + part.dense_stride + column)};
        float values[8], weights[8];
        unpack8(load8(x + column), values);
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            unpack8(w[i], weights);
#pragma unroll
            for (u32 j = 0; j < 8; j++) sums[i] += weights[j] * values[j];
        }
    }
}

// y_o = alpha · [W | B] · [x | xa] + residual: the group's matrices times one vector, behind whose columns xa, the adapters'
// low-rank products, lies. A warp has two rows at a time; a row's sum has one order. Weights are table[code] · absmax in f32
// and never rounded to 16 bits.
//
// grid   any; pairs of rows are strided over it        block  256
// in     the group: up to three matrices with `columns` columns, whole chunks where quantized, else whole vectors, and an even
//        number of rows each; x
// out    y of each part `=`; y may be its residual, and behind x's columns, no other overlap     accumulation  f32
// bound  memory: 0.516 bytes read an element, 2 where dense
extern "C" __global__ void __launch_bounds__(256, 4) gemv_group(const Group group, const Outputs outputs, const half_t* x,
    float alpha, u32 columns, u32 quantized) {
    __shared__ Pair tables[256 * COPIES];
    if (quantized) {
        for (u32 i = threadIdx.x; i < 256 * COPIES; i += 256)
            tables[i] = {NF4_TABLE[i / COPIES >> 4], NF4_TABLE[i / COPIES & 15]};
        __syncthreads();
    }
    const u32 lane = threadIdx.x & 31;
    for (u32 pair = blockIdx.x * 8 + threadIdx.x / 32; pair < group.rows / 2; pair += gridDim.x * 8) {
        const u32 at = (2 * pair >= group.part[1].first_row) + (2 * pair >= group.part[2].first_row);
        const Part& part = group.part[at];
        const u32 row = 2 * pair - part.first_row;
        float sums[2] = {0.0f, 0.0f};
        if (part.packed) nf4_rows(part, row, columns, x, tables + (lane & (COPIES - 1)), sums);
        else dense_rows(part, row, columns, x, sums);
        if (part.adapter) {
            const half_t *xa = x + columns + part.tail_column, *b = part.adapter + (u64)row * part.rank;
            for (u32 column = lane; column < part.rank; column += 32) {
                const float value = to_float(xa[column]);
                sums[0] += to_float(b[column]) * value;
                sums[1] += to_float(b[part.rank + column]) * value;
            }
        }
        const float y0 = alpha * warp_sum(sums[0]), y1 = alpha * warp_sum(sums[1]);
        if (lane == 0) {
            float before[2] = {0.0f, 0.0f};
            // Chosen, not indexed: arguments that are indexed are copied to memory.
            const Output out = at == 0 ? outputs.part[0] : at == 1 ? outputs.part[1] : outputs.part[2];
            if (out.residual) unpack2(*reinterpret_cast<const u32*>(out.residual + row), before[0], before[1]);
            *reinterpret_cast<u32*>(out.y + row) = pack2(before[0] + y0, before[1] + y1);
        }
    }
}
