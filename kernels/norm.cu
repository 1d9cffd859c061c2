// The statistics of planes, from the parts that the blocks of another kernel left. One block a plane.
//
// There are hundreds of these launches in a step, each with next to nothing to do: what they take is how often they wait.
// So a thread asks for all of its parts at once, sums have no division in them, and sums that are known together are
// added up together.
#include "norm.cuh"

constexpr int NORM_THREADS = 256;
// Parts that a thread has on the way at a time: 1024 of a block, where a plane of 640 x 368 pixels has 960.
constexpr int NORM_AT_ONCE = 4;

// Calls `add(values)` for every part of this thread, in order. partial: [parts, WIDTH].
template <int WIDTH, class Add>
__device__ __forceinline__ void each_part(const float* partial, int parts, Add add) {
    for (int first = threadIdx.x; first < parts; first += NORM_THREADS * NORM_AT_ONCE) {
        float values[NORM_AT_ONCE][WIDTH] = {};
#pragma unroll
        for (int i = 0; i < NORM_AT_ONCE; ++i) {
            const int part = first + i * NORM_THREADS;
#pragma unroll
            for (int k = 0; k < WIDTH; ++k)
                if (part < parts) values[i][k] = partial[WIDTH * part + k];
        }
        // A part that there is not is 0 throughout, and adds that.
#pragma unroll
        for (int i = 0; i < NORM_AT_ONCE; ++i) add(values[i]);
    }
}

// Each over the block, in every thread, by the same tree each time. All threads of the block must call it.
template <int N> __device__ __forceinline__ void block_sums(double (&values)[N]) {
    SHARED(double, of_warp, [N][NORM_THREADS / WARP]);
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
#pragma unroll
        for (int n = 0; n < N; ++n) values[n] += __shfl_xor_sync(ALL_LANES, values[n], lanes);
    __syncthreads();  // sums before these may still be read
#pragma unroll
    for (int n = 0; n < N; ++n)
        if (threadIdx.x % WARP == 0) of_warp[n][threadIdx.x / WARP] = values[n];
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n) {
        values[n] = 0.0;
#pragma unroll
        for (int warp = 0; warp < int(NORM_THREADS / WARP); ++warp) values[n] += of_warp[n][warp];
    }
}

// partial: [planes, parts, 3], count, mean and sum of squared deviations of each part; stats: [planes, 2], mean and
// 1/√(variance + ε). With counts n, means m and squares s of parts, the mean is Σn·m / Σn, and the squares about it are
// Σ(s + n·(m − mean)²): nothing cancels, as the mean is known when deviations from it are squared.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
norm_stats(const float* partial, float* stats, int parts) {
    await_inputs();
    const int plane = blockIdx.x;
    const float* of_plane = partial + 3ll * parts * plane;
    double sums[2] = {};  // of counts, of values
    each_part<3>(of_plane, parts, [&](const float (&part)[3]) {
        sums[0] += part[0];
        sums[1] += double(part[0]) * part[1];
    });
    block_sums(sums);
    const double count = sums[0], mean = sums[1] / count;
    double squares[1] = {};
    each_part<3>(of_plane, parts, [&](const float (&part)[3]) {
        const double deviation = part[1] - mean;
        squares[0] += part[2] + part[0] * (deviation * deviation);
    });
    block_sums(squares);
    if (threadIdx.x != 0) return;
    stats[2 * plane] = float(mean);
    stats[2 * plane + 1] = float(1.0 / sqrt(squares[0] / count + NORM_EPSILON));
}
KERNEL(norm_stats)

// partial: [planes, parts, 2], sums of g and of g·x̂ over each part; sums: [planes, 2], their means over the plane.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
gradient_means(const float* partial, float* sums, int parts, int pixels) {
    await_inputs();
    const int plane = blockIdx.x;
    double both[2] = {};
    each_part<2>(partial + 2ll * parts * plane, parts, [&](const float (&part)[2]) {
        both[0] += part[0];
        both[1] += part[1];
    });
    block_sums(both);
    if (threadIdx.x != 0) return;
    sums[2 * plane] = float(both[0] / pixels);
    sums[2 * plane + 1] = float(both[1] / pixels);
}
KERNEL(gradient_means)
