// Moves of rows: embedding, gather, scatter, bias. CPU reference: src/ops/cpu/elementwise.rs.

// out_td = scale · table_vd[ids_t]; with scale 1 the bits are the table's.
//
// grid   rows        block  128
// in     table (packed), ids (below the table's rows)
// out    out `=` (packed), overlaps no input     accumulation  none
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) gather_rows(const half_t* __restrict__ table,
    const u32* __restrict__ ids, u32 width, float scale, half_t* __restrict__ out) {
    const half_t* from = table + (u64)ids[blockIdx.x] * width;
    half_t* to = out + (u64)blockIdx.x * width;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) {
        vec8 v = load8(from + column);
        if (scale != 1.0f) {
            float values[8];
            unpack8(v, values);
#pragma unroll
            for (u32 j = 0; j < 8; j++) values[j] *= scale;
            v = pack8(values);
        }
        store8(to + column, v);
    }
}

// out_td[rows_s] = x_sd. The other rows are left as they are: the caller has set them to 0.
//
// grid   rows        block  128
// in     x (packed), rows (distinct)
// out    out `=` at those rows, overlaps no input     accumulation  none
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) scatter_rows(const half_t* __restrict__ x,
    const u32* __restrict__ rows, u32 width, half_t* __restrict__ out) {
    const half_t* from = x + (u64)blockIdx.x * width;
    half_t* to = out + (u64)rows[blockIdx.x] * width;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) store8(to + column, load8(from + column));
}

// y_to += bias_o.
//
// grid   tokens        block  128
// in     bias (f32)
// out    y `+=` (packed)     accumulation  f32, one addition
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) add_bias(const float* __restrict__ bias, u32 width,
    half_t* __restrict__ y) {
    half_t* row = y + (u64)blockIdx.x * width;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) {
        float v[8];
        unpack8(load8(row + column), v);
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] += bias[column + j];
        store8(row + column, pack8(v));
    }
}
