// 3×3 convolution with zero padding over one or two concatenated maps, and its gradients.
//
// Each kernel exists for Q = 2, 6 and 8 channels a thread: 18 is three times 6, not two thirds of 32.
#include "conv_correlate.cuh"
#include "conv_weights.cuh"

// Raw output, and of each tile of a plane what its statistics are made of.
struct StoreOutput {
    float *output, *partial;
    ConvShape shape;

    __device__ __forceinline__ void operator()(int channel, Column column, const float (&sum)[RUN]) const {
        const int plane = blockIdx.z * shape.out + channel;
        const int rows = column.x < shape.width ? shape.height - column.y : 0;
        float* to = output + ((long long)plane * shape.height + column.y) * shape.width + column.x;
        float total = 0.0f;
#pragma unroll
        for (int y = 0; y < RUN; ++y) {
            if (y >= rows) continue;
            to[(long long)y * shape.width] = sum[y];
            total += sum[y];
        }
        if (!partial) return;
        const TileCorner corner = corner_of(blockIdx.x, shape);
        const float count = min(TILE, shape.height - corner.y) * min(TILE, shape.width - corner.x);
        const float mean = warp_sum(total) / count;
        float squares = 0.0f;
#pragma unroll
        for (int y = 0; y < RUN; ++y) squares += y < rows ? (sum[y] - mean) * (sum[y] - mean) : 0.0f;
        squares = warp_sum(squares);
        if (threadIdx.x % WARP != 0) return;
        float* part = partial + 3ll * ((long long)plane * gridDim.x + blockIdx.x);
        part[0] = count;
        part[1] = mean;
        part[2] = squares;
    }
};

// The gradient of what was read of an input, [n, channels, height, width] on the output's grid. With statistics it is
// finished, and the sums of each tile are left; then the input has that grid too.
struct StoreInputGradient {
    const float *values, *stats;
    float *d, *partial;

    __device__ __forceinline__ void operator()(int plane, ConvShape shape, Column column,
                                               const float (&sum)[RUN]) const {
        const Norm norm = norm_of(stats, plane);
        const long long at = ((long long)plane * shape.height + column.y) * shape.width + column.x;
        const int rows = column.x < shape.width ? shape.height - column.y : 0;
        float sum_g = 0.0f, sum_gx = 0.0f;
#pragma unroll
        for (int y = 0; y < RUN; ++y) {
            if (y >= rows) continue;
            float g = sum[y];
            if (norm.present) {
                const float value = values[at + (long long)y * shape.width];
                g = norm.finish(g, value);
                sum_g += g;
                sum_gx += g * norm.normalised(value);
            }
            d[at + (long long)y * shape.width] = g;
        }
        if (!norm.present) return;
        sum_g = warp_sum(sum_g);
        sum_gx = warp_sum(sum_gx);
        if (threadIdx.x % WARP != 0) return;
        float* part = partial + 2ll * ((long long)plane * gridDim.x + blockIdx.x);
        part[0] = sum_g;
        part[1] = sum_gx;
    }
};

struct StoreInputGradients {
    StoreInputGradient first, second;
    ConvShape shape;

    __device__ __forceinline__ void operator()(int channel, Column column, const float (&sum)[RUN]) const {
        const bool in_first = channel < shape.first;
        const int plane =
            in_first ? blockIdx.z * shape.first + channel : blockIdx.z * shape.second + channel - shape.first;
        // Member by member: a structure that is chosen as a whole would lie in memory.
        const StoreInputGradient store = {in_first ? first.values : second.values, in_first ? first.stats : second.stats,
                                          in_first ? first.d : second.d, in_first ? first.partial : second.partial};
        store(plane, shape, column, sum);
    }
};

