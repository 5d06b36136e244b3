// Flash attention for packed documents, forward and backward: causal within each document, grouped queries, no more than
// a tile of scores at a time. Source: FlashAttention-2 (2307.08691). CPU reference: src/ops/cpu/attention. This file is
// for every GPU (mma.sync); Hopper has attention_sm90.cu. It is compiled once a head size, D = HEAD_DIM.
//
// Queries, outputs and their gradients are [tokens, heads, D], keys and values [tokens, kv_heads, D], lse and delta
// [tokens, heads] in f32. A tile is a stretch of one document's queries or keys. Query i sees keys up to i + shift.
// Products are 16 bit with f32 sums; softmax is f32. Every sum has one order, which shapes alone decide.

struct Span { u32 first, end, other, shift; };
// Strides are row strides: from one token to the next.
struct Shape {
    u32 heads, kv_heads;
    float scale;
    u32 q_stride, k_stride, v_stride, out_stride, dout_stride, dq_stride, dk_stride, dv_stride;
};

constexpr float LOG2_E = 1.4426950408889634f;

#if __CUDA_ARCH__ >= 800
constexpr int STAGES = 2;
constexpr int ROUNDS_AT_ONCE = 4;  // of copies: addresses of more do not fit beside the accumulators
#else
constexpr int STAGES = 1;
constexpr int ROUNDS_AT_ONCE = 16;
#endif

// ---- instructions

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// 16 bytes to shared memory; zeros where `valid` is not set.
__device__ __forceinline__ void copy16(u32 to, const half_t* from, bool valid) {
#if __CUDA_ARCH__ >= 800
    const u32 bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#else
    vec8 v = {{0, 0, 0, 0}};
    if (valid) v = load8(from);
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]),
        "r"(v.word[3]) : "memory");
#endif
}

__device__ __forceinline__ void copies_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// All but the newest N groups have landed.
template <int N>
__device__ __forceinline__ void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

