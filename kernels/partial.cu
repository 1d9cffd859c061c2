// Sums that cross blocks: what each block left, added up in a fixed order.
#include "common.cuh"

// A block adds up PARTIAL_WIDTH neighbours; its warps share the parts, of which there may be hundreds.
constexpr int PARTIAL_WIDTH = WARP, PARTIAL_WARPS = 8, PARTIAL_THREADS = PARTIAL_WARPS * PARTIAL_WIDTH;

// into[i] += Σ_part partial[part, i], for i below len. partial: [parts, len].
extern "C" __global__ void __launch_bounds__(PARTIAL_THREADS)
add_parts(const float* partial, float* into, int parts, int len) {
    SHARED(double, of_warp, [PARTIAL_WARPS][PARTIAL_WIDTH]);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, i = blockIdx.x * PARTIAL_WIDTH + lane;
    double sum = 0.0;
    if (i < len) {
#pragma unroll 4
        for (int part = warp; part < parts; part += PARTIAL_WARPS) sum += partial[(long long)part * len + i];
    }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || i >= len) return;
    for (int w = 1; w < PARTIAL_WARPS; ++w) sum += of_warp[w][lane];
    into[i] += float(sum);
}
KERNEL(add_parts)
