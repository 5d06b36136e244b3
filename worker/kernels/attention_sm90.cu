// Flash attention on Hopper: the copy engine brings tiles, wgmma multiplies. Same contract as attention.cu, whose `Span`
// and `Shape` it shares; every output has the same single order of sums, which is not attention.cu's. Compiled once a
// head size, D = HEAD_DIM, 64 or 128.
//
// A block is a warpgroup that copies and two that compute, 64 rows each. They meet at barriers in shared memory: a stage
// is full when its bytes are there and empty when every computing warp has read it.

struct Span { u32 first, end, other, shift; };
// Strides are row strides: from one token to the next.
struct Shape {
    u32 heads, kv_heads;
    float scale;
    u32 q_stride, k_stride, v_stride, out_stride, dout_stride, dq_stride, dk_stride, dv_stride;
};

constexpr float LOG2_E = 1.4426950408889634f;
constexpr u32 PANEL = 64;  // columns of a panel

__device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
}

__device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(~0u, v, 1));
    return fmaxf(v, __shfl_xor_sync(~0u, v, 2));
}

// All panels of ROWS rows.
template <int D, int ROWS>
__device__ __forceinline__ void copy_tile(u32 tile, const TensorMap* map, u32 head, u32 row, u32 barrier) {
#pragma unroll
    for (u32 panel = 0; panel < D / PANEL; panel++) copy_box(tile + panel * ROWS * 128, map, panel * PANEL, head, row, barrier);
}

// s (64 × N) = 64 rows of `a` · N rows of `b`ᵀ, summed over D. A_ROWS and N rows are in a panel.
template <int D, int A_ROWS, int N>
__device__ __forceinline__ void multiply_rows(float (&s)[N / 2], u32 a, u32 b) {
#pragma unroll
    for (u32 k = 0; k < D / 16; k++) {
        const u32 panel = k / 4, inside = k % 4 * 32;
        wgmma_rows(s, rows_descriptor(a + panel * A_ROWS * 128 + inside), rows_descriptor(b + panel * N * 128 + inside), k > 0);
    }
}

// acc (64 × D) += p (64 × N, packed pairs) · tile (N × D).
template <int D, int N>
__device__ __forceinline__ void multiply_columns(float (&acc)[D / 2], const u32 (&p)[N / 4], u32 tile) {
#pragma unroll
    for (u32 k = 0; k < N / 16; k++) {
        const u32 a[4] = {p[4 * k], p[4 * k + 1], p[4 * k + 2], p[4 * k + 3]};
        wgmma_columns(acc, a, columns_descriptor(tile + k * 16 * 128, N * 128), true);
    }
}

// Accumulators as the left operand of the next product.
template <int N>
__device__ __forceinline__ void pack(u32 (&p)[N / 4], const float (&s)[N / 2]) {
#pragma unroll
    for (u32 i = 0; i < N / 4; i++) p[i] = pack2(s[2 * i], s[2 * i + 1]);
}

// Writes 64 rows of accumulators, each row times its factor, through the warp's own 16 rows of a tile of ROWS rows.
template <int D, int ROWS>
__device__ __forceinline__ void store_rows(u32 tile, u32 warp_row, float (&acc)[D / 2], float low_factor, float high_factor,
    half_t* out, u32 first, u32 end, u32 stride, u32 head) {
    const u32 lane = threadIdx.x & 31;
#pragma unroll
    for (u32 n = 0; n < D / 8; n++)
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = warp_row + half * 8 + lane / 4;
            const u32 at = tile + n / 8 * ROWS * 128 + row * 128 + (((n % 8) ^ (row & 7)) << 4) + (lane & 3) * 4;
            const float factor = half ? high_factor : low_factor;
            const u32 pair = pack2(acc[4 * n + 2 * half] * factor, acc[4 * n + 2 * half + 1] * factor);
            asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(pair) : "memory");
        }
    __syncwarp();
#pragma unroll
    for (u32 i = 0; i < 16 * D / 8 / 32; i++) {
        const u32 item = i * 32 + lane, row = warp_row + item / (D / 8), n = item % (D / 8);
        if (first + row >= end) continue;
        const u32 at = tile + n / 8 * ROWS * 128 + row * 128 + (((n % 8) ^ (row & 7)) << 4);
        vec8 v;
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]),
            "=r"(v.word[3]) : "r"(at) : "memory");
        store8(out + (u64)(first + row) * stride + head * D + n * 8, v);
    }
}

