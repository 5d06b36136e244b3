// Gradients as 64-bit integers, and digests of integers. CPU reference: src/train/fixed_point.rs, src/checkpoint/state.rs and
// common/src/sum_digest.rs.

constexpr float FIXED_LIMIT = 2048.0f;              // 2^11: what is larger does not fit
constexpr double FIXED_SCALE = 1099511627776.0;     // 2^40

// Σ value · key mod 2^128, and counts of what did not fit. Adding is exact, so no order matters.
struct Digest { u64 low, high, non_finite, overflow; };

__device__ __forceinline__ u64 position_key(u64 position) {
    u64 z = (position + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (z ^ (z >> 31)) | 1;
}

__device__ __forceinline__ void add128(u64& low, u64& high, u64 add_low, u64 add_high) {
    low += add_low;
    high += add_high + (low < add_low);
}

__device__ __forceinline__ void plus(Digest& a, const Digest& b) {
    add128(a.low, a.high, b.low, b.high);
    a.non_finite += b.non_finite;
    a.overflow += b.overflow;
}

__device__ __forceinline__ Digest warp_plus(Digest d) {
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) {
        const Digest other = {__shfl_xor_sync(~0u, d.low, lane), __shfl_xor_sync(~0u, d.high, lane),
            __shfl_xor_sync(~0u, d.non_finite, lane), __shfl_xor_sync(~0u, d.overflow, lane)};
        plus(d, other);
    }
    return d;
}

__device__ __forceinline__ Digest block_plus(Digest d, Digest* scratch) {
    d = warp_plus(d);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = d;
    __syncthreads();
    const Digest none = {0, 0, 0, 0};
    return warp_plus((threadIdx.x & 31) < (blockDim.x >> 5) ? scratch[threadIdx.x & 31] : none);
}

__device__ __forceinline__ i64 to_fixed(float grad, Digest& digest) {
    const bool fits = fabsf(grad) < FIXED_LIMIT;
    if (!fits) {
        if (fabsf(grad) < INFINITY) digest.overflow++;
        else digest.non_finite++;
    }
    return fits ? __double2ll_rn((double)grad * FIXED_SCALE) : 0;
}

__device__ __forceinline__ void mix(i64 value, u64 position, Digest& digest) {
    const u64 key = position_key(position);
    add128(digest.low, digest.high, (u64)value * key, __umul64hi((u64)value, key) - (value < 0 ? key : 0));
}

// The integer of one gradient, and its part of the digest.
__device__ __forceinline__ i64 term(float grad, u64 position, Digest& digest) {
    const i64 value = to_fixed(grad, digest);
    mix(value, position, digest);
    return value;
}

// sums[offset + i] += round(grads[i] · unscale · 2^40), halves to even; what does not fit adds 0 and is counted. partial[block]
// is the digest of what this block added.
//
// Sums may lie in host memory: a warp writes whole lines, because the bus carries parts of them one by one.
//
// grid   any (≤ 1024, one partial each); pairs are strided over it        block  256
// in     grads (f32), unscale (a power of two)
// out    sums `+=` (16-byte aligned; offset and len are multiples of 4), partial `=`     accumulation  exact integers
// bound  memory: 12 bytes read, 8 written an element
extern "C" __global__ void __launch_bounds__(256) accumulate_fixed(const float* __restrict__ grads, float unscale,
    u64 offset, u64 len, i64* __restrict__ sums, Digest* __restrict__ partial) {
    __shared__ Digest scratch[32];
    Digest digest = {0, 0, 0, 0};
    struct alignas(16) Pair { i64 a, b; };
    struct alignas(8) Grads { float a, b; };
    // Two pairs at a time, each beside its neighbours' in the warp.
    const u64 pairs = len / 2, step = gridDim.x * 512ull;
    for (u64 first = blockIdx.x * 512ull + (threadIdx.x / 32) * 64 + (threadIdx.x & 31); first < pairs; first += step) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const u64 pair = first + 32 * i;
            if (pair >= pairs) break;
            const Grads grad = reinterpret_cast<const Grads*>(grads)[pair];
            Pair* at = reinterpret_cast<Pair*>(sums + offset) + pair;
            Pair sum = *at;
            sum.a += term(grad.a * unscale, offset + 2 * pair, digest);
            sum.b += term(grad.b * unscale, offset + 2 * pair + 1, digest);
            *at = sum;
        }
    }
    digest = block_plus(digest, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = digest;
}

