// Gradient norm, clipping and AdamW over all matrices of the adapter, in one launch. Compiled without fused
// multiply-add, in the CPU's order of operations, so that codes and parameters equal its bits for the same clip factor.
// CPU reference: src/train/optimizer. Source of the 8-bit form: 8-bit Optimizers (2110.02861).

constexpr u32 NORM_CHUNK = 4096;  // elements whose squares one block sums
constexpr u32 ITEM = 256;         // elements that share a scale; one warp's work

enum Kind : u32 { BLOCKS = 0, LIKE_TORCH = 1, LIKE_BITSANDBYTES = 2 };

// One matrix: elements start.. of the adapter, items first_item.., moments state.. (elements) and scale.. (items).
struct Tensor { u64 start, state; u32 len, first_item, scale, kind; };

struct Scalars { float beta1, beta2, gain1, gain2, epsilon, root_correction2, step_size, keep; double max_norm; };

struct State { u8 *codes1, *codes2; float *absmax1, *absmax2, *first, *second; };

__device__ __forceinline__ float gradient(i64 fixed) { return (float)((double)fixed * (1.0 / 1099511627776.0)); }

// Number of midpoints below `value`: the code of the nearest entry, of two equally near the lower.
__device__ __forceinline__ u32 nearest(const float* midpoints, float value) {
    u32 code = 0;
#pragma unroll
    for (u32 step = 128; step > 0; step >>= 1) code += midpoints[code + step - 1] < value ? step : 0;
    return code;
}

__device__ __forceinline__ u32 nearest_of_same_sign(const float* map, const float* midpoints, float value) {
    const u32 code = nearest(midpoints, value);
    if ((__float_as_uint(map[code]) ^ __float_as_uint(value)) >> 31 == 0) return code;
    return value > 0.0f ? code + 1 : code - 1;
}

// bitsandbytes' step from fresh moments, decay last.
__device__ __forceinline__ float moved(const Scalars& s, float param, float m, float v) {
    const float step = s.step_size * s.root_correction2;
    const float denominator = sqrtf(v) + s.root_correction2 * s.epsilon;
    return (param - step * (m / denominator)) * s.keep;
}

__device__ __forceinline__ void update32(const Scalars& s, u32 kind, float grad, float& param, float& m, float& v) {
    if (kind == LIKE_TORCH) {
        m += s.gain1 * (grad - m);
        v = s.beta2 * v + s.gain2 * grad * grad;
        param = param * s.keep - s.step_size * (m / (sqrtf(v) / s.root_correction2 + s.epsilon));
    } else {
        m = m * s.beta1 + s.gain1 * grad;
        v = v * s.beta2 + s.gain2 * grad * grad;
        param = moved(s, param, m, v);
    }
}

// What the lookup of codes needs, in shared memory.
struct Maps { float signed_map[256], unsigned_map[256], signed_mid[256], unsigned_mid[256]; };

__device__ __forceinline__ void load_maps(Maps& maps, const float* signed_map, const float* unsigned_map) {
    for (u32 i = threadIdx.x; i < 256; i += blockDim.x) {
        maps.signed_map[i] = signed_map[i];
        maps.unsigned_map[i] = unsigned_map[i];
        maps.signed_mid[i] = i < 255 ? (signed_map[i] + signed_map[i + 1]) * 0.5f : INFINITY;
        maps.unsigned_mid[i] = i < 255 ? (unsigned_map[i] + unsigned_map[i + 1]) * 0.5f : INFINITY;
    }
}