// conv3x3: writes output [n, out, height, width], and partial [n, out, tiles, 3] where it is given. Blocks: tiles, groups
// of Q channels a warp, images.
//
// conv3x3_inputs: writes the gradients of channels `begin` to `end` of the concatenated inputs; those of an input with
// statistics finished, with partial [n, channels, tiles, 2]. Blocks as above.
//
// conv3x3_weights: see weight_gradient.
#define CONV3X3(Q)                                                                                                    \
    extern "C" __global__ void __launch_bounds__(CORRELATE_THREADS)                                                   \
    conv3x3_by##Q(const float* first, const float* first_stats, const float* second, const float* second_stats,       \
                  const float* weights, float* output, float* partial, ConvShape shape) {                             \
        await_inputs();                                                                                               \
        const Inputs inputs = {first, first_stats, second, second_stats, shape};                                      \
        correlate<Q, false>(inputs, shape.inputs(), weights, 0, 0, shape.out, StoreOutput{output, partial, shape});   \
    }                                                                                                                 \
    KERNEL(conv3x3_by##Q)                                                                                             \
                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(CORRELATE_THREADS)                                                   \
    conv3x3_inputs_by##Q(const float* d_output, const float* output, const float* stats, const float* sums,           \
                         const float* weights, const float* first, const float* first_stats, float* d_first,          \
                         float* first_partial, const float* second, const float* second_stats, float* d_second,       \
                         float* second_partial, ConvShape shape, int begin, int end) {                                \
        await_inputs();                                                                                               \
        const OutputGradient gradient = {d_output, output, stats, sums, shape};                                       \
        const StoreInputGradients store = {{first, first_stats, d_first, first_partial},                              \
                                           {second, second_stats, d_second, second_partial}, shape};                  \
        correlate<Q, true>(gradient, shape.out, weights, shape.inputs(), begin, end, store);                          \
    }                                                                                                                 \
    KERNEL(conv3x3_inputs_by##Q)                                                                                      \
                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(WEIGHTS_THREADS)                                                     \
    conv3x3_weights_by##Q(const float* first, const float* first_stats, const float* second,                          \
                          const float* second_stats, const float* d_output, const float* output,                      \
                          const float* stats, const float* sums, float* partial, ConvShape shape, ConvCut cut) {      \
        await_inputs();                                                                                               \
        const Inputs inputs = {first, first_stats, second, second_stats, shape};                                      \
        const OutputGradient gradient = {d_output, output, stats, sums, shape};                                       \
        weight_gradient<Q>(inputs, gradient, partial, cut);                                                           \
    }                                                                                                                 \
    KERNEL(conv3x3_weights_by##Q)
CONV3X3(2)
CONV3X3(6)
CONV3X3(8)

constexpr int FOLD_THREADS = 256;

// The gradient d of an input [planes, height, width] that is a row or column short, from `wide`, that of what was read
// of it: what was read by reflection is handed back to the last row or column but one. With statistics it is
// finished, and partial [planes, parts, 2] are its sums. Blocks: parts of a plane, planes.
#define CONV3X3_FOLD(T)                                                                                  \
    const T* wide, const T* values, const float* stats, T* d, float* partial, int height, int width, int \
    wide_height, int wide_width
template <class T> __device__ __forceinline__ void conv3x3_fold_of(CONV3X3_FOLD(T)) {
    const int plane = blockIdx.x;
    const Norm norm = norm_of(stats, plane);
    const T* from = wide + (long long)plane * wide_height * wide_width;
    const long long first = (long long)plane * height * width;
    float sum_g = 0.0f, sum_gx = 0.0f;
    for (int i = blockIdx.y * FOLD_THREADS + threadIdx.x; i < height * width; i += gridDim.y * FOLD_THREADS) {
        const int y = i / width, x = i % width;
        const bool row = wide_height > height && y == height - 2, column = wide_width > width && x == width - 2;
        float g = real(from[y * wide_width + x]);
        if (row) g += real(from[height * wide_width + x]);
        if (column) g += real(from[y * wide_width + width]);
        if (row && column) g += real(from[height * wide_width + width]);
        const float value = real(values[first + i]);
        g = put(d + first + i, norm.finish(g, value));
        sum_g += g;
        sum_gx += g * norm.normalised(value);
    }
    sum_g = block_sum(sum_g);
    sum_gx = block_sum(sum_gx);
    if (!norm.present || threadIdx.x != 0) return;
    float* part = partial + 2ll * ((long long)plane * gridDim.y + blockIdx.y);
    part[0] = sum_g;
    part[1] = sum_gx;
}
MAP_KERNEL(conv3x3_fold, (FOLD_THREADS), CONV3X3_FOLD,
           (wide, values, stats, d, partial, height, width, wide_height, wide_width))