// c += a · b for 16 × 16 by 16 × 8.
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if !defined(HALF_IS_F16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- tiles in shared memory: rows of D elements, 16-byte chunks swizzled so that no eight rows share banks

template <int D>
__device__ __forceinline__ u32 chunk_at(u32 tile, u32 row, u32 chunk) {
    return tile + row * (D * 2) + ((chunk ^ (row & 7)) << 4);
}

// ROWS rows from `row` of one head of an array, `stride` apart; those from `end` on become 0.
template <int D, int ROWS, int THREADS>
__device__ __forceinline__ void load_tile(u32 tile, const half_t* array, u32 row, u32 end, u32 stride, u32 head) {
    constexpr u32 CHUNKS = D / 8;
    static_assert(ROWS * CHUNKS % THREADS == 0, "whole rounds");
#pragma unroll (ROUNDS_AT_ONCE)
    for (u32 i = 0; i < ROWS * CHUNKS / THREADS; i++) {
        const u32 at = i * THREADS + threadIdx.x, r = at / CHUNKS, chunk = at % CHUNKS;
        const bool valid = row + r < end;
        const half_t* from = array + ((u64)(valid ? row + r : row) * stride + (head * D + chunk * 8));
        copy16(chunk_at<D>(tile, r, chunk), from, valid);
    }
}

// A thread's number that the compiler knows nothing of: what follows from it is computed again where it is needed, instead
// of being kept in registers.
__device__ __forceinline__ u32 forgotten_thread() {
    u32 thread = threadIdx.x;
    asm volatile("" : "+r"(thread));
    return thread;
}

// A operand: 16 rows from `row`, 16 columns from chunk.
template <int D>
__device__ __forceinline__ void load_a(u32 (&a)[4], u32 tile, u32 row, u32 chunk) {
    const u32 lane = threadIdx.x & 31;
    load_matrices(a, chunk_at<D>(tile, row + (lane & 15), chunk + (lane >> 4)));
}

// B operand for A · tileᵀ: 16 columns of B are rows of the tile, 16 of the summed index its columns.
template <int D>
__device__ __forceinline__ void load_b_of_rows(u32 (&b)[4], u32 tile, u32 row, u32 chunk, u32 lane) {
    load_matrices(b, chunk_at<D>(tile, row + (lane & 7) + ((lane >> 4) << 3), chunk + ((lane >> 3) & 1)));
}

// B operand for A · tile: the summed index runs over rows of the tile.
template <int D>
__device__ __forceinline__ void load_b_of_columns(u32 (&b)[4], u32 tile, u32 row, u32 chunk) {
    const u32 lane = threadIdx.x & 31;
    load_matrices_transposed(b, chunk_at<D>(tile, row + (lane & 15), chunk + (lane >> 4)));
}

// s = rows of `a_tile` · rows of `b_tile`ᵀ: MT·16 by N, summed over D. `thread` is the thread's number.
template <int D, int MT, int N>
__device__ __forceinline__ void scores(float (&s)[MT][N / 8][4], u32 a_tile, u32 a_row, u32 b_tile,
    u32 thread = threadIdx.x) {
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[m][n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        u32 a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++) load_a<D>(a[m], a_tile, a_row + m * 16, k * 2);
#pragma unroll
        for (int n = 0; n < N / 16; n++) {
            u32 b[4];
            load_b_of_rows<D>(b, b_tile, n * 16, k * 2, thread & 31);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                multiply(s[m][2 * n], a[m], b[0], b[1]);
                multiply(s[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// out += p · tile, with p (MT·16 by N) in the registers that `scores` left it in.
template <int D, int MT, int N>
__device__ __forceinline__ void weigh(float (&out)[MT][D / 8][4], const float (&p)[MT][N / 8][4], u32 tile) {
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        u32 a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) a[m][i] = pack2(p[m][2 * k + i / 2][2 * (i % 2)], p[m][2 * k + i / 2][2 * (i % 2) + 1]);
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            u32 b[4];
            load_b_of_columns<D>(b, tile, k * 16, n * 2);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                multiply(out[m][2 * n], a[m], b[0], b[1]);
                multiply(out[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

__device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
}

__device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
    return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}

// Writes MT·16 rows of accumulators, each row times its factor, through the warp's own rows of a tile.
template <int D, int MT>
__device__ __forceinline__ void store_rows(u32 tile, u32 warp_row, float (&acc)[MT][D / 8][4], const float (&factor)[MT][2],
    half_t* out, u32 first, u32 end, u32 stride, u32 head) {
    const u32 lane = threadIdx.x & 31;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const u32 row = warp_row + m * 16 + half * 8 + lane / 4;
                const u32 at = chunk_at<D>(tile, row, n) + (lane & 3) * 4;
                const u32 pair = pack2(acc[m][n][2 * half] * factor[m][half], acc[m][n][2 * half + 1] * factor[m][half]);
                asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(pair) : "memory");
            }
    __syncwarp();
    constexpr u32 CHUNKS = D / 8;
#pragma unroll
    for (u32 i = 0; i < MT * 16 * CHUNKS / 32; i++) {
        const u32 at = i * 32 + lane, row = warp_row + at / CHUNKS, chunk = at % CHUNKS;
        if (first + row >= end) continue;
        vec8 v;
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]),
            "=r"(v.word[3]) : "r"(chunk_at<D>(tile, row, chunk)) : "memory");
        store8(out + (u64)(first + row) * stride + head * D + chunk * 8, v);
    }
}

// ---- forward