// One warp updates one item: lane l has elements 4·l.. and 128 + 4·l...
__device__ void update_item(const Tensor& t, u32 item, const Scalars& s, const Maps& maps, float clip,
    const i64* __restrict__ sums, const State& state, float* __restrict__ params, half_t* __restrict__ rounded) {
    const u32 lane = threadIdx.x & 31, in_tensor = item * ITEM;
    float m[8], v[8], param[8];
    float most1 = 0.0f, most2 = 0.0f;
    const float old1 = t.kind == BLOCKS ? state.absmax1[t.scale + item] : 0.0f;
    const float old2 = t.kind == BLOCKS ? state.absmax2[t.scale + item] : 0.0f;
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const u32 at = in_tensor + half * 128 + lane * 4;
        if (at >= t.len) continue;
        struct alignas(16) Pair { i64 a, b; };
        const Pair* pair = reinterpret_cast<const Pair*>(sums + t.start + at);
        const Pair low = pair[0], high = pair[1];
        const float4_t p = *reinterpret_cast<const float4_t*>(params + t.start + at);
        const i64 fixed[4] = {low.a, low.b, high.a, high.b};
        const float old[4] = {p.x, p.y, p.z, p.w};
        u32 codes1 = 0, codes2 = 0;
        float4_t first = {0, 0, 0, 0}, second = {0, 0, 0, 0};
        if (t.kind == BLOCKS) {
            codes1 = *reinterpret_cast<const u32*>(state.codes1 + t.state + at);
            codes2 = *reinterpret_cast<const u32*>(state.codes2 + t.state + at);
        } else {
            first = *reinterpret_cast<const float4_t*>(state.first + t.state + at);
            second = *reinterpret_cast<const float4_t*>(state.second + t.state + at);
        }
        const float first_of[4] = {first.x, first.y, first.z, first.w};
        const float second_of[4] = {second.x, second.y, second.z, second.w};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const u32 i = half * 4 + j;
            const float grad = gradient(fixed[j]) * clip;
            param[i] = old[j];
            if (t.kind == BLOCKS) {
                m[i] = maps.signed_map[(codes1 >> (8 * j)) & 255] * old1;
                v[i] = maps.unsigned_map[(codes2 >> (8 * j)) & 255] * old2;
            } else {
                m[i] = first_of[j];
                v[i] = second_of[j];
            }
            update32(s, t.kind, grad, param[i], m[i], v[i]);
            most1 = fmaxf(most1, fabsf(m[i]));
            most2 = fmaxf(most2, fabsf(v[i]));
        }
    }
    most1 = warp_max(most1);
    most2 = warp_max(most2);
    if (t.kind == BLOCKS && lane == 0) {
        state.absmax1[t.scale + item] = most1;
        state.absmax2[t.scale + item] = most2;
    }
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const u32 at = in_tensor + half * 128 + lane * 4;
        if (at >= t.len) continue;
        const float* p = param + half * 4;
        const float* mm = m + half * 4;
        const float* vv = v + half * 4;
        *reinterpret_cast<float4_t*>(params + t.start + at) = {p[0], p[1], p[2], p[3]};
        struct alignas(8) Halves { u32 low, high; };
        *reinterpret_cast<Halves*>(rounded + t.start + at) = {pack2(p[0], p[1]), pack2(p[2], p[3])};
        if (t.kind == BLOCKS) {
            u32 codes1 = 0, codes2 = 0;
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                const u32 c1 = most1 == 0.0f ? 127 : nearest_of_same_sign(maps.signed_map, maps.signed_mid, mm[j] / most1);
                const u32 c2 = most2 == 0.0f ? 0 : nearest(maps.unsigned_mid, vv[j] / most2);
                codes1 |= c1 << (8 * j);
                codes2 |= c2 << (8 * j);
            }
            *reinterpret_cast<u32*>(state.codes1 + t.state + at) = codes1;
            *reinterpret_cast<u32*>(state.codes2 + t.state + at) = codes2;
        } else {
            *reinterpret_cast<float4_t*>(state.first + t.state + at) = {mm[0], mm[1], mm[2], mm[3]};
            *reinterpret_cast<float4_t*>(state.second + t.state + at) = {vv[0], vv[1], vv[2], vv[3]};
        }
    }
}

// Squares of a chunk, summed in f64 in an order that the chunk alone decides.
__device__ __forceinline__ double chunk_squares(const i64* __restrict__ sums, u64 len, u32 chunk, double* scratch) {
    double sum = 0.0;
#pragma unroll 4
    for (u32 i = 0; i < NORM_CHUNK / 256; i++) {
        const u64 at = (u64)chunk * NORM_CHUNK + i * 256 + threadIdx.x;
        const double grad = at < len ? (double)gradient(sums[at]) : 0.0;
        sum += grad * grad;
    }
    return block_sum(sum, scratch);
}

// All blocks have come here. `arrived` was 0 at launch.
__device__ __forceinline__ void grid_barrier(u32* arrived) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (*(volatile u32*)arrived < gridDim.x) {}
        __threadfence();
    }
    __syncthreads();
}

// norm = √Σ grad², clip = min(1, max_norm / (norm + 1e-6)) or 1 where max_norm is 0, then AdamW with grad · clip.
//
// grid   at most what is resident at once (cooperative launch)        block  256
// in     sums (fixed point, len), tensors, maps
// out    params, state in place; rounded `=` params in 16 bit; chunk_sums `=` (one f64 per 4096 elements); norm `=`;
//        arrived must be 0 and is not afterwards. No overlaps.     accumulation  f64 for the norm, fixed order
// bound  memory: 8 + 8 + 4 + 2 bytes read, 4 + 2 + 2 written an element with 8-bit state. Starts and lengths of
//        tensors are multiples of 4.
extern "C" __global__ void __launch_bounds__(256) clip_and_adamw(const i64* __restrict__ sums, u64 len,
    const Tensor* __restrict__ tensors, u32 tensor_count, u32 items, Scalars scalars,
    const float* __restrict__ signed_map, const float* __restrict__ unsigned_map, State state,
    float* __restrict__ params, half_t* __restrict__ rounded, double* chunk_sums, double* norm_out, u32* arrived) {
    __shared__ Maps maps;
    __shared__ double scratch[32];
    load_maps(maps, signed_map, unsigned_map);
    const u32 chunks = (u32)((len + NORM_CHUNK - 1) / NORM_CHUNK);
    for (u32 chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const double sum = chunk_squares(sums, len, chunk, scratch);
        if (threadIdx.x == 0) chunk_sums[chunk] = sum;
    }
    grid_barrier(arrived);
    double total = 0.0;
    for (u32 chunk = threadIdx.x; chunk < chunks; chunk += 256) total += __ldcg(chunk_sums + chunk);
    const double norm = sqrt(block_sum(total, scratch));
    if (blockIdx.x == 0 && threadIdx.x == 0) *norm_out = norm;
    const double ratio = scalars.max_norm / (norm + 1e-6);
    const float clip = scalars.max_norm <= 0.0 ? 1.0f : (float)(ratio < 1.0 ? ratio : 1.0);
    for (u32 item = blockIdx.x * 8 + (threadIdx.x >> 5); item < items; item += gridDim.x * 8) {
        u32 low = 0, high = tensor_count;
        while (high - low > 1) {
            const u32 middle = (low + high) / 2;
            if (tensors[middle].first_item <= item) low = middle;
            else high = middle;
        }
        const Tensor tensor = tensors[low];
        update_item(tensor, item - tensor.first_item, scalars, maps, clip, sums, state, params, rounded);
    }
}
