// The kernels of the transposed convolution on tensor cores, for one format: a file each, which nvcc compiles side by
// side.
#pragma once
#include "conv_transpose_mma_forward.cuh"
#include "conv_transpose_mma_inputs.cuh"
#include "conv_transpose_mma_weights.cuh"

#define CONV_TRANSPOSE_MMA(NAME, T, TILES, DEEP)                                                                     \
    extern "C" __global__ void __launch_bounds__(TRANSPOSE_MMA_THREADS, 4)                                           \
    conv_transpose_##NAME(const T::Stored* values, const float* stats, const float* weight, T::Stored* output,       \
                          float* partial, Transpose shape) {                                                         \
        await_inputs();                                                                                              \
        conv_transpose_mma<T, PixelCut<TILES, DEEP>>(values, stats, weight, output, partial, shape);                 \
    }                                                                                                                \
    KERNEL(conv_transpose_##NAME)

#define CONV_TRANSPOSE_INPUTS_MMA(NAME, T, TILES, DEEP, BLOCKS)                                                      \
    extern "C" __global__ void __launch_bounds__(TRANSPOSE_MMA_THREADS, BLOCKS)                                      \
    conv_transpose_inputs_##NAME(const T::Stored* values, const float* stats, const float* weight,                   \
                                 const T::Stored* output, const float* output_stats, const T::Stored* g,             \
                                 const float* sums, T::Stored* d_input, float* partial, Transpose shape) {           \
        await_inputs();                                                                                              \
        conv_transpose_inputs_mma<T, PixelCut<TILES, DEEP>>(values, stats, weight, output, output_stats, g, sums,    \
                                                            d_input, partial, shape);                                \
    }                                                                                                                \
    KERNEL(conv_transpose_inputs_##NAME)

#define CONV_TRANSPOSE_WEIGHT_MMA(NAME, T)                                                                           \
    extern "C" __global__ void __launch_bounds__(TRANSPOSE_MMA_THREADS, 2)                                           \
    conv_transpose_weight_##NAME(const T::Stored* values, const float* stats, const T::Stored* output,               \
                                 const float* output_stats, const T::Stored* g, const float* sums, float* partial,   \
                                 Transpose shape, int n, int steps) {                                                \
        await_inputs();                                                                                              \
        conv_transpose_weight_mma<T>(values, stats, output, output_stats, g, sums, partial, shape, n, steps);        \
    }                                                                                                                \
    KERNEL(conv_transpose_weight_##NAME)

// So many blocks on a multiprocessor leave threads 128 registers, or 168. Sixteens of rows by three and five: 18
// channels out, or 36 in, are a group. Forward no cut that goes deep is any quicker.
#define CONV_TRANSPOSE_FORMAT(NAME, T)                                                                               \
    CONV_TRANSPOSE_MMA(NAME##_wide_by3, T, 3, 1)                                                                     \
    CONV_TRANSPOSE_MMA(NAME##_wide_by5, T, 5, 1)                                                                     \
    CONV_TRANSPOSE_INPUTS_MMA(NAME##_wide_by3, T, 3, 1, 4)                                                           \
    CONV_TRANSPOSE_INPUTS_MMA(NAME##_wide_by5, T, 5, 1, 3)                                                           \
    CONV_TRANSPOSE_INPUTS_MMA(NAME##_deep_by4, T, 4, 2, 4)                                                           \
    CONV_TRANSPOSE_WEIGHT_MMA(NAME, T)