template <int D, int MT, int BC>
__device__ __forceinline__ void forward(const half_t* q, const half_t* k, const half_t* v, const Span* spans,
    const Shape& shape, half_t* out, float* lse) {
    constexpr int BR = MT * 64;
    extern __shared__ __align__(128) char shared[];
    const u32 q_tile = shared_address(shared), k_tile = q_tile + BR * D * 2, v_tile = k_tile + BC * D * 2;
    const Span span = spans[blockIdx.y];
    const u32 head = blockIdx.x, kv_head = head / (shape.heads / shape.kv_heads);
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x & 31, warp_row = warp * MT * 16;
    const u32 keys_end = min(span.end, span.first + BR) + span.shift;
    const float scale_log2 = shape.scale * LOG2_E;

    float acc[MT][D / 8][4], largest[MT][2], sum[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc[m][n][i] = 0.0f;
        largest[m][0] = largest[m][1] = -INFINITY;
        sum[m][0] = sum[m][1] = 0.0f;
    }
    load_tile<D, BR, 128>(q_tile, q, span.first, span.end, shape.q_stride, head);
    load_tile<D, BC, 128>(k_tile, k, span.other, keys_end, shape.k_stride, kv_head);
    copies_commit();
    for (u32 key = span.other; key < keys_end; key += BC) {
        copies_wait<0>();
        __syncthreads();
        load_tile<D, BC, 128>(v_tile, v, key, keys_end, shape.v_stride, kv_head);
        copies_commit();
        float s[MT][BC / 8][4];
        scores<D, MT, BC>(s, q_tile, warp_row, k_tile);
        // The first key that the tile's first query does not see.
        if (key + BC > span.first + warp_row + span.shift + 1) {
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int n = 0; n < BC / 8; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const u32 row = span.first + warp_row + m * 16 + (i / 2) * 8 + lane / 4;
                        const u32 column = key + n * 8 + (lane & 3) * 2 + (i & 1);
                        if (column > row + span.shift) s[m][n][i] = -INFINITY;
                    }
        }
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float most = largest[m][half];
#pragma unroll
                for (int n = 0; n < BC / 8; n++) most = fmaxf(most, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
                most = quad_max(most);
                const float shift = most == -INFINITY ? 0.0f : most * scale_log2;
                const float fade = exp2_fast(largest[m][half] * scale_log2 - shift);
                largest[m][half] = most;
                float own = 0.0f;
#pragma unroll
                for (int n = 0; n < BC / 8; n++)
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        float& p = s[m][n][2 * half + j];
                        p = exp2_fast(p * scale_log2 - shift);
                        own += p;
                    }
                sum[m][half] = sum[m][half] * fade + own;
#pragma unroll
                for (int n = 0; n < D / 8; n++) {
                    acc[m][n][2 * half] *= fade;
                    acc[m][n][2 * half + 1] *= fade;
                }
            }
        copies_wait<0>();
        __syncthreads();
        if (key + BC < keys_end) load_tile<D, BC, 128>(k_tile, k, key + BC, keys_end, shape.k_stride, kv_head);
        copies_commit();
        weigh<D, MT, BC>(acc, s, v_tile);
    }
    float factor[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float total = quad_sum(sum[m][half]);
            factor[m][half] = 1.0f / total;
            const u32 row = span.first + warp_row + m * 16 + half * 8 + lane / 4;
            if ((lane & 3) == 0 && row < span.end)
                lse[(u64)row * shape.heads + head] = largest[m][half] * shape.scale + __logf(total);
        }
    store_rows<D, MT>(q_tile, warp_row, acc, factor, out, span.first, span.end, shape.out_stride, head);
}

// ---- backward

// The gradients of BKV = 64 keys and values: all queries that see them, of all heads that share them.
template <int D, int BQ, bool KEYS, bool VALUES>
__device__ __forceinline__ void backward_keys(const half_t* q, const half_t* k, const half_t* v, const half_t* dout,
    const float* lse, const float* delta, const Span* spans, const Shape& shape, half_t* dk, half_t* dv) {
    constexpr u32 TILE = BQ * D * 2;
    extern __shared__ __align__(128) char shared[];
    const u32 k_tile = shared_address(shared), v_tile = k_tile + 64 * D * 2, queries = v_tile + 64 * D * 2;
    float* sums = reinterpret_cast<float*>(shared + 128 * D * 2 + STAGES * 2 * TILE);
    const Span span = spans[blockIdx.y];
    const u32 kv_head = blockIdx.x, group = shape.heads / shape.kv_heads;
    const u32 warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x & 31;
    const u32 steps = (span.other - span.first + BQ - 1) / BQ * group;
    const float scale_log2 = shape.scale * LOG2_E;

    // What is loaded next: which head and which queries.
    u32 head = kv_head * group, first = span.first;
    auto load = [&](u32 stage) {
        const u32 tile = queries + stage * 2 * TILE;
        load_tile<D, BQ, 128>(tile, q, first, span.other, shape.q_stride, head);
        load_tile<D, BQ, 128>(tile + TILE, dout, first, span.other, shape.dout_stride, head);
        for (u32 i = threadIdx.x; i < BQ; i += 128) {
            const bool valid = first + i < span.other;
            const u64 at = (u64)(valid ? first + i : first) * shape.heads + head;
            sums[stage * 2 * BQ + i] = valid ? lse[at] * LOG2_E : INFINITY;
            sums[stage * 2 * BQ + BQ + i] = valid ? delta[at] : 0.0f;
        }
        first += BQ;
        if (first >= span.other) first = span.first, head++;
    };
    float key_acc[1][KEYS ? D / 8 : 1][4], value_acc[1][VALUES ? D / 8 : 1][4];
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (KEYS) key_acc[0][n][i] = 0.0f;
            if (VALUES) value_acc[0][n][i] = 0.0f;
        }
    load_tile<D, 64, 128>(k_tile, k, span.first, span.end, shape.k_stride, kv_head);
    load_tile<D, 64, 128>(v_tile, v, span.first, span.end, shape.v_stride, kv_head);
    load(0);
    copies_commit();
    u32 ahead = 0;  // of the tile's first key: where its queries begin
    for (u32 step = 0; step < steps; step++) {
        const u32 stage = STAGES == 2 ? step & 1 : 0;
        if (STAGES == 2 && step + 1 < steps) load(stage ^ 1);
        copies_commit();
        if (STAGES == 2) copies_wait<1>();
        else copies_wait<0>();
        __syncthreads();
        const u32 q_tile = queries + stage * 2 * TILE, do_tile = q_tile + TILE;
        const float* of_stage = sums + stage * 2 * BQ;
        float p[1][BQ / 8][4];
        scores<D, 1, BQ>(p, k_tile, warp_row, q_tile);
#pragma unroll
        for (int n = 0; n < BQ / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const u32 column = n * 8 + (lane & 3) * 2 + (i & 1);
                p[0][n][i] = exp2_fast(p[0][n][i] * scale_log2 - of_stage[column]);
                if (ahead < 64 && warp_row + (i / 2) * 8 + lane / 4 > ahead + column) p[0][n][i] = 0.0f;
            }
        if constexpr (VALUES) weigh<D, 1, BQ>(value_acc, p, do_tile);
        if constexpr (KEYS) {
            float ds[1][BQ / 8][4];
            scores<D, 1, BQ>(ds, v_tile, warp_row, do_tile);
#pragma unroll
            for (int n = 0; n < BQ / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const u32 column = n * 8 + (lane & 3) * 2 + (i & 1);
                    ds[0][n][i] = p[0][n][i] * (ds[0][n][i] - of_stage[BQ + column]);
                }
            weigh<D, 1, BQ>(key_acc, ds, q_tile);
        }
        __syncthreads();
        ahead += BQ;
        if (span.first + ahead >= span.other) ahead = 0;
        if (STAGES == 1 && step + 1 < steps) load(0);
    }
    const float key_factor[1][2] = {{shape.scale, shape.scale}}, value_factor[1][2] = {{1.0f, 1.0f}};
    if constexpr (KEYS) store_rows<D, 1>(k_tile, warp_row, key_acc, key_factor, dk, span.first, span.end, shape.dk_stride, kv_head);
    if constexpr (VALUES) store_rows<D, 1>(v_tile, warp_row, value_acc, value_factor, dv, span.first, span.end, shape.dv_stride, kv_head);
}