// total += Σ partial.
//
// grid   1        block  256
// in     partial (`count` of them)
// out    total `+=`     accumulation  exact integers
// bound  latency
extern "C" __global__ void __launch_bounds__(256) sum_digests(const Digest* __restrict__ partial, u32 count,
    Digest* total) {
    __shared__ Digest scratch[32];
    Digest digest = {0, 0, 0, 0};
    for (u32 i = threadIdx.x; i < count; i += 256) plus(digest, partial[i]);
    digest = block_plus(digest, scratch);
    if (threadIdx.x == 0) plus(*total, digest);
}

// sums += staged, staged = 0; the same with their digests.
//
// grid   any; pairs are strided over it        block  256
// out    sums, total `+=`, staged, staged_total 0 afterwards (16-byte aligned, len even, no overlap)
//        accumulation  exact integers
// bound  memory: 16 bytes read, 16 written an element
extern "C" __global__ void __launch_bounds__(256) absorb_sums(i64* __restrict__ sums, i64* __restrict__ staged, u64 len,
    Digest* total, Digest* staged_total) {
    struct alignas(16) Pair { i64 a, b; };
    Pair* to = reinterpret_cast<Pair*>(sums);
    Pair* from = reinterpret_cast<Pair*>(staged);
    for (u64 pair = blockIdx.x * 256ull + threadIdx.x; pair < len / 2; pair += gridDim.x * 256ull) {
        const Pair more = from[pair];
        Pair sum = to[pair];
        sum.a += more.a;
        sum.b += more.b;
        to[pair] = sum;
        from[pair] = {0, 0};
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        plus(*total, *staged_total);
        *staged_total = {0, 0, 0, 0};
    }
}

// Bytes of an array, whose first word has this position in it. A multiple of 4 at a multiple of 4.
struct Piece { const u32* from; u64 position, bytes; };

// partial[piece] = digest of the piece, taken as little-endian words of 64 bits; half a word at the end is filled with zeros.
//
// grid   pieces        block  256
// in     what the pieces name
// out    partial `=`     accumulation  exact integers
// bound  memory: 1 byte read a byte
extern "C" __global__ void __launch_bounds__(256) digest_pieces(const Piece* __restrict__ pieces,
    Digest* __restrict__ partial) {
    __shared__ Digest scratch[32];
    const Piece piece = pieces[blockIdx.x];
    const u32 halves = (u32)(piece.bytes / 4);
    Digest digest = {0, 0, 0, 0};
#pragma unroll 4
    for (u32 half = threadIdx.x * 2; half < halves; half += 512) {
        const u64 low = piece.from[half], high = half + 1 < halves ? piece.from[half + 1] : 0;
        mix((i64)(high << 32 | low), piece.position + half / 2, digest);
    }
    digest = block_plus(digest, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = digest;
}

// digests[range] = Σ partial[firsts[range] .. firsts[range + 1]].
//
// grid   ranges        block  128
// in     partial, firsts (one more than ranges, ascending)
// out    digests `=`     accumulation  exact integers
// bound  latency
extern "C" __global__ void __launch_bounds__(128) sum_pieces(const Digest* __restrict__ partial,
    const u32* __restrict__ firsts, Digest* __restrict__ digests) {
    __shared__ Digest scratch[32];
    Digest digest = {0, 0, 0, 0};
    for (u32 piece = firsts[blockIdx.x] + threadIdx.x; piece < firsts[blockIdx.x + 1]; piece += 128) plus(digest, partial[piece]);
    digest = block_plus(digest, scratch);
    if (threadIdx.x == 0) digests[blockIdx.x] = digest;
}
