// Rotary position embedding of queries and keys in one launch, in place. CPU reference: src/ops/cpu/rope.rs.

// Element e of a head's first half turns with element e + half: (a, b) → (a·cos − b·sin, b·cos + a·sin). The gradient
// turns the other way: `direction` is 1 forward, −1 backward.
//
// grid   tokens        block  any; (q_heads + k_heads) · half / 8 items are strided over it
// in     cos_t, sin_t (tokens × half, f32)
// out    q (tokens × q_heads × 2·half), k (tokens × k_heads × 2·half), in place, no overlap     accumulation  none
// bound  memory: 2 bytes read, 2 written an element. half is a multiple of 8.
extern "C" __global__ void rope(half_t* __restrict__ q, u32 q_stride, half_t* __restrict__ k, u32 k_stride,
    const float* __restrict__ cos_t, const float* __restrict__ sin_t, u32 q_heads, u32 k_heads, u32 half, float direction) {
    const u32 vectors = half / 8;
    const u64 token = blockIdx.x;
    for (u32 item = threadIdx.x; item < (q_heads + k_heads) * vectors; item += blockDim.x) {
        const u32 head = item / vectors, column = (item - head * vectors) * 8;
        half_t* low = head < q_heads ? q + token * q_stride + head * 2 * half + column
                                     : k + token * k_stride + (head - q_heads) * 2 * half + column;
        float a[8], b[8], c[8], s[8];
        unpack8(load8(low), a);
        unpack8(load8(low + half), b);
        const float4_t* cos4 = reinterpret_cast<const float4_t*>(cos_t + token * half + column);
        const float4_t* sin4 = reinterpret_cast<const float4_t*>(sin_t + token * half + column);
        *reinterpret_cast<float4_t*>(c) = cos4[0];
        *reinterpret_cast<float4_t*>(c + 4) = cos4[1];
        *reinterpret_cast<float4_t*>(s) = sin4[0];
        *reinterpret_cast<float4_t*>(s + 4) = sin4[1];
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const float sine = direction * s[j], x = a[j], y = b[j];
            a[j] = x * c[j] - y * sine;
            b[j] = y * c[j] + x * sine;
        }
        store8(low, pack8(a));
        store8(low + half, pack8(b));
    }
}