// The gradient of a tile of queries: all keys that they see.
template <int D, int MT, int BC>
__device__ __forceinline__ void backward_queries(const half_t* q, const half_t* k, const half_t* v, const half_t* dout,
    const float* lse, const float* delta, const Span* spans, const Shape& shape, half_t* dq) {
    constexpr int BR = MT * 64;
    constexpr u32 TILE = BC * D * 2;
    extern __shared__ __align__(128) char shared[];
    const u32 q_tile = shared_address(shared), do_tile = q_tile + BR * D * 2, keys = do_tile + BR * D * 2;
    const Span span = spans[blockIdx.y];
    const u32 head = blockIdx.x, kv_head = head / (shape.heads / shape.kv_heads);
    const u32 warp_row = threadIdx.x / 32 * MT * 16, lane = threadIdx.x & 31;
    const u32 keys_end = min(span.end, span.first + BR);
    const float scale_log2 = shape.scale * LOG2_E;

    auto load = [&](u32 key, u32 stage) {
        load_tile<D, BC, 128>(keys + stage * 2 * TILE, k, key, keys_end, shape.k_stride, kv_head);
        load_tile<D, BC, 128>(keys + stage * 2 * TILE + TILE, v, key, keys_end, shape.v_stride, kv_head);
    };
    float acc[MT][D / 8][4], row_lse[MT][2], row_delta[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc[m][n][i] = 0.0f;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const u32 row = span.first + warp_row + m * 16 + half * 8 + lane / 4;
            const u64 at = (u64)(row < span.end ? row : span.first) * shape.heads + head;
            row_lse[m][half] = row < span.end ? lse[at] * LOG2_E : INFINITY;
            row_delta[m][half] = row < span.end ? delta[at] : 0.0f;
        }
    }
    load_tile<D, BR, 128>(q_tile, q, span.first, span.end, shape.q_stride, head);
    load_tile<D, BR, 128>(do_tile, dout, span.first, span.end, shape.dout_stride, head);
    load(span.other, 0);
    copies_commit();
    u32 stage = 0;
    for (u32 key = span.other; key < keys_end; key += BC) {
        if (STAGES == 2 && key + BC < keys_end) load(key + BC, stage ^ 1);
        copies_commit();
        if (STAGES == 2) copies_wait<1>();
        else copies_wait<0>();
        __syncthreads();
        const u32 k_tile = keys + stage * 2 * TILE, v_tile = k_tile + TILE;
        float s[MT][BC / 8][4], dp[MT][BC / 8][4];
        scores<D, MT, BC>(s, q_tile, warp_row, k_tile);
        scores<D, MT, BC>(dp, do_tile, warp_row, v_tile, forgotten_thread());
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int n = 0; n < BC / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const u32 row = span.first + warp_row + m * 16 + (i / 2) * 8 + lane / 4;
                    const u32 column = key + n * 8 + (lane & 3) * 2 + (i & 1);
                    const float p = column > row ? 0.0f : exp2_fast(s[m][n][i] * scale_log2 - row_lse[m][i / 2]);
                    s[m][n][i] = p * (dp[m][n][i] - row_delta[m][i / 2]);
                }
        weigh<D, MT, BC>(acc, s, k_tile);
        __syncthreads();
        if (STAGES == 1 && key + BC < keys_end) load(key + BC, 0);
        stage = STAGES == 2 ? stage ^ 1 : 0;
    }
    float factor[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++) factor[m][0] = factor[m][1] = shape.scale;
    store_rows<D, MT>(q_tile, warp_row, acc, factor, dq, span.first, span.end, shape.dq_stride, head);
}

