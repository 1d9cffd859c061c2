// The kernels of the 3×3 convolution and of the gradient of its inputs on tensor cores, for one format: a file each, which
// nvcc compiles side by side. The gradient of its filters: conv_mma_weights.cuh.
#pragma once
#include "conv_mma_store.cuh"

constexpr int FILTERS_THREADS = 256;

// How filters are laid out for correlate_mma: `outs` of them from `begin` on, over `ins` channels, in groups of
// `tiles` · 8. The weight of channels o and i is `weights[o, i, tap]`, or `weights[i, o, 8 − tap]` where `flipped`;
// `row` is how many the second of these dimensions has.
struct FilterShape {
    int begin, outs, ins, row, tiles, flipped;
};
DESCRIBE(FilterShape, begin, outs, ins, row, tiles, flipped)

// Layers of a launch, each with its first block and how many words it has.
constexpr int MOST_LAYERS = 32;
struct FilterLayers {
    const float* weights[MOST_LAYERS];
    unsigned* to[MOST_LAYERS];
    FilterShape shape[MOST_LAYERS];
    int words[MOST_LAYERS], first_block[MOST_LAYERS], count;
};
DESCRIBE(FilterLayers, weights, to, shape, words, first_block, count)

// to: [groups][steps][9][tiles][32 lanes][2], what a lane holds as b0 and b1. Absent channels are 0. Each thread makes the
// words of nine taps, whose weights lie side by side.
template <class T> __device__ __forceinline__ void lay_out_filters(const FilterLayers& layers) {
    const int layer = last_begun(layers.first_block, layers.count, blockIdx.x);
    const int place = (blockIdx.x - layers.first_block[layer]) * FILTERS_THREADS + threadIdx.x;
    if (place >= layers.words[layer] / 9) return;
    const FilterShape shape = layers.shape[layer];
    const int of_tap = 64 * shape.tiles;  // words
    const int step = place / of_tap, here = place - step * of_tap;
    const int steps = ((shape.ins + T::PACK - 1) / T::PACK + STEP - 1) / STEP, group = step / steps;
    const int lane = here / 2 % WARP, half = here % 2;
    const int o = (group * shape.tiles + here / 64) * 8 + lane / 4;
    const int first = ((step - group * steps) * STEP + lane % 4 + 4 * half) * T::PACK;
    const float* weights[T::PACK];  // of nine taps, or null
#pragma unroll
    for (int k = 0; k < T::PACK; ++k) {
        const int i = first + k;
        const int row = shape.flipped ? i : shape.begin + o, entry = shape.flipped ? shape.begin + o : i;
        const bool there = o < shape.outs && i < shape.ins;
        weights[k] = there ? layers.weights[layer] + ((long long)row * shape.row + entry) * 9 : nullptr;
    }
    unsigned* to = layers.to[layer] + step * 9 * of_tap + here;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
        float x[T::PACK];
#pragma unroll
        for (int k = 0; k < T::PACK; ++k) x[k] = weights[k] ? weights[k][shape.flipped ? 8 - tap : tap] : 0.0f;
        to[tap * of_tap] = T::word(x);
    }
}

// conv3x3_filters: see above.
// conv3x3_mma: writes output [n, out, height, width], and partial [n, out, tiles, 3] where it is given.
// conv3x3_inputs_mma: writes the gradients of channels `begin` to `end` of the concatenated inputs; those of an input
// with statistics finished, with partial [n, channels, tiles, 2].
#define FILTERS(NAME, T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(FILTERS_THREADS)                                                     \
    conv3x3_filters_##NAME(const __grid_constant__ FilterLayers layers) {                                             \
        await_inputs();                                                                                               \
        lay_out_filters<T>(layers);                                                                                   \
    }                                                                                                                 \
    KERNEL(conv3x3_filters_##NAME)

#define CONV3X3_MMA(NAME, T, G, NT, BLOCKS, INPUTS_BLOCKS)                                                           \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, BLOCKS)                                                 \
    conv3x3_##NAME(const T::Stored* first, const float* first_stats, const T::Stored* second,                         \
                   const float* second_stats, const unsigned* filters, T::Stored* output, float* partial,             \
                   ConvShape shape) {                                                                                 \
        await_inputs();                                                                                               \
        const MmaInputs<T::Stored> inputs = {first, first_stats, second, second_stats, shape};                        \
        correlate_mma<T, G, NT>(inputs, filters, MmaStoreOutput<T::Stored, G, NT>{output, partial, shape});           \
    }                                                                                                                 \
    KERNEL(conv3x3_##NAME)                                                                                            \
                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, INPUTS_BLOCKS)                                          \
    conv3x3_inputs_##NAME(const T::Stored* d_output, const T::Stored* output, const float* stats, const float* sums,  \
                          const unsigned* filters, const T::Stored* first, const float* first_stats,                  \
                          T::Stored* d_first, float* first_partial, const T::Stored* second,                          \
                          const float* second_stats, T::Stored* d_second, float* second_partial, ConvShape shape,     \
                          int begin, int end) {                                                                       \
        await_inputs();                                                                                               \
        const MmaGradient<T::Stored> gradient = {d_output, output, stats, sums, shape};                               \
        const MmaStoreGradients<T::Stored, G, NT> store = {{first, first_stats, d_first, first_partial},              \
                                                           {second, second_stats, d_second, second_partial},          \
                                                           shape, begin, end};                                        \
        correlate_mma<T, G, NT>(gradient, filters, store);                                                            \
    }                                                                                                                 \
    KERNEL(conv3x3_inputs_##NAME)

// So many blocks on a multiprocessor leave threads 128 or 168 registers; left to itself, nvcc takes fewer and spills.
#define CONV3X3_FORMAT(NAME, T, INPUTS_BY3)          \
    FILTERS(NAME, T)                                 \
    CONV3X3_MMA(NAME##_wide_by1, T, Wide, 1, 4, 4)   \
    CONV3X3_MMA(NAME##_wide_by2, T, Wide, 2, 4, 4)   \
    CONV3X3_MMA(NAME##_wide_by3, T, Wide, 3, 4, INPUTS_BY3) \
    CONV3X3_MMA(NAME##_wide_by5, T, Wide, 5, 3, 3)   \
    CONV3X3_MMA(NAME##_deep_by2, T, Deep, 2, 4, 4)   \
    CONV3X3_MMA(NAME##_deep_by3, T, Deep, 3, 4, 3)   \
    CONV3X3_MMA(NAME##_deep_by4, T, Deep, 4, 3, 3)
