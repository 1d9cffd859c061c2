// Sums that cross blocks: what each block left, added up in a fixed order.
#include "common.cuh"

constexpr int PARTIAL_THREADS = 256;

// into[i] += Σ_part partial[part, i], for i below len. partial: [parts, len]. A block takes 2^log2_here neighbours; as
// many threads as go into it that often share the parts of each.
extern "C" __global__ void __launch_bounds__(PARTIAL_THREADS)
add_parts(const float* partial, float* into, int parts, int len, int log2_here) {
    SHARED(double, sums, [PARTIAL_THREADS]);
    const int here = 1 << log2_here, thread = threadIdx.x, i = (blockIdx.x << log2_here) + (thread & (here - 1));
    double sum = 0.0;
    if (i < len) {
        for (int part = thread >> log2_here; part < parts; part += PARTIAL_THREADS >> log2_here) {
            sum += partial[(long long)part * len + i];
        }
    }
    sums[thread] = sum;
    for (int half = PARTIAL_THREADS / 2; half >= here; half /= 2) {
        __syncthreads();
        if (thread < half) sums[thread] += sums[thread + half];
    }
    // What is left of an element is its thread's own.
    if (thread < here && i < len) into[i] += float(sums[thread]);
}
KERNEL(add_parts)
