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

// grid   any; vectors of 8 are strided over it        block  256
// in     gate, up (packed)
// out    h `=`, may be gate or up     accumulation  none
// bound  memory: 4 bytes read, 2 written an element
extern "C" __global__ void __launch_bounds__(256) glu_forward(const half_t* gate, const half_t* up, u64 vectors, u32 act,
    half_t* h) {
    for (u64 i = blockIdx.x * 256ull + threadIdx.x; i < vectors; i += gridDim.x * 256ull) {
        float g[8], u[8];
        unpack8(load8(gate + i * 8), g);
        unpack8(load8(up + i * 8), u);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            float value, slope;
            activate(act, g[j], value, slope);
            u[j] *= value;
        }
        store8(h + i * 8, pack8(u));
    }
}

// gate becomes dh · up · act'(gate), up becomes dh · act(gate).
//
// grid   any; vectors of 8 are strided over it        block  256
// in     dh (packed)
// out    gate, up in place; dh overlaps neither     accumulation  none
// bound  memory: 6 bytes read, 4 written an element
extern "C" __global__ void __launch_bounds__(256) glu_backward(const half_t* __restrict__ dh, u64 vectors, u32 act,
    half_t* __restrict__ gate, half_t* __restrict__ up) {
    for (u64 i = blockIdx.x * 256ull + threadIdx.x; i < vectors; i += gridDim.x * 256ull) {
        float d[8], g[8], u[8];
        unpack8(load8(dh + i * 8), d);
        unpack8(load8(gate + i * 8), g);
        unpack8(load8(up + i * 8), u);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            float value, slope;
            activate(act, g[j], value, slope);
            g[j] = d[j] * u[j] * slope;
            u[j] = d[j] * value;
        }
        store8(gate + i * 8, pack8(g));
        store8(up + i * 8, pack8(u));
    }
}
