// The weight's gradient of the transposed convolution: for each pair of channels the products of what was read and
// what came back, over all pixels of all images.
#pragma once
#include "conv_transpose.cuh"

// A block's channels are those of the smallest of U-Nets' levels in whole tiles: 18·2ˡ outputs, twice as many inputs.
// A thread keeps WEIGHT_THREAD inputs of one output; the last few have no part of the tile.
constexpr int WEIGHT_INPUTS = 36;
constexpr int WEIGHT_OUTPUTS = 18;
constexpr int WEIGHT_THREAD = 6;
constexpr int WEIGHT_AT_WORK = WEIGHT_INPUTS / WEIGHT_THREAD * WEIGHT_OUTPUTS;
constexpr int WEIGHT_THREADS = 128;
// Pixels are staged by warps, one a lane, and read across: a pixel's row is longer than its channels, so that lanes
// write to different banks.
constexpr int WEIGHT_SLICE = WARP;
constexpr int WEIGHT_INPUT_ROW = WEIGHT_INPUTS + 1;
constexpr int WEIGHT_OUTPUT_ROW = WEIGHT_OUTPUTS + 1;
static_assert(WEIGHT_AT_WORK <= WEIGHT_THREADS, "every pair of channels has a thread");

// partial: [parts, inputs, outputs, 4]. Part p takes slices p, p + parts, … of the batch's, of which each image has
// `slices`. Blocks: parts, groups of WEIGHT_INPUTS inputs, groups of WEIGHT_OUTPUTS outputs.
extern "C" __global__ void __launch_bounds__(WEIGHT_THREADS)
conv_transpose_weight(const float* values, const float* stats, const float* output, const float* output_stats,
                      const float* g, const float* sums, float* partial, Transpose shape, int n, int slices) {
    await_inputs();
    SHARED(float, x, [WEIGHT_SLICE][WEIGHT_INPUT_ROW]);
    SHARED(float4, d, [WEIGHT_SLICE][WEIGHT_OUTPUT_ROW]);
    const int pixels = shape.pixels();
    const int first_input = blockIdx.y * WEIGHT_INPUTS, first_output = blockIdx.z * WEIGHT_OUTPUTS;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int mine_input = threadIdx.x / WEIGHT_OUTPUTS * WEIGHT_THREAD, mine_output = threadIdx.x % WEIGHT_OUTPUTS;
    const bool at_work = threadIdx.x < WEIGHT_AT_WORK;

    float4 sum[WEIGHT_THREAD] = {};
    for (int slice = blockIdx.x; slice < n * slices; slice += gridDim.x) {
        const int image = slice / slices, pixel = slice % slices * WEIGHT_SLICE + lane;
        const int block = shape.block_at(pixel);
        __syncthreads();  // the slice before may still be read
        for (int i = warp; i < WEIGHT_INPUTS; i += WEIGHT_THREADS / WARP) {
            const int channel = first_input + i, plane = image * shape.inputs + channel;
            x[lane][i] = channel < shape.inputs && pixel < pixels
                             ? norm_of(stats, plane).activate(values[(long long)plane * pixels + pixel])
                             : 0.0f;
        }
        for (int o = warp; o < WEIGHT_OUTPUTS; o += WEIGHT_THREADS / WARP) {
            const int channel = first_output + o, plane = image * shape.outputs + channel;
            d[lane][o] = channel < shape.outputs && pixel < pixels
                             ? transpose_gradient(shape, output, g, undo_of(output_stats, sums, plane), plane, block)
                             : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
        __syncthreads();
        if (!at_work) continue;
#pragma unroll 4
        for (int p = 0; p < WEIGHT_SLICE; ++p) {
            const float4 of_output = d[p][mine_output];
            for (int i = 0; i < WEIGHT_THREAD; ++i) transpose_add(sum[i], x[p][mine_input + i], of_output);
        }
    }

    const int channel = first_output + mine_output;
    if (!at_work || channel >= shape.outputs) return;
    float4* part = reinterpret_cast<float4*>(partial) + (long long)blockIdx.x * shape.inputs * shape.outputs;
#pragma unroll
    for (int i = 0; i < WEIGHT_THREAD; ++i) {
        const int input = first_input + mine_input + i;
        if (input < shape.inputs) part[(long long)input * shape.outputs + channel] = sum[i];
    }
}
KERNEL(conv_transpose_weight)
