// Moves of rows: embedding, gather, scatter, copy, bias. CPU reference: src/ops/cpu/elementwise.rs.

// out_td = scale · table_vd[ids_t]; with scale 1 the bits are the table's.
//
// grid   rows        block  128
// in     table, ids (below the table's rows)
// out    out `=`, overlaps no input     accumulation  none
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) gather_rows(const half_t* __restrict__ table, u32 table_stride,
    const u32* __restrict__ ids, u32 width, float scale, half_t* __restrict__ out, u32 out_stride) {
    const half_t* from = table + (u64)ids[blockIdx.x] * table_stride;
    half_t* to = out + (u64)blockIdx.x * out_stride;
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
// in     x, rows (distinct)
// out    out `=` at those rows, overlaps no input     accumulation  none
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) scatter_rows(const half_t* __restrict__ x, u32 x_stride,
    const u32* __restrict__ rows, u32 width, half_t* __restrict__ out, u32 out_stride) {
    const half_t* from = x + (u64)blockIdx.x * x_stride;
    half_t* to = out + (u64)rows[blockIdx.x] * out_stride;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) store8(to + column, load8(from + column));
}

// out_td = 0. What lies between rows is left as it is.
//
// grid   rows        block  128
// out    out `=`     accumulation  none
// bound  memory: 2 bytes written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) clear_rows(u32 width, half_t* out, u32 out_stride) {
    half_t* to = out + (u64)blockIdx.x * out_stride;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) store8(to + column, {{0, 0, 0, 0}});
}

// to[to_row + i] = from[from_row + i].
//
// grid   rows        block  128
// in     from
// out    to `=` at those rows, overlaps no input     accumulation  none
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) copy_rows(const half_t* __restrict__ from, u32 from_stride, u32 from_row,
    u32 width, half_t* __restrict__ to, u32 to_stride, u32 to_row) {
    from += ((u64)from_row + blockIdx.x) * from_stride;
    to += ((u64)to_row + blockIdx.x) * to_stride;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) store8(to + column, load8(from + column));
}

// y_to += bias_o.
//
// grid   tokens        block  128
// in     bias (f32)
// out    y `+=`     accumulation  f32, one addition
// bound  memory: 2 bytes read, 2 written an element. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(128) add_bias(const float* __restrict__ bias, u32 width,
    half_t* __restrict__ y, u32 y_stride) {
    half_t* row = y + (u64)blockIdx.x * y_stride;
    for (u32 column = threadIdx.x * 8; column < width; column += 128 * 8) {
        float v[8];
        unpack8(load8(row + column), v);
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] += bias[column + j];
        store8(row + column, pack8(v));
    }
}
