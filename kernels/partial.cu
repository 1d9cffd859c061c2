// Sums that cross blocks: what each block left, added up in a fixed order.
#include "common.cuh"

constexpr int PARTIAL_THREADS = 256;

// Of the block that is number `block` of a sum: into[i] += Σ_part partial[part, i], for i below len. partial: [parts, len].
// A block takes 2^log2_here neighbours; as many threads as go into it that often share the parts of each, which wait for one
// another in the end: few parts are one thread's.
__device__ __forceinline__ void add_neighbours(const float* partial, float* into, int parts, int len, int log2_here,
                                               int block) {
    SHARED(double, sums, [PARTIAL_THREADS]);
    const int here = 1 << log2_here, thread = threadIdx.x, i = (block << log2_here) + (thread & (here - 1));
    double sum = 0.0;
    if (i < len) {
        const int first = thread >> log2_here, step = PARTIAL_THREADS >> log2_here;
        const float* at = partial + (long long)first * len + i;
        for (int part = first; part < parts; part += step, at += (long long)step * len) sum += *at;
    }
    sums[thread] = sum;
    for (int half = PARTIAL_THREADS / 2; half >= here; half /= 2) {
        __syncthreads();
        if (thread < half) sums[thread] += sums[thread + half];
    }
    // What is left of an element is its thread's own.
    if (thread < here && i < len) into[i] += float(sums[thread]);
}

extern "C" __global__ void __launch_bounds__(PARTIAL_THREADS)
add_parts(const float* partial, float* into, int parts, int len, int log2_here) {
    await_inputs();
    add_neighbours(partial, into, parts, len, log2_here, blockIdx.x);
}
KERNEL(add_parts)

// Sums of a launch, each with its first block.
constexpr int MOST_SUMS = 32;
struct Sums {
    const float* partial[MOST_SUMS];
    float* into[MOST_SUMS];
    int parts[MOST_SUMS], len[MOST_SUMS], log2_here[MOST_SUMS], first_block[MOST_SUMS], count;
};
DESCRIBE(Sums, partial, into, parts, len, log2_here, first_block, count)

// The same for many sums, that many launches would wait for one another.
extern "C" __global__ void __launch_bounds__(PARTIAL_THREADS)
add_all_parts(const __grid_constant__ Sums sums) {
    await_inputs();
    const int of = last_begun(sums.first_block, sums.count, blockIdx.x);
    add_neighbours(sums.partial[of], sums.into[of], sums.parts[of], sums.len[of], sums.log2_here[of],
                   blockIdx.x - sums.first_block[of]);
}
KERNEL(add_all_parts)
