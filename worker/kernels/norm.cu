// Root-mean-square norm over rows, forward and backward. The weight is frozen. CPU reference: src/ops/cpu/norm.rs.

// Vectors that a thread keeps in registers; the host picks a block that is wide enough.
constexpr u32 NORM_VECTORS = 2;

// rstd_t = 1/√(mean(x²) + eps), y_td = x · rstd · weight.
//
// grid   tokens        block  32·k ≤ 1024 threads with 32·k·2·8 ≥ width
// in     x (tokens × width), weight (f32)
// out    y `=`, rstd `=`; y may be x, no other overlap     accumulation  f32, tree
// bound  memory: 2 bytes read, 2 written an element
extern "C" __global__ void __launch_bounds__(1024) rms_norm_forward(const half_t* x, u32 x_stride, const float* __restrict__ weight,
    float eps, u32 width, half_t* y, u32 y_stride, float* __restrict__ rstd_t) {
    __shared__ float scratch[32];
    const half_t* row = x + (u64)blockIdx.x * x_stride;
    vec8 kept[NORM_VECTORS];
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < NORM_VECTORS; i++) {
        const u32 column = (threadIdx.x + i * blockDim.x) * 8;
        if (column >= width) break;
        kept[i] = load8(row + column);
        float v[8];
        unpack8(kept[i], v);
#pragma unroll
        for (u32 j = 0; j < 8; j++) sum += v[j] * v[j];
    }
    const float rstd = 1.0f / sqrtf(block_sum(sum, scratch) / (float)width + eps);
    if (threadIdx.x == 0) rstd_t[blockIdx.x] = rstd;
    half_t* out = y + (u64)blockIdx.x * y_stride;
#pragma unroll
    for (u32 i = 0; i < NORM_VECTORS; i++) {
        const u32 column = (threadIdx.x + i * blockDim.x) * 8;
        if (column >= width) break;
        float v[8];
        unpack8(kept[i], v);
        const float4_t* w = reinterpret_cast<const float4_t*>(weight + column);
        const float4_t w0 = w[0], w1 = w[1];
        const float weights[8] = {w0.x, w0.y, w0.z, w0.w, w1.x, w1.y, w1.z, w1.w};
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] = v[j] * rstd * weights[j];
        store8(out + column, pack8(v));
    }
}

// With g = dy · weight and x̂ = x · rstd: dx_td += rstd · (g − x̂ · mean(g · x̂)).
//
// grid   tokens        block  32·k ≤ 1024 threads with 32·k·2·8 ≥ width
// in     x, dy (tokens × width), rstd of the forward, weight (f32)
// out    dx `+=`, overlaps neither x nor dy     accumulation  f32, tree
// bound  memory: 6 bytes read, 2 written an element
extern "C" __global__ void __launch_bounds__(1024) rms_norm_backward(const half_t* __restrict__ x, u32 x_stride,
    const float* __restrict__ rstd_t, const half_t* __restrict__ dy, u32 dy_stride, const float* __restrict__ weight, u32 width,
    half_t* __restrict__ dx, u32 dx_stride) {
    __shared__ float scratch[32];
    x += (u64)blockIdx.x * x_stride;
    dy += (u64)blockIdx.x * dy_stride;
    dx += (u64)blockIdx.x * dx_stride;
    vec8 kept_x[NORM_VECTORS], kept_dx[NORM_VECTORS];
    float g[NORM_VECTORS][8];
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < NORM_VECTORS; i++) {
        const u32 column = (threadIdx.x + i * blockDim.x) * 8;
        if (column >= width) break;
        kept_x[i] = load8(x + column);
        const vec8 dy_vector = load8(dy + column);
        kept_dx[i] = load8(dx + column);
        float v[8];
        unpack8(kept_x[i], v);
        unpack8(dy_vector, g[i]);
        const float4_t* w = reinterpret_cast<const float4_t*>(weight + column);
        const float4_t w0 = w[0], w1 = w[1];
        const float weights[8] = {w0.x, w0.y, w0.z, w0.w, w1.x, w1.y, w1.z, w1.w};
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            g[i][j] *= weights[j];
            sum += g[i][j] * v[j];
        }
    }
    const float rstd = rstd_t[blockIdx.x];
    const float along = block_sum(sum, scratch) * rstd * rstd / (float)width;
#pragma unroll
    for (u32 i = 0; i < NORM_VECTORS; i++) {
        const u32 column = (threadIdx.x + i * blockDim.x) * 8;
        if (column >= width) break;
        float v[8], out[8];
        unpack8(kept_x[i], v);
        unpack8(kept_dx[i], out);
#pragma unroll
        for (u32 j = 0; j < 8; j++) out[j] += rstd * (g[i][j] - v[j] * along);
        store8(dx + column, pack8(out));
    }
}
