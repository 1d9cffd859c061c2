// 2×2 transposed convolution with stride 2: every input pixel makes a 2×2 block of each output channel.
// weight: [inputs, outputs, 4].
#include "conv_transpose.cuh"
#include "conv_transpose_weight.cuh"

// Output channels of a warp and of a block, input channels of a slice.
constexpr int FORWARD_WARP = 3;
constexpr int FORWARD_OUTPUTS = TRANSPOSE_WARPS * FORWARD_WARP;
constexpr int FORWARD_SLICE = 16;

// Input channels of a warp and of a block, output channels of a slice.
constexpr int BACKWARD_WARP = 6;
constexpr int BACKWARD_INPUTS = TRANSPOSE_WARPS * BACKWARD_WARP;
constexpr int BACKWARD_SLICE = 8;

// output: [n, outputs, 2·height, 2·width], raw; partial: [n·outputs, parts, 3], count, mean and sum of squared
// deviations. Blocks: parts of TRANSPOSE_TILE pixels, groups of FORWARD_OUTPUTS outputs, images.
extern "C" __global__ void __launch_bounds__(TRANSPOSE_THREADS)
conv_transpose(const float* values, const float* stats, const float* weight, float* output, float* partial,
               Transpose shape) {
    await_inputs();
    SHARED(float, x, [FORWARD_SLICE][TRANSPOSE_TILE]);
    SHARED(float4, w, [FORWARD_SLICE][FORWARD_OUTPUTS]);
    const int n = blockIdx.z, pixels = shape.pixels(), first_pixel = blockIdx.x * TRANSPOSE_TILE;
    const int first_output = blockIdx.y * FORWARD_OUTPUTS;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;

    float4 sum[FORWARD_WARP][TRANSPOSE_LANE] = {};
    for (int first = 0; first < shape.inputs; first += FORWARD_SLICE) {
        const int slice = min(FORWARD_SLICE, shape.inputs - first);
        __syncthreads();  // the slice before may still be read
        for (int t = threadIdx.x; t < slice * TRANSPOSE_TILE; t += TRANSPOSE_THREADS) {
            const int i = t / TRANSPOSE_TILE, pixel = first_pixel + t % TRANSPOSE_TILE;
            const int plane = n * shape.inputs + first + i;
            x[i][t % TRANSPOSE_TILE] =
                pixel < pixels ? norm_of(stats, plane).activate(values[(long long)plane * pixels + pixel]) : 0.0f;
        }
        for (int t = threadIdx.x; t < slice * 4 * FORWARD_OUTPUTS; t += TRANSPOSE_THREADS) {
            const int i = t / (4 * FORWARD_OUTPUTS), k = t % (4 * FORWARD_OUTPUTS);
            const float* row = weight + ((long long)(first + i) * shape.outputs + first_output) * 4;
            reinterpret_cast<float*>(w[i])[k] = k < 4 * (shape.outputs - first_output) ? row[k] : 0.0f;
        }
        __syncthreads();
#pragma unroll 4
        for (int i = 0; i < slice; ++i) {
            for (int o = 0; o < FORWARD_WARP; ++o) {
                const float4 weights = w[i][warp * FORWARD_WARP + o];
                for (int p = 0; p < TRANSPOSE_LANE; ++p) transpose_add(sum[o][p], x[i][p * WARP + lane], weights);
            }
        }
    }

    const float count = 4 * min(TRANSPOSE_TILE, pixels - first_pixel);
#pragma unroll
    for (int o = 0; o < FORWARD_WARP; ++o) {
        const int channel = first_output + warp * FORWARD_WARP + o;
        if (channel >= shape.outputs) continue;
        const int plane = n * shape.outputs + channel;
        float total = 0.0f, squares = 0.0f;
        for (int p = 0; p < TRANSPOSE_LANE; ++p) {
            const int pixel = first_pixel + p * WARP + lane;
            if (pixel >= pixels) continue;
            const float4 v = sum[o][p];
            float* to = output + 4ll * plane * pixels + shape.block_at(pixel);
            put_two(to, make_float2(v.x, v.y));
            put_two(to + 2 * shape.width, make_float2(v.z, v.w));
            total += v.x + v.y + (v.z + v.w);
        }
        const float mean = warp_sum(total) / count;
        for (int p = 0; p < TRANSPOSE_LANE; ++p) {
            const int pixel = first_pixel + p * WARP + lane;
            if (pixel >= pixels) continue;
            const float4 v = sum[o][p];
            const float4 deviation = make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean);
            squares += transpose_dot(deviation, deviation);
        }
        squares = warp_sum(squares);
        if (lane != 0) continue;
        float* part = partial + 3 * ((long long)plane * gridDim.x + blockIdx.x);
        part[0] = count;
        part[1] = mean;
        part[2] = squares;
    }
}
KERNEL(conv_transpose)

