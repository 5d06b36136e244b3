// What every backward of attention begins with.

// delta_th = Σ dout · out over a head. d / 8 lanes have a head.
//
// grid   tokens        block  32·k threads; vectors of a row are strided over it
// in     dout, out [tokens, heads, d]
// out    delta `=` [tokens, heads], overlaps no input     accumulation  f32, tree
// bound  memory: 4 bytes read an element. d is 64, 128 or 256.
extern "C" __global__ void __launch_bounds__(512) attention_delta(const half_t* __restrict__ dout, u32 dout_stride,
    const half_t* __restrict__ out, u32 out_stride, u32 heads, u32 d, float* __restrict__ delta) {
    const u32 lanes = d / 8, shift = 31 - __clz(lanes), vectors = heads * lanes;
    dout += (u64)blockIdx.x * dout_stride;
    out += (u64)blockIdx.x * out_stride;
    // Whole warps go round together: lanes behind the last vector add 0.
    for (u32 first = threadIdx.x & ~31u; first < vectors; first += blockDim.x) {
        const u32 vector = first + (threadIdx.x & 31);
        float sum = 0.0f;
        if (vector < vectors) {
            float a[8], b[8];
            unpack8(load8(dout + vector * 8), a);
            unpack8(load8(out + vector * 8), b);
#pragma unroll
            for (u32 j = 0; j < 8; j++) sum += a[j] * b[j];
        }
        for (u32 lane = lanes / 2; lane > 0; lane >>= 1) sum += __shfl_xor_sync(~0u, sum, lane);
        if (vector < vectors && (vector & (lanes - 1)) == 0) delta[(u64)blockIdx.x * heads + (vector >> shift)] = sum;
    }
}
