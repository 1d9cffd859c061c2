// Sums that cross blocks: what each block left, added up in a fixed order.
#include "common.cuh"

constexpr int PARTIAL_THREADS = 256;

// into[i] += Σ_part partial[part, i], for i below len. partial: [parts, len].
extern "C" __global__ void __launch_bounds__(PARTIAL_THREADS)
add_parts(const float* partial, float* into, int parts, int len) {
    const int i = blockIdx.x * PARTIAL_THREADS + threadIdx.x;
    if (i >= len) return;
    double sum = 0.0;
    for (int part = 0; part < parts; ++part) sum += partial[(long long)part * len + i];
    into[i] += float(sum);
}
KERNEL(add_parts)