__device__ __forceinline__ u32 align_shared(char* shared) { return (shared_address(shared) + 1023) & ~1023u; }

// ---- forward

template <int D, int BC>
__device__ __forceinline__ void forward(const TensorMap* q_map, const TensorMap* k_map, const TensorMap* v_map,
    const Span* spans, const Shape& shape, half_t* out, float* lse) {
    constexpr u32 BR = 128, KV_TILE = BC * D * 2, Q_TILE = BR * D * 2;
    extern __shared__ char shared[];
    __shared__ __align__(8) u64 barriers[9];
    const u32 q_tile = align_shared(shared), k_tiles = q_tile + Q_TILE, v_tiles = k_tiles + 2 * KV_TILE;
    const u32 q_full = shared_address(barriers), k_full = q_full + 8, v_full = q_full + 24, k_empty = q_full + 40, v_empty = q_full + 56;
    const Span span = spans[blockIdx.y];
    const u32 head = blockIdx.x;
    const u32 keys_end = min(span.end, span.first + BR) + span.shift;
    const u32 blocks = (keys_end - span.other + BC - 1) / BC;
    if (threadIdx.x == 0) {
        barrier_init(q_full, 1);
        for (u32 stage = 0; stage < 2; stage++) {
            barrier_init(k_full + 8 * stage, 1);
            barrier_init(v_full + 8 * stage, 1);
            barrier_init(k_empty + 8 * stage, 8);
            barrier_init(v_empty + 8 * stage, 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        registers_give_back<24>();
        if (threadIdx.x == 0) {
            const u32 kv_head = head / (shape.heads / shape.kv_heads);
            barrier_expect(q_full, Q_TILE);
            copy_tile<D, BR>(q_tile, q_map, head, span.first, q_full);
            for (u32 block = 0; block < blocks; block++) {
                const u32 stage = block & 1, phase = (block >> 1 & 1) ^ 1, key = span.other + block * BC;
                barrier_wait(k_empty + 8 * stage, phase);
                barrier_expect(k_full + 8 * stage, KV_TILE);
                copy_tile<D, BC>(k_tiles + stage * KV_TILE, k_map, kv_head, key, k_full + 8 * stage);
                barrier_wait(v_empty + 8 * stage, phase);
                barrier_expect(v_full + 8 * stage, KV_TILE);
                copy_tile<D, BC>(v_tiles + stage * KV_TILE, v_map, kv_head, key, v_full + 8 * stage);
            }
        }
    } else {
        registers_take<240>();
        const u32 group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x & 31;
        const u32 warp_row = group * 64 + warp * 16, first_row = span.first + warp_row + lane / 4;
        const float scale_log2 = shape.scale * LOG2_E;
        float acc[D / 2], s[BC / 2];
        u32 p[BC / 4];
        float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f}, fade[2];
#pragma unroll
        for (int i = 0; i < D / 2; i++) acc[i] = 0.0f;

        // Scores of one block of keys to their exponentials; how much what came before fades.
        auto soften = [&](u32 block) {
            const u32 key = span.other + block * BC;
            if (key + BC > span.first + warp_row + span.shift + 1) {
#pragma unroll
                for (int i = 0; i < BC / 2; i++) {
                    const u32 column = key + i / 4 * 8 + (lane & 3) * 2 + (i & 1), row = first_row + (i & 2) * 4;
                    if (column > row + span.shift) s[i] = -INFINITY;
                }
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float most = largest[half];
#pragma unroll
                for (int i = 0; i < BC / 8; i++) most = fmaxf(most, fmaxf(s[4 * i + 2 * half], s[4 * i + 2 * half + 1]));
                most = quad_max(most);
                const float shift = most == -INFINITY ? 0.0f : most * scale_log2;
                fade[half] = exp2_fast(largest[half] * scale_log2 - shift);
                largest[half] = most;
                float own = 0.0f;
#pragma unroll
                for (int i = 0; i < BC / 8; i++)
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        float& value = s[4 * i + 2 * half + j];
                        value = exp2_fast(value * scale_log2 - shift);
                        own += value;
                    }
                sum[half] = sum[half] * fade[half] + own;
            }
        };
        auto release = [&](u32 barrier) {
            if (lane == 0) barrier_arrive(barrier);
        };

        barrier_wait(q_full, 0);
        barrier_wait(k_full, 0);
        const u32 own_q = q_tile + group * 64 * 128;
        wgmma_fence();
        multiply_rows<D, BR, BC>(s, own_q, k_tiles);
        wgmma_commit();
        wgmma_wait<0>();
        pin(s);
        release(k_empty);
        soften(0);
        pack<BC>(p, s);
        for (u32 block = 1; block < blocks; block++) {
            const u32 stage = block & 1, before = stage ^ 1;
            barrier_wait(k_full + 8 * stage, block >> 1 & 1);
            wgmma_fence();
            multiply_rows<D, BR, BC>(s, own_q, k_tiles + stage * KV_TILE);
            wgmma_commit();
            barrier_wait(v_full + 8 * before, (block - 1) >> 1 & 1);
            multiply_columns<D, BC>(acc, p, v_tiles + before * KV_TILE);
            wgmma_commit();
            wgmma_wait<1>();
            pin(s);
            release(k_empty + 8 * stage);
            soften(block);
            wgmma_wait<0>();
            pin(acc);
            release(v_empty + 8 * before);
#pragma unroll
            for (int i = 0; i < D / 2; i++) acc[i] *= fade[i >> 1 & 1];
            pack<BC>(p, s);
        }
        const u32 last = (blocks - 1) & 1;
        barrier_wait(v_full + 8 * last, (blocks - 1) >> 1 & 1);
        wgmma_fence();
        multiply_columns<D, BC>(acc, p, v_tiles + last * KV_TILE);
        wgmma_commit();
        wgmma_wait<0>();
        pin(acc);
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float total = quad_sum(sum[half]);
            factor[half] = 1.0f / total;
            const u32 row = first_row + half * 8;
            if ((lane & 3) == 0 && row < span.end)
                lse[(u64)row * shape.heads + head] = largest[half] * shape.scale + __logf(total);
        }
        warpgroup_barrier(1 + group);
        store_rows<D, BR>(q_tile, warp_row, acc, factor[0], factor[1], out, span.first, span.end, shape.out_stride, head);
    }
}

