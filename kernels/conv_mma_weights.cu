// The gradient of 3×3 filters on tensor cores, for groups of 18, 16 and 8 channels: see sum_over_pixels.
#include "conv_mma_weights.cuh"

#define CONV3X3_WEIGHTS_MMA(NAME, T, EIGHTS, OUTS)                                                                    \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2)                                                      \
    conv3x3_weights_##NAME(const float* first, const float* first_stats, const float* second,                         \
                           const float* second_stats, const float* d_output, const float* output,                     \
                           const float* stats, const float* sums, float* partial, ConvShape shape, int tiles) {       \
        const MmaInputs inputs = {first, first_stats, second, second_stats, shape};                                   \
        const MmaGradient gradient = {d_output, output, stats, sums, shape};                                          \
        sum_over_pixels<T, Summing<T, EIGHTS, OUTS>>(inputs, gradient, partial, tiles);                               \
    }                                                                                                                 \
    KERNEL(conv3x3_weights_##NAME)

CONV3X3_WEIGHTS_MMA(tf32_18, Tf32, 7, 3)
CONV3X3_WEIGHTS_MMA(tf32_16, Tf32, 6, 2)
CONV3X3_WEIGHTS_MMA(tf32_8, Tf32, 3, 1)
CONV3X3_WEIGHTS_MMA(bf16_18, Bf16, 7, 3)
CONV3X3_WEIGHTS_MMA(bf16_16, Bf16, 6, 2)
CONV3X3_WEIGHTS_MMA(bf16_8, Bf16, 3, 1)
