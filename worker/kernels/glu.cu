// Gated linear units: h = act(gate) · up. CPU reference: src/ops/cpu/glu.rs.

constexpr u32 SILU = 0;  // x · sigmoid(x); 1 is GELU's tanh form

// Value and slope of the activation.
__device__ __forceinline__ void activate(u32 act, float x, float& value, float& slope) {
    if (act == SILU) {
        const float sigmoid = 1.0f / (1.0f + __expf(-x));
        value = x * sigmoid;
        slope = sigmoid * (1.0f + x * (1.0f - sigmoid));
    } else {
        const float inner = 0.7978846f * (x + 0.044715f * x * x * x);
        const float tanh = 1.0f - 2.0f / (1.0f + __expf(2.0f * inner));
        value = 0.5f * x * (1.0f + tanh);
        slope = 0.5f * (1.0f + tanh) + 0.5f * x * (1.0f - tanh * tanh) * 0.7978846f * (1.0f + 3.0f * 0.044715f * x * x);
    }
}

// grid   (any, ceil(vectors / 256)); rows are strided over x, a row has `vectors` vectors of 8        block  256
// in     gate, up (rows × 8·vectors)
// out    h `=`, may be gate or up, no other overlap     accumulation  none
// bound  memory: 4 bytes read, 2 written an element
extern "C" __global__ void __launch_bounds__(256) glu_forward(const half_t* gate, u32 gate_stride, const half_t* up,
    u32 up_stride, u32 rows, u32 vectors, u32 act, half_t* h, u32 h_stride) {
    const u32 vector = blockIdx.y * 256 + threadIdx.x;
    if (vector >= vectors) return;
    for (u32 row = blockIdx.x; row < rows; row += gridDim.x) {
        float g[8], u[8];
        unpack8(load8(gate + (u64)row * gate_stride + vector * 8), g);
        unpack8(load8(up + (u64)row * up_stride + vector * 8), u);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            float value, slope;
            activate(act, g[j], value, slope);
            u[j] *= value;
        }
        store8(h + (u64)row * h_stride + vector * 8, pack8(u));
    }
}

// gate becomes dh · up · act'(gate), up becomes dh · act(gate), dh becomes h = act(gate) · up, as glu_forward makes it.
//
// grid   (any, ceil(vectors / 256)); rows are strided over x, a row has `vectors` vectors of 8        block  256
// out    dh, gate, up (rows × 8·vectors) in place; none of the three overlap     accumulation  none
// bound  memory: 6 bytes read, 6 written an element
extern "C" __global__ void __launch_bounds__(256) glu_backward(half_t* __restrict__ dh, u32 dh_stride, u32 rows, u32 vectors,
    u32 act, half_t* __restrict__ gate, u32 gate_stride, half_t* __restrict__ up, u32 up_stride) {
    const u32 vector = blockIdx.y * 256 + threadIdx.x;
    if (vector >= vectors) return;
    for (u32 row = blockIdx.x; row < rows; row += gridDim.x) {
        half_t* gate_at = gate + (u64)row * gate_stride + vector * 8;
        half_t* up_at = up + (u64)row * up_stride + vector * 8;
        float d[8], g[8], u[8];
        half_t* dh_at = dh + (u64)row * dh_stride + vector * 8;
        unpack8(load8(dh_at), d);
        unpack8(load8(gate_at), g);
        unpack8(load8(up_at), u);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            float value, slope;
            activate(act, g[j], value, slope);
            g[j] = d[j] * u[j] * slope;
            const float h = u[j] * value;
            u[j] = d[j] * value;
            d[j] = h;
        }
        store8(dh_at, pack8(d));
        store8(gate_at, pack8(g));
        store8(up_at, pack8(u));
    }
}
