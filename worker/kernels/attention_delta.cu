// What every backward of attention begins with.

// delta_th = Σ dout · out over a head. d / 8 lanes have a head.
//
// grid   ceil(tokens · heads · d / 8 / 256)        block  256
// in     dout, out [tokens, heads, d]; rows = tokens · heads
// out    delta `=`, overlaps no input     accumulation  f32, tree
// bound  memory: 4 bytes read an element. d is 64, 128 or 256.
extern "C" __global__ void __launch_bounds__(256) attention_delta(const half_t* __restrict__ dout,
    const half_t* __restrict__ out, u32 rows, u32 d, float* __restrict__ delta) {
    const u64 vector = blockIdx.x * 256ull + threadIdx.x;
    const u32 lanes = d / 8;
    const u64 row = vector / lanes;
    float sum = 0.0f;
    if (row < rows) {
        float a[8], b[8];
        unpack8(load8(dout + vector * 8), a);
        unpack8(load8(out + vector * 8), b);
#pragma unroll
        for (u32 j = 0; j < 8; j++) sum += a[j] * b[j];
    }
    for (u32 lane = lanes / 2; lane > 0; lane >>= 1) sum += __shfl_xor_sync(~0u, sum, lane);
    if (row < rows && vector % lanes == 0) delta[row] = sum;
}
