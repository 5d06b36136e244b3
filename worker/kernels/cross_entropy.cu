// Cross-entropy over rows of logits; the logits become their gradient. CPU reference: src/ops/cpu/cross_entropy.rs.

constexpr float LOG2_E = 1.4426950408889634f;
constexpr u32 KEPT = 6;  // vectors that a thread keeps

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// One more vector into the running largest logit and sum of exponentials.
__device__ __forceinline__ void take(const vec8& vector, float& largest, float& sum) {
    float v[8];
    unpack8(vector, v);
    float most = v[0];
#pragma unroll
    for (u32 j = 1; j < 8; j++) most = fmaxf(most, v[j]);
    if (most > largest) {
        sum *= exp2_fast((largest - most) * LOG2_E);
        largest = most;
    }
    const float shift = largest * LOG2_E;
#pragma unroll
    for (u32 j = 0; j < 8; j++) sum += exp2_fast(v[j] * LOG2_E - shift);
}

// factor · e^logit, less `scale` at the target, where that is among these eight.
__device__ __forceinline__ vec8 gradient(const vec8& vector, float shift, float factor, u32 target, float scale) {
    float v[8];
    unpack8(vector, v);
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
        v[j] = exp2_fast(v[j] * LOG2_E - shift) * factor;
        if (j == target) v[j] -= scale;
    }
    return pack8(v);
}

// loss_s = log Σ e^logit − logit[target]; logits_sv = scale · (softmax − onehot(target)).
//
// One block has a row. What fits stays in registers between the two readings; the rest is found in L2.
//
// grid   rows        block  1024
// in     targets (below vocab)
// out    logits in place (rows × vocab, row stride `stride`), loss `=`     accumulation  f32, tree
// bound  memory: 2 bytes read, 2 written an element (a second reading is L2's). vocab and stride are multiples of 8.
extern "C" __global__ void __launch_bounds__(1024) cross_entropy(const u32* __restrict__ targets, u32 vocab, float scale,
    half_t* __restrict__ logits, u32 stride, float* __restrict__ loss) {
    __shared__ float scratch[32];
    __shared__ float largest_of[32];
    half_t* row = logits + (u64)blockIdx.x * stride;
    const u32 target = targets[blockIdx.x];
    const float target_logit = to_float(row[target]);
    float largest = -INFINITY, sum = 0.0f;
    vec8 kept[KEPT];
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
        const u32 column = (i * 1024 + threadIdx.x) * 8;
        if (column < vocab) kept[i] = load8(row + column);
    }
#pragma unroll
    for (u32 i = 0; i < KEPT; i++)
        if ((i * 1024 + threadIdx.x) * 8 < vocab) take(kept[i], largest, sum);
#pragma unroll 2
    for (u32 column = (KEPT * 1024 + threadIdx.x) * 8; column < vocab; column += 1024 * 8) take(load8(row + column), largest, sum);
    const float own = largest;
    largest = warp_max(largest);
    if ((threadIdx.x & 31) == 0) largest_of[threadIdx.x >> 5] = largest;
    __syncthreads();
    largest = warp_max(largest_of[threadIdx.x & 31]);
    sum = block_sum(own == -INFINITY ? 0.0f : sum * __expf(own - largest), scratch);
    if (threadIdx.x == 0) loss[blockIdx.x] = logf(sum) - (target_logit - largest);
    const float factor = scale / sum, shift = largest * LOG2_E;
#pragma unroll 2
    for (u32 column = (KEPT * 1024 + threadIdx.x) * 8; column < vocab; column += 1024 * 8)
        store8(row + column, gradient(load8(row + column), shift, factor, target - column, scale));
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
        const u32 column = (i * 1024 + threadIdx.x) * 8;
        if (column < vocab) store8(row + column, gradient(kept[i], shift, factor, target - column, scale));
    }
}

// total += Σ loss_s, in f64, in an order that `rows` alone decides.
//
// grid   1        block  256
// in     loss (rows)
// out    total `+=`     accumulation  f64, tree
// bound  latency
extern "C" __global__ void __launch_bounds__(256) sum_losses(const float* __restrict__ loss, u32 rows, double* total) {
    __shared__ double scratch[32];
    double sum = 0.0;
    for (u32 row = threadIdx.x; row < rows; row += 256) sum += (double)loss[row];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *total += sum;
}
