// The training loss: fastMRI's SSIM and the mean absolute error of centre-cropped images, with their gradient.
//
// fastMRI's images are around 1e-4, so a window's variance is a difference of numbers around 1e-8 that almost cancel:
// all sums are in double. Box sums are separable, columns first, then rows. Blocks: tiles across, tiles down, slices.
//
// Three kernels, for a pixel's gradient needs the windows round it: SSIM and its slopes by window, the gradient by
// pixel, and the sums over all blocks.
#include "common.cuh"

constexpr int LOSS_THREADS = 256;
// What a block makes, and what it reads for that.
constexpr int TILE_ROWS = 8, TILE_COLUMNS = LOSS_THREADS / TILE_ROWS;
constexpr int WINDOW = 7;
constexpr int READ_ROWS = TILE_ROWS + WINDOW - 1, READ_COLUMNS = TILE_COLUMNS + WINDOW - 1;
constexpr double PER_WINDOW = 1.0 / (WINDOW * WINDOW);
// From E[x²] − E[x]² to the sample variance.
constexpr double SAMPLE = WINDOW * WINDOW / (WINDOW * WINDOW - 1.0);
constexpr double K1 = 0.01, K2 = 0.03;

// Two images `[n, rows, columns]` and the part that they have in common, `[n, height, width]` from (top, left) of each.
struct LossCrop {
    int height, width;
    int output_rows, output_columns, output_top, output_left;
    int target_rows, target_columns, target_top, target_left;
};
DESCRIBE(LossCrop, height, width, output_rows, output_columns, output_top, output_left, target_rows, target_columns,
         target_top, target_left)

