// Moves of rows: embedding, gather, scatter, copy, bias; and the largest element of a row. CPU reference: src/ops/cpu/elementwise.rs.

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

// The larger of two, of equal ones the one further in front.
__device__ __forceinline__ void keep_larger(float& value, u32& at, float other, u32 other_at) {
    if (other > value || (other == value && other_at < at)) value = other, at = other_at;
}

__device__ __forceinline__ void warp_largest(float& value, u32& at) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) {
        const float other = __shfl_xor_sync(~0u, value, lane);
        keep_larger(value, at, other, __shfl_xor_sync(~0u, at, lane));
    }
}

// found[0] = where the largest element of the row is, of equal ones the first; found[1] = whether one is not finite.
//
// grid   1        block  1024
// in     row (width elements)
// out    found `=`, overlaps no input     accumulation  none
// bound  latency: 2 bytes read an element by one block. width is a multiple of 8.
extern "C" __global__ void __launch_bounds__(1024) likeliest(const half_t* __restrict__ row, u32 width, u32* __restrict__ found) {
    __shared__ float values[32];
    __shared__ u32 places[32];
    float value = -INFINITY;
    u32 at = ~0u;
    bool finite = true;
    for (u32 column = threadIdx.x * 8; column < width; column += 1024 * 8) {
        float v[8];
        unpack8(load8(row + column), v);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            finite = finite && fabsf(v[j]) < INFINITY;
            keep_larger(value, at, v[j], column + j);
        }
    }
    const u32 warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    warp_largest(value, at);
    if (lane == 0) values[warp] = value, places[warp] = at;
    const int all_finite = __syncthreads_and(finite);
    if (warp == 0) {
        value = values[lane];
        at = places[lane];
        warp_largest(value, at);
        if (lane == 0) found[0] = at, found[1] = !all_finite;
    }
}