// ---- backward

// Barriers of a block: one for what stays, and STAGES pairs of full and empty.
__device__ __forceinline__ void init_barriers(u32 first, u32 stages, u32 arrivals) {
    if (threadIdx.x == 0) {
        barrier_init(first, 1);
        for (u32 stage = 0; stage < stages; stage++) {
            barrier_init(first + 8 + 16 * stage, arrivals);
            barrier_init(first + 16 + 16 * stage, 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
}

__device__ __forceinline__ u32 full_barrier(u32 first, u32 stage) { return first + 8 + 16 * stage; }
__device__ __forceinline__ u32 empty_barrier(u32 first, u32 stage) { return first + 16 + 16 * stage; }

// The gradients of 128 keys and values: all queries that see them, of all heads that share them, 64 queries at a time.
template <int D, int STAGES>
__device__ __forceinline__ void backward_keys(const TensorMap* q_map, const TensorMap* k_map, const TensorMap* v_map,
    const TensorMap* do_map, const float* lse, const float* delta, const Span* spans, const Shape& shape, half_t* dk,
    half_t* dv) {
    constexpr u32 BQ = 64, BKV = 128, KV_TILE = BKV * D * 2, Q_TILE = BQ * D * 2;
    extern __shared__ char shared[];
    __shared__ __align__(8) u64 barriers[1 + 2 * STAGES];
    __shared__ float row_sums[STAGES][2][BQ];
    const u32 k_tile = align_shared(shared), v_tile = k_tile + KV_TILE, queries = v_tile + KV_TILE;
    const u32 kept = shared_address(barriers);
    const Span span = spans[blockIdx.y];
    const u32 kv_head = blockIdx.x, group_size = shape.heads / shape.kv_heads;
    const u32 tiles = (span.other - span.first + BQ - 1) / BQ;
    init_barriers(kept, STAGES, 1 + BQ);
    if (threadIdx.x < 128) {
        registers_give_back<D == 64 ? 40 : 24>();
        if (threadIdx.x == 0) {
            barrier_expect(kept, 2 * KV_TILE);
            copy_tile<D, BKV>(k_tile, k_map, kv_head, span.first, kept);
            copy_tile<D, BKV>(v_tile, v_map, kv_head, span.first, kept);
            u32 stage = 0, phase = 1;
            for (u32 head = kv_head * group_size; head < (kv_head + 1) * group_size; head++)
                for (u32 tile = 0; tile < tiles; tile++) {
                    const u32 at = queries + stage * 2 * Q_TILE, full = full_barrier(kept, stage);
                    barrier_wait(empty_barrier(kept, stage), phase);
                    barrier_expect(full, 2 * Q_TILE);
                    copy_tile<D, BQ>(at, q_map, head, span.first + tile * BQ, full);
                    copy_tile<D, BQ>(at + Q_TILE, do_map, head, span.first + tile * BQ, full);
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
        } else if (threadIdx.x >= 64) {
            u32 stage = 0, phase = 1;
            float* to = &row_sums[0][0][threadIdx.x - 64];
            for (u32 head = kv_head * group_size; head < (kv_head + 1) * group_size; head++) {
                u32 row = span.first + threadIdx.x - 64;
                for (u32 tile = 0; tile < tiles; tile++, row += BQ) {
                    const u64 at = (u64)row * shape.heads + head;
                    const float row_lse = row < span.other ? lse[at] * LOG2_E : INFINITY;
                    const float row_delta = row < span.other ? delta[at] : 0.0f;
                    barrier_wait(empty_barrier(kept, stage), phase);
                    to[stage * 2 * BQ] = row_lse;
                    to[stage * 2 * BQ + BQ] = row_delta;
                    barrier_arrive(full_barrier(kept, stage));
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
            }
        }
    } else {
        registers_take<D == 64 ? 232 : 240>();
        const u32 group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x & 31;
        const u32 warp_row = group * 64 + warp * 16, own = group * 64 * 128;
        const float scale_log2 = shape.scale * LOG2_E;
        float key_acc[D / 2], value_acc[D / 2], s[BQ / 2], dp[BQ / 2];
        u32 p[BQ / 4], ds[BQ / 4];
#pragma unroll
        for (int i = 0; i < D / 2; i++) key_acc[i] = value_acc[i] = 0.0f;
        barrier_wait(kept, 0);
        u32 stage = 0, phase = 0;
        for (u32 head = 0; head < group_size; head++)
            for (u32 tile = 0; tile < tiles; tile++) {
                const u32 q_tile = queries + stage * 2 * Q_TILE, do_tile = q_tile + Q_TILE;
                barrier_wait(full_barrier(kept, stage), phase);
                wgmma_fence();
                multiply_rows<D, BKV, BQ>(s, k_tile + own, q_tile);
                wgmma_commit();
                multiply_rows<D, BKV, BQ>(dp, v_tile + own, do_tile);
                wgmma_commit();
                wgmma_wait<1>();
                pin(s);
                const bool crosses = tile * BQ < BKV;
#pragma unroll
                for (int n = 0; n < BQ / 8; n++)
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const u32 column = n * 8 + (lane & 3) * 2 + j;
                        const float row_lse = row_sums[stage][0][column];
#pragma unroll
                        for (int half = 0; half < 2; half++) {
                            float& value = s[4 * n + 2 * half + j];
                            value = exp2_fast(value * scale_log2 - row_lse);
                            if (crosses && warp_row + half * 8 + lane / 4 > tile * BQ + column) value = 0.0f;
                        }
                    }
                pack<BQ>(p, s);
                wgmma_fence();
                multiply_columns<D, BQ>(value_acc, p, do_tile);
                wgmma_commit();
                wgmma_wait<1>();
                pin(dp);
#pragma unroll
                for (int n = 0; n < BQ / 8; n++)
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const float row_delta = row_sums[stage][1][n * 8 + (lane & 3) * 2 + j];
#pragma unroll
                        for (int half = 0; half < 2; half++)
                            dp[4 * n + 2 * half + j] = s[4 * n + 2 * half + j] * (dp[4 * n + 2 * half + j] - row_delta);
                    }
                pack<BQ>(ds, dp);
                wgmma_fence();
                multiply_columns<D, BQ>(key_acc, ds, q_tile);
                wgmma_commit();
                wgmma_wait<0>();
                pin(key_acc);
                pin(value_acc);
                if (lane == 0) barrier_arrive(empty_barrier(kept, stage));
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
        wgmma_wait<0>();
        pin(key_acc);
        pin(value_acc);
        warpgroup_barrier(1 + group);
        store_rows<D, BKV>(k_tile, warp_row, key_acc, shape.scale, shape.scale, dk, span.first, span.end, shape.dk_stride, kv_head);
        store_rows<D, BKV>(v_tile, warp_row, value_acc, 1.0f, 1.0f, dv, span.first, span.end, shape.dv_stride, kv_head);
    }
}

// The gradient of 128 queries: all keys that they see, BC at a time.
template <int D, int BC>
__device__ __forceinline__ void backward_queries(const TensorMap* q_map, const TensorMap* k_map, const TensorMap* v_map,
    const TensorMap* do_map, const float* lse, const float* delta, const Span* spans, const Shape& shape, half_t* dq) {
    constexpr u32 BR = 128, STAGES = 2, KV_TILE = BC * D * 2, Q_TILE = BR * D * 2;
    extern __shared__ char shared[];
    __shared__ __align__(8) u64 barriers[1 + 4 * STAGES];
    const u32 q_tile = align_shared(shared), do_tile = q_tile + Q_TILE, k_tiles = do_tile + Q_TILE, v_tiles = k_tiles + STAGES * KV_TILE;
    // Pairs 0 and 1 are the keys' stages, 2 and 3 the values'.
    const u32 kept = shared_address(barriers);
    const Span span = spans[blockIdx.y];
    const u32 head = blockIdx.x;
    const u32 keys_end = min(span.end, span.first + BR);
    const u32 blocks = (keys_end - span.other + BC - 1) / BC;
    init_barriers(kept, 2 * STAGES, 1);
    if (threadIdx.x < 128) {
        registers_give_back<24>();
        if (threadIdx.x == 0) {
            const u32 kv_head = head / (shape.heads / shape.kv_heads);
            barrier_expect(kept, 2 * Q_TILE);
            copy_tile<D, BR>(q_tile, q_map, head, span.first, kept);
            copy_tile<D, BR>(do_tile, do_map, head, span.first, kept);
            for (u32 block = 0; block < blocks; block++) {
                const u32 stage = block & 1, phase = (block >> 1 & 1) ^ 1, key = span.other + block * BC;
                barrier_wait(empty_barrier(kept, stage), phase);
                barrier_expect(full_barrier(kept, stage), KV_TILE);
                copy_tile<D, BC>(k_tiles + stage * KV_TILE, k_map, kv_head, key, full_barrier(kept, stage));
                barrier_wait(empty_barrier(kept, 2 + stage), phase);
                barrier_expect(full_barrier(kept, 2 + stage), KV_TILE);
                copy_tile<D, BC>(v_tiles + stage * KV_TILE, v_map, kv_head, key, full_barrier(kept, 2 + stage));
            }
        }
    } else {
        registers_take<240>();
        const u32 group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x & 31;
        const u32 warp_row = group * 64 + warp * 16, own = group * 64 * 128, first_row = span.first + warp_row + lane / 4;
        const float scale_log2 = shape.scale * LOG2_E;
        float acc[D / 2], s[BC / 2], dp[BC / 2], row_lse[2], row_delta[2];
        u32 ds[BC / 4];
#pragma unroll
        for (int i = 0; i < D / 2; i++) acc[i] = 0.0f;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const u32 row = first_row + half * 8;
            const u64 at = (u64)row * shape.heads + head;
            row_lse[half] = row < span.end ? lse[at] * LOG2_E : INFINITY;
            row_delta[half] = row < span.end ? delta[at] : 0.0f;
        }
        barrier_wait(kept, 0);
        for (u32 block = 0; block < blocks; block++) {
            const u32 stage = block & 1, phase = block >> 1 & 1, key = span.other + block * BC;
            barrier_wait(full_barrier(kept, stage), phase);
            wgmma_fence();
            multiply_rows<D, BR, BC>(s, q_tile + own, k_tiles + stage * KV_TILE);
            wgmma_commit();
            barrier_wait(full_barrier(kept, 2 + stage), phase);
            multiply_rows<D, BR, BC>(dp, do_tile + own, v_tiles + stage * KV_TILE);
            wgmma_commit();
            wgmma_wait<1>();
            pin(s);
            const bool crosses = key + BC > span.first + warp_row + 1;
#pragma unroll
            for (int i = 0; i < BC / 2; i++) {
                s[i] = exp2_fast(s[i] * scale_log2 - row_lse[i >> 1 & 1]);
                const u32 column = key + i / 4 * 8 + (lane & 3) * 2 + (i & 1), row = first_row + (i & 2) * 4;
                if (crosses && column > row) s[i] = 0.0f;
            }
            wgmma_wait<0>();
            pin(dp);
            if (lane == 0) barrier_arrive(empty_barrier(kept, 2 + stage));
#pragma unroll
            for (int i = 0; i < BC / 2; i++) s[i] *= dp[i] - row_delta[i >> 1 & 1];
            pack<BC>(ds, s);
            wgmma_fence();
            multiply_columns<D, BC>(acc, ds, k_tiles + stage * KV_TILE);
            wgmma_commit();
            wgmma_wait<0>();
            pin(acc);
            if (lane == 0) barrier_arrive(empty_barrier(kept, stage));
        }
        warpgroup_barrier(1 + group);
        store_rows<D, BR>(q_tile, warp_row, acc, shape.scale, shape.scale, dq, span.first, span.end, shape.dq_stride, head);
    }
}

// ---- kernels

constexpr u32 KEYS_STAGES = 3;

// out = softmax(scale · q·kᵀ) · v, lse = log Σ exp.
//
// grid   (heads, spans): spans of 128 queries, `other` their document's first key        block  384
// in     q, k, v as tensor maps (columns, heads, tokens), boxes of 64 × 1 × 128
// out    out `=`, lse `=`, overlap no input     accumulation  f32
// bound  matrix units: 4·D operations a visible pair and head
// shared 1024 + 640 · 2·D bytes
extern "C" __global__ void __launch_bounds__(384, 1) attention_forward(const __grid_constant__ TensorMap q,
    const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const Span* spans, Shape shape, half_t* out,
    float* lse) {
    forward<HEAD_DIM, 128>(&q, &k, &v, spans, shape, out, lse);
}

// dq = scale · dS · k with dS = P ∘ (dout·vᵀ − delta).
//
// grid   (heads, spans): spans of 128 queries, `other` their document's first key        block  384
// in     q, k, v, dout as tensor maps, boxes of 64 × 1 × 128; lse, delta
// out    dq `=`, overlaps no input     accumulation  f32
// bound  matrix units: 6·D operations a visible pair and head
// shared 1024 + 768 · 2·D bytes
extern "C" __global__ void __launch_bounds__(384, 1) attention_backward_queries(const __grid_constant__ TensorMap q,
    const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap dout,
    const float* lse, const float* delta, const Span* spans, Shape shape, half_t* dq) {
    backward_queries<HEAD_DIM, 128>(&q, &k, &v, &dout, lse, delta, spans, shape, dq);
}

// dv = Pᵀ · dout and dk = scale · dSᵀ · q, summed over the queries' heads in order.
//
// grid   (kv_heads, spans): spans of 128 keys, `other` their document's end        block  384
// in     k, v as tensor maps, boxes of 64 × 1 × 128; q, dout, boxes of 64 × 1 × 64; lse, delta
// out    dk, dv `=`, overlap no input     accumulation  f32
// bound  matrix units: 8·D operations a visible pair and head
// shared 1024 + 640 · 2·D bytes
extern "C" __global__ void __launch_bounds__(384, 1) attention_backward_keys(const __grid_constant__ TensorMap q,
    const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap dout,
    const float* lse, const float* delta, const Span* spans, Shape shape, half_t* dk, half_t* dv) {
    backward_keys<HEAD_DIM, KEYS_STAGES>(&q, &k, &v, &dout, lse, delta, spans, shape, dk, dv);
}
