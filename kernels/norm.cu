// The statistics of planes, from the parts that the blocks of another kernel left. One block a plane.
#include "norm.cuh"

// So many blocks on a multiprocessor leave each thread 64 registers; left to itself, nvcc spills some.
constexpr int NORM_THREADS = 64, NORM_BLOCKS = 16;

// partial: [planes, parts, 3], count, mean and sum of squared deviations of each part; stats: [planes, 2], mean and
// 1/√(variance + ε).
extern "C" __global__ void __launch_bounds__(NORM_THREADS, NORM_BLOCKS)
norm_stats(const float* partial, float* stats, int parts) {
    const int plane = blockIdx.x, thread = threadIdx.x;
    const float* of_plane = partial + 3ll * parts * plane;
    Moments mine = {0.0, 0.0, 0.0};
    for (int part = thread; part < parts; part += NORM_THREADS) {
        const float* p = of_plane + 3 * part;
        mine = join(mine, Moments{p[0], p[1], p[2]});
    }
    mine = block_join(mine);
    if (thread != 0) return;
    stats[2 * plane] = float(mine.mean);
    stats[2 * plane + 1] = float(1.0 / sqrt(mine.squares / mine.count + NORM_EPSILON));
}
KERNEL(norm_stats)

// partial: [planes, parts, 2], sums of g and of g·x̂ over each part; sums: [planes, 2], their means over the plane.
extern "C" __global__ void __launch_bounds__(NORM_THREADS, NORM_BLOCKS)
gradient_means(const float* partial, float* sums, int parts, int pixels) {
    const int plane = blockIdx.x;
    const float* of_plane = partial + 2ll * parts * plane;
    double g = 0.0, gx = 0.0;
    for (int part = threadIdx.x; part < parts; part += NORM_THREADS) {
        g += of_plane[2 * part];
        gx += of_plane[2 * part + 1];
    }
    g = block_sum(g);
    gx = block_sum(gx);
    if (threadIdx.x != 0) return;
    sums[2 * plane] = float(g / pixels);
    sums[2 * plane + 1] = float(gx / pixels);
}
KERNEL(gradient_means)