// d_input: [n, inputs, height, width], finished; partial: [n·inputs, parts, 2], its sums of g and g·x̂. output, g,
// output_stats and sums: the output map and its stored gradient. Blocks: parts of TRANSPOSE_TILE pixels, groups of
// BACKWARD_INPUTS inputs, images.
extern "C" __global__ void __launch_bounds__(TRANSPOSE_THREADS)
conv_transpose_backward(const float* values, const float* stats, const float* weight, const float* output,
                        const float* output_stats, const float* g, const float* sums, float* d_input, float* partial,
                        Transpose shape) {
    await_inputs();
    SHARED(float4, d, [BACKWARD_SLICE][TRANSPOSE_TILE]);
    SHARED(float4, w, [BACKWARD_INPUTS][BACKWARD_SLICE]);
    const int n = blockIdx.z, pixels = shape.pixels(), first_pixel = blockIdx.x * TRANSPOSE_TILE;
    const int first_input = blockIdx.y * BACKWARD_INPUTS;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;

    float sum[BACKWARD_WARP][TRANSPOSE_LANE] = {};
    for (int first = 0; first < shape.outputs; first += BACKWARD_SLICE) {
        const int slice = min(BACKWARD_SLICE, shape.outputs - first);
        __syncthreads();  // the slice before may still be read
        for (int t = threadIdx.x; t < slice * TRANSPOSE_TILE; t += TRANSPOSE_THREADS) {
            const int o = t / TRANSPOSE_TILE, pixel = first_pixel + t % TRANSPOSE_TILE;
            const int plane = n * shape.outputs + first + o;
            d[o][t % TRANSPOSE_TILE] =
                pixel < pixels
                    ? transpose_gradient(shape, output, g, undo_of(output_stats, sums, plane), plane, shape.block_at(pixel))
                    : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
        for (int t = threadIdx.x; t < BACKWARD_INPUTS * 4 * BACKWARD_SLICE; t += TRANSPOSE_THREADS) {
            const int i = t / (4 * BACKWARD_SLICE), k = t % (4 * BACKWARD_SLICE), input = first_input + i;
            const float* row = weight + ((long long)input * shape.outputs + first) * 4;
            reinterpret_cast<float*>(w[i])[k] = input < shape.inputs && k < 4 * slice ? row[k] : 0.0f;
        }
        __syncthreads();
        for (int o = 0; o < slice; ++o) {
            float4 of_pixel[TRANSPOSE_LANE];
            for (int p = 0; p < TRANSPOSE_LANE; ++p) of_pixel[p] = d[o][p * WARP + lane];
            for (int i = 0; i < BACKWARD_WARP; ++i) {
                const float4 weights = w[warp * BACKWARD_WARP + i][o];
                for (int p = 0; p < TRANSPOSE_LANE; ++p) sum[i][p] += transpose_dot(weights, of_pixel[p]);
            }
        }
    }

#pragma unroll
    for (int i = 0; i < BACKWARD_WARP; ++i) {
        const int channel = first_input + warp * BACKWARD_WARP + i;
        if (channel >= shape.inputs) continue;
        const int plane = n * shape.inputs + channel;
        const Norm norm = norm_of(stats, plane);
        float sum_g = 0.0f, sum_gx = 0.0f;
        for (int p = 0; p < TRANSPOSE_LANE; ++p) {
            const int pixel = first_pixel + p * WARP + lane;
            if (pixel >= pixels) continue;
            const long long at = (long long)plane * pixels + pixel;
            const float value = values[at], finished = put(d_input + at, norm.finish(sum[i][p], value));
            sum_g += finished;
            sum_gx += finished * norm.normalised(value);
        }
        sum_g = warp_sum(sum_g);
        sum_gx = warp_sum(sum_gx);
        if (!norm.present || lane != 0) continue;
        float* part = partial + 2 * ((long long)plane * gridDim.x + blockIdx.x);
        part[0] = sum_g;
        part[1] = sum_gx;
    }
}
KERNEL(conv_transpose_backward)