// ---- kernels: tile sizes are chosen so that nothing spills

#if HEAD_DIM == 256
constexpr int FORWARD_ROWS = 1, FORWARD_KEYS = 32;    // BR = 64 · rows, BC
constexpr int QUERIES_ROWS = 1, QUERIES_KEYS = 16;
constexpr int KEYS_QUERIES = 16;                      // BQ
#else
constexpr int FORWARD_ROWS = 2, FORWARD_KEYS = 64;
constexpr int QUERIES_ROWS = STAGES, QUERIES_KEYS = 32;  // with fewer rows what Turing has of shared memory is enough
constexpr int KEYS_QUERIES = STAGES == 1 ? 32 : HEAD_DIM == 128 ? 48 : 64;
#endif

// out = softmax(scale · q·kᵀ) · v, lse = log Σ exp.
//
// grid   (heads, spans): spans of BR queries, `other` their document's first key        block  128
// in     q, k, v        shared  (BR + 2·BC) · 2·D bytes
// out    out `=`, lse `=`, overlap no input     accumulation  f32
// bound  matrix units: 4·D operations a visible pair and head
extern "C" __global__ void __launch_bounds__(128) attention_forward(const half_t* q, const half_t* k, const half_t* v,
    const Span* spans, Shape shape, half_t* out, float* lse) {
    forward<HEAD_DIM, FORWARD_ROWS, FORWARD_KEYS>(q, k, v, spans, shape, out, lse);
}

// dq = scale · dS · k with dS = P ∘ (dout·vᵀ − delta).
//
// grid   (heads, spans): spans of BR queries, `other` their document's first key        block  128
// in     q, k, v, dout, lse, delta        shared  (2·BR + STAGES·2·BC) · 2·D bytes
// out    dq `=`, overlaps no input     accumulation  f32
// bound  matrix units: 6·D operations a visible pair and head
extern "C" __global__ void __launch_bounds__(128) attention_backward_queries(const half_t* q, const half_t* k,
    const half_t* v, const half_t* dout, const float* lse, const float* delta, const Span* spans, Shape shape, half_t* dq) {
    backward_queries<HEAD_DIM, QUERIES_ROWS, QUERIES_KEYS>(q, k, v, dout, lse, delta, spans, shape, dq);
}

// dv = Pᵀ · dout and dk = scale · dSᵀ · q, summed over the queries' heads in order. With heads of 256 each has a launch of
// its own, because accumulators for both do not fit.
//
// grid   (kv_heads, spans): spans of 64 keys, `other` their document's end        block  128
// in     q, k, v, dout, lse, delta        shared  (128 + STAGES·2·BQ) · 2·D + STAGES·8·BQ bytes
// out    dk, dv `=`, overlap no input     accumulation  f32
// bound  matrix units: 8·D operations a visible pair and head
#define BACKWARD_KEYS(NAME, KEYS, VALUES)                                                                                        \
    extern "C" __global__ void __launch_bounds__(128) NAME(const half_t* q, const half_t* k, const half_t* v,                    \
        const half_t* dout, const float* lse, const float* delta, const Span* spans, Shape shape, half_t* dk, half_t* dv) {      \
        backward_keys<HEAD_DIM, KEYS_QUERIES, KEYS, VALUES>(q, k, v, dout, lse, delta, spans, shape, dk, dv);                    \
    }

#if HEAD_DIM == 256
BACKWARD_KEYS(attention_backward_keys, true, false)
BACKWARD_KEYS(attention_backward_values, false, true)
#else
BACKWARD_KEYS(attention_backward_keys, true, true)
#endif