namespace {

__device__ __forceinline__ long long output_at(LossCrop crop, int n, int y, int x) {
    return ((long long)n * crop.output_rows + crop.output_top + y) * crop.output_columns + crop.output_left + x;
}

__device__ __forceinline__ long long target_at(LossCrop crop, int n, int y, int x) {
    return ((long long)n * crop.target_rows + crop.target_top + y) * crop.target_columns + crop.target_left + x;
}

__device__ __forceinline__ long long this_block() {
    return ((long long)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
}

__device__ __forceinline__ bool within(int i, int end) { return i >= 0 && i < end; }

// The mean of a window, or of the slopes of the windows round a pixel, from sums over columns of them.
__device__ __forceinline__ double window_mean(const double* column_sums) {
    double sum = 0.0;
    for (int i = 0; i < WINDOW; ++i) sum += column_sums[i];
    return sum * PER_WINDOW;
}

// A window's SSIM, and ∂SSIM/∂ of its means of x, of x² and of x·y.
struct Similarity {
    double ssim, of_x, of_xx, of_xy;
};

__device__ __forceinline__ Similarity similarity(double ux, double uy, double uxx, double uyy, double uxy,
                                                 double max_value) {
    const double c1 = (K1 * max_value) * (K1 * max_value), c2 = (K2 * max_value) * (K2 * max_value);
    const double vx = SAMPLE * (uxx - ux * ux), vy = SAMPLE * (uyy - uy * uy), vxy = SAMPLE * (uxy - ux * uy);
    const double a1 = 2.0 * ux * uy + c1, a2 = 2.0 * vxy + c2;
    const double b1 = ux * ux + uy * uy + c1, b2 = vx + vy + c2;
    const double ssim = a1 * a2 / (b1 * b2);
    // vx and vxy contain ux as well.
    const double from_a = 2.0 * uy * (a2 - SAMPLE * a1) / (b1 * b2);
    const double from_b = 2.0 * ux * (1.0 / b1 - SAMPLE / b2) * ssim;
    return {ssim, from_a - from_b, -ssim * SAMPLE / b2, 2.0 * SAMPLE * a1 / (b1 * b2)};
}

}  // namespace

// slopes: [n, 3, windows down, windows across]; partial: [blocks], sums of SSIM. Tiles are of windows.
extern "C" __global__ void __launch_bounds__(LOSS_THREADS)
ssim_windows(const float* output, const float* target, const float* max_value, double* slopes, double* partial,
             LossCrop crop) {
    await_inputs();
    SHARED(float, x, [READ_ROWS][READ_COLUMNS]);
    SHARED(float, y, [READ_ROWS][READ_COLUMNS]);
    // Of x, y, x², y², x·y.
    SHARED(double, column_sums, [5][TILE_ROWS][READ_COLUMNS]);
    const int n = blockIdx.z, top = blockIdx.y * TILE_ROWS, left = blockIdx.x * TILE_COLUMNS;
    for (int i = threadIdx.x; i < READ_ROWS * READ_COLUMNS; i += LOSS_THREADS) {
        const int row = i / READ_COLUMNS, column = i % READ_COLUMNS;
        const bool present = top + row < crop.height && left + column < crop.width;
        x[row][column] = present ? output[output_at(crop, n, top + row, left + column)] : 0.0f;
        y[row][column] = present ? target[target_at(crop, n, top + row, left + column)] : 0.0f;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE_ROWS * READ_COLUMNS; i += LOSS_THREADS) {
        const int row = i / READ_COLUMNS, column = i % READ_COLUMNS;
        double of_x = 0.0, of_y = 0.0, of_xx = 0.0, of_yy = 0.0, of_xy = 0.0;
        for (int k = 0; k < WINDOW; ++k) {
            const double a = x[row + k][column], b = y[row + k][column];
            of_x += a;
            of_y += b;
            of_xx += a * a;
            of_yy += b * b;
            of_xy += a * b;
        }
        column_sums[0][row][column] = of_x;
        column_sums[1][row][column] = of_y;
        column_sums[2][row][column] = of_xx;
        column_sums[3][row][column] = of_yy;
        column_sums[4][row][column] = of_xy;
    }
    __syncthreads();
    const int row = threadIdx.x / TILE_COLUMNS, column = threadIdx.x % TILE_COLUMNS;
    const int down = crop.height - WINDOW + 1, across = crop.width - WINDOW + 1;
    double ssim = 0.0;
    if (top + row < down && left + column < across) {
        double means[5];
        for (int i = 0; i < 5; ++i) means[i] = window_mean(&column_sums[i][row][column]);
        const Similarity s = similarity(means[0], means[1], means[2], means[3], means[4], max_value[n]);
        const long long windows = (long long)down * across;
        double* slope = slopes + 3 * n * windows + (long long)(top + row) * across + left + column;
        slope[0] = s.of_x;
        slope[windows] = s.of_xx;
        slope[2 * windows] = s.of_xy;
        ssim = s.ssim;
    }
    ssim = block_sum(ssim);
    if (threadIdx.x == 0) partial[this_block()] = ssim;
}
KERNEL(ssim_windows)

// d_output [n, output_rows, output_columns] = ssim_scale·∂ΣSSIM/∂x + l1_scale·sign(x − y), 0 outside the crop;
// partial: [blocks], sums of |x − y|. Tiles are of the output's pixels.
extern "C" __global__ void __launch_bounds__(LOSS_THREADS)
loss_gradient(const float* output, const float* target, const double* slopes, float* d_output, double* partial,
              LossCrop crop, double ssim_scale, double l1_scale) {
    await_inputs();
    SHARED(double, slope, [3][READ_ROWS][READ_COLUMNS]);
    SHARED(double, column_sums, [3][TILE_ROWS][READ_COLUMNS]);
    const int n = blockIdx.z, down = crop.height - WINDOW + 1, across = crop.width - WINDOW + 1;
    // Of the tile, in the crop: negative where the output is larger.
    const int top = int(blockIdx.y) * TILE_ROWS - crop.output_top;
    const int left = int(blockIdx.x) * TILE_COLUMNS - crop.output_left;
    for (int i = threadIdx.x; i < 3 * READ_ROWS * READ_COLUMNS; i += LOSS_THREADS) {
        const int kind = i / (READ_ROWS * READ_COLUMNS), row = i / READ_COLUMNS % READ_ROWS, column = i % READ_COLUMNS;
        // Windows are named by their first pixel: those round a pixel lie before it.
        const int y = top + row - (WINDOW - 1), x = left + column - (WINDOW - 1);
        const bool present = within(y, down) && within(x, across);
        slope[kind][row][column] = present ? slopes[((3ll * n + kind) * down + y) * across + x] : 0.0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 3 * TILE_ROWS * READ_COLUMNS; i += LOSS_THREADS) {
        const int kind = i / (TILE_ROWS * READ_COLUMNS), row = i / READ_COLUMNS % TILE_ROWS, column = i % READ_COLUMNS;
        double sum = 0.0;
        for (int k = 0; k < WINDOW; ++k) sum += slope[kind][row + k][column];
        column_sums[kind][row][column] = sum;
    }
    __syncthreads();
    const int row = threadIdx.x / TILE_COLUMNS, column = threadIdx.x % TILE_COLUMNS;
    const int in_output_y = top + row + crop.output_top, in_output_x = left + column + crop.output_left;
    double difference = 0.0;
    if (in_output_y < crop.output_rows && in_output_x < crop.output_columns) {
        double gradient = 0.0;
        if (within(top + row, crop.height) && within(left + column, crop.width)) {
            const double x = output[output_at(crop, n, top + row, left + column)];
            const double y = target[target_at(crop, n, top + row, left + column)];
            const double of_x = window_mean(&column_sums[0][row][column]);
            const double of_xx = window_mean(&column_sums[1][row][column]);
            const double of_xy = window_mean(&column_sums[2][row][column]);
            // 0 at 0, as PyTorch has it.
            const double sign = double(x > y) - double(x < y);
            gradient = ssim_scale * (of_x + 2.0 * x * of_xx + y * of_xy) + l1_scale * sign;
            difference = fabs(x - y);
        }
        d_output[output_at(crop, n, top + row, left + column)] = float(gradient);
    }
    difference = block_sum(difference);
    if (threadIdx.x == 0) partial[this_block()] = difference;
}
KERNEL(loss_gradient)

// losses: [2], 1 − mean SSIM (0 where there is no window) and mean |x − y|. One block.
extern "C" __global__ void __launch_bounds__(LOSS_THREADS)
join_losses(const double* ssim, const double* differences, float* losses, int ssim_parts, int difference_parts,
            double windows, double pixels) {
    await_inputs();
    double similar = 0.0, different = 0.0;
    for (int i = threadIdx.x; i < ssim_parts; i += LOSS_THREADS) similar += ssim[i];
    for (int i = threadIdx.x; i < difference_parts; i += LOSS_THREADS) different += differences[i];
    similar = block_sum(similar);
    different = block_sum(different);
    if (threadIdx.x != 0) return;
    losses[0] = windows > 0.0 ? float(1.0 - similar / windows) : 0.0f;
    losses[1] = float(different / pixels);
}
KERNEL(join_losses)

// The centre of the output where the target has it. Blocks: of columns, of rows, slices.
extern "C" __global__ void __launch_bounds__(LOSS_THREADS)
crop_to_target(const float* output, float* target, LossCrop crop) {
    await_inputs();
    const int y = blockIdx.y * TILE_ROWS + threadIdx.x / TILE_COLUMNS;
    const int x = blockIdx.x * TILE_COLUMNS + threadIdx.x % TILE_COLUMNS;
    if (y >= crop.height || x >= crop.width) return;
    target[target_at(crop, blockIdx.z, y, x)] = output[output_at(crop, blockIdx.z, y, x)];
}
KERNEL(crop_to_target)
