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
    u32 stored, dense_stride, rank, tail_column, whole, vectors, tiles, first_row;
};

// What is no part has no tiles, and a `first_row` beyond all.
struct Group {
    Part part[3];
    u32 tail_tiles, vectors_per_row, tail_vectors, rows;
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

// A lane's vector of the matrix, and the same by row and column.
struct Lane {
    u32 vector, row, column;

    __device__ __forceinline__ Lane(u32 first, u32 per_row) : vector(first), row(first / per_row), column(first - first / per_row * per_row) {}

    __device__ __forceinline__ void move(const Lane& by, u32 per_row) {
        vector += by.vector;
        row += by.row;
        column += by.column;
        if (column >= per_row) column -= per_row, row++;
    }
};

// What a lane reads of a tile: the codes of its four vectors, 32 apart, and the magnitude of one of the tile's 16 blocks, as
// it is stored.
struct Raw {
    u32 codes[4], level;
    float nested;
};

__device__ __forceinline__ Raw read_tile(const Part& part, u32 first) {
    const u32 lane = threadIdx.x & 31, last = part.vectors - 1, block = min(first / 8 + (lane & 15), last / 8);
    Raw raw;
#pragma unroll
    for (u32 j = 0; j < 4; j++) raw.codes[j] = load_code(part.packed + (u64)min(first + lane + 32 * j, last) * 4);
    if (part.nested) {
        raw.level = __ldg(part.absmax + block);
        raw.nested = __ldg(part.nested + (block >> 8));
    } else {
        raw.level = __ldg(reinterpret_cast<const u32*>(part.absmax) + block);
        raw.nested = 0.0f;
    }
    return raw;
}

// A quantized matrix's tiles from `tile` on, every `warps`th; the next one is read while one is written. Lanes take vectors
// side by side, so that a warp writes 512 bytes at once.
template <bool ROUND>
__device__ __forceinline__ void quantized_tiles(const Part& part, u32 tile, u32 warps, u32 per_row, float table, half_t* out,
    u32 stride) {
    if (tile >= part.tiles) return;
    const u32 lane = threadIdx.x & 31;
    Lane at(tile * TILE + lane, per_row);
    const Lane far(warps * TILE, per_row), near(32, per_row);
    Raw next = read_tile(part, tile * TILE);
    for (; tile < part.tiles; tile += warps) {
        const Raw raw = next;
        if (tile + warps < part.tiles) next = read_tile(part, (tile + warps) * TILE);
        float scale = __uint_as_float(raw.level);
        if (part.nested) scale = __fadd_rn(__fmul_rn(__ldg(part.map + raw.level), raw.nested), part.offset);
        Lane four = at;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const vec8 v = dequantize<ROUND>(raw.codes[j], __shfl_sync(~0u, scale, lane / 8 + 4 * j), table);
            if (four.vector < part.vectors) store_streaming(out + (u64)four.row * stride + four.column * 8, v);
            four.move(near, per_row);
        }
        at.move(far, per_row);
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
// grid   any; tiles are strided over its warps, those of the tails first        block  256
// in     the group: up to three matrices of 8 · vectors_per_row columns, whose elements are multiples of 64 each
// out    out `=`, overlaps no input         accumulation  none
// bound  memory: 0.516 bytes read (2 where dense) and 2 written an element
extern "C" __global__ void __launch_bounds__(256) nf4_dequantize_group(const Group group, half_t* __restrict__ out, u32 stride) {
    const float table = NF4_TABLE[threadIdx.x & 15];
    const u32 warps = gridDim.x * 8, per_row = group.vectors_per_row;
    u32 tile = blockIdx.x * 8 + threadIdx.x / 32;
    for (; tile < group.tail_tiles; tile += warps) tail_tile(group, tile, out, stride);
    tile -= group.tail_tiles;
#pragma unroll
    for (u32 at = 0; at < 3; at++) {
        const Part& part = group.part[at];
        if (!part.tiles) break;
        half_t* rows = out + (u64)part.first_row * stride;
        if (!part.packed) {
            for (u32 i = tile; i < part.tiles; i += warps) dense_tile(part, i, per_row, rows, stride);
        } else if (part.stored == OTHER) {
            quantized_tiles<true>(part, tile, warps, per_row, table, rows, stride);
        } else {
            quantized_tiles<false>(part, tile, warps, per_row, table, rows, stride);
        }
        // The first of this warp's tiles among the next part's.
        if (tile < part.tiles) tile += (part.tiles - tile + warps - 1) / warps * warps;
        tile -= part.tiles;
    }
}
