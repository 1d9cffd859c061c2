// The gradient of the transposed convolution's weight on tensor cores: a sum over all pixels of all images.
//
// Rows of a product are channels in; its columns four channels out by (channel, ky), and there is one product for each
// kx. A lane has a run of pixels of each of its rows, and their blocks in a row of each of its channels out. At the top
// of the network a block has all channels, so that each value is read once; its warps take pixels in turn, and are
// added up at the end.
#pragma once
#include "conv_transpose_mma.cuh"

// Of a block: sixteens of channels in, fours of channels out.
constexpr int SUM_TILES = 3, SUM_INPUTS = SUM_TILES * 16;
constexpr int SUM_FOURS = 5, SUM_OUTPUTS = SUM_FOURS * 4;

// What a function is told at compile time.
struct Yes {
    __device__ constexpr bool operator()() const { return true; }
};
struct No {
    __device__ constexpr bool operator()() const { return false; }
};

// partial: [parts, inputs, outputs, 4]. A step is four runs of pixels; each image has `steps`. Blocks: parts, groups of
// SUM_INPUTS channels in, groups of SUM_OUTPUTS channels out.
template <class T>
__device__ __forceinline__ void conv_transpose_weight_mma(const typename T::Stored* values, const float* stats,
                                                          const typename T::Stored* output, const float* output_stats,
                                                          const typename T::Stored* g, const float* sums, float* partial,
                                                          Transpose shape, int n, int steps) {
    using S = typename T::Stored;
    SHARED(float4, shared, [SUM_TILES][SUM_FOURS][2][WARP]);
    const int pixels = shape.pixels(), lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int group = lane / 4, member = lane % 4;
    const int first_input = blockIdx.y * SUM_INPUTS, first_output = blockIdx.z * SUM_OUTPUTS;
    const bool runs_whole = whole_runs<S>(shape), blocks_whole = whole_blocks<S>(shape);

    float sum[SUM_TILES][SUM_FOURS][2][4] = {};
    for (int step = blockIdx.x * TRANSPOSE_MMA_WARPS + warp; step < n * steps; step += gridDim.x * TRANSPOSE_MMA_WARPS) {
        const int image = step / steps, first = (step % steps * 4 + member) * RUN<S>;
        unsigned x[SUM_TILES][2][2], of_g[SUM_FOURS][4], of_output[SUM_FOURS][4];
        const auto load_pixels = [&](auto whole) {
#pragma unroll
            for (int t = 0; t < SUM_TILES; ++t)
#pragma unroll
                for (int lower = 0; lower < 2; ++lower) {
                    const int channel = first_input + t * 16 + lower * 8 + group;
                    load_run<whole()>(values + (long long)(image * shape.inputs + channel) * pixels, first,
                                      channel < shape.inputs ? pixels : 0, x[t][lower]);
                }
        };
        const auto load_blocks = [&](auto whole) {
            RunBlocks<S> blocks;
            blocks.find(shape, first, whole());
#pragma unroll
            for (int o = 0; o < SUM_FOURS; ++o) {
                const int channel = first_output + o * 4 + group / 2;
                for (int i = 0; i < 4; ++i) of_g[o][i] = of_output[o][i] = 0;
                if (channel >= shape.outputs) continue;
                const long long row = 4ll * (image * shape.outputs + channel) * pixels + group % 2 * 2 * shape.width;
                blocks.template load<whole()>(g + row, of_g[o]);
                blocks.template load<whole()>(output + row, of_output[o]);
            }
        };
        runs_whole ? load_pixels(Yes{}) : load_pixels(No{});
        blocks_whole ? load_blocks(Yes{}) : load_blocks(No{});

        unsigned a[SUM_TILES][4];
#pragma unroll
        for (int t = 0; t < SUM_TILES; ++t)
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                const int channel = first_input + t * 16 + lower * 8 + group;
                const MmaNorm norm = mma_norm_of(channel < shape.inputs ? stats : nullptr, image * shape.inputs + channel);
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    float of_word[T::PACK];
#pragma unroll
                    for (int k = 0; k < T::PACK; ++k) {
                        const int v = h * T::PACK + k;
                        // Beyond the last pixel there is nothing to add.
                        of_word[k] = first + v < pixels ? norm.activate(value_of<S>(x[t][lower], v)) : 0.0f;
                    }
                    a[t][2 * h + lower] = T::word(of_word);
                }
            }
#pragma unroll
        for (int o = 0; o < SUM_FOURS; ++o) {
            if (first_output + o * 4 >= shape.outputs) continue;
            const int channel = first_output + o * 4 + group / 2;
            const MmaUndo undo =
                mma_undo_of(channel < shape.outputs ? output_stats : nullptr, sums, image * shape.outputs + channel);
#pragma unroll
            for (int kx = 0; kx < 2; ++kx) {
                unsigned b[2];
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    float d[T::PACK];
#pragma unroll
                    for (int k = 0; k < T::PACK; ++k) {
                        const int i = 2 * (h * T::PACK + k) + kx;
                        d[k] = undo(value_of<S>(of_g[o], i), value_of<S>(of_output[o], i));
                    }
                    b[h] = T::word(d);
                }
#pragma unroll
                for (int t = 0; t < SUM_TILES; ++t) T::mma(sum[t][o][kx], a[t], b);
            }
        }
    }

    for (int turn = 0; turn < TRANSPOSE_MMA_WARPS; ++turn) {
        __syncthreads();
        if (turn != warp) continue;
#pragma unroll
        for (int t = 0; t < SUM_TILES; ++t)
#pragma unroll
            for (int o = 0; o < SUM_FOURS; ++o)
#pragma unroll
                for (int lower = 0; lower < 2; ++lower) {
                    // Its columns 2·member and the next are both rows of a block.
                    const auto& of = sum[t][o];
                    float4& to = shared[t][o][lower][lane];
                    const float4 before = turn == 0 ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : to;
                    to = make_float4(before.x + of[0][2 * lower], before.y + of[1][2 * lower],
                                     before.z + of[0][2 * lower + 1], before.w + of[1][2 * lower + 1]);
                }
    }
    __syncthreads();
    float4* part = reinterpret_cast<float4*>(partial) + (long long)blockIdx.x * shape.inputs * shape.outputs;
    for (int at = warp; at < SUM_TILES * SUM_FOURS * 2; at += TRANSPOSE_MMA_WARPS) {
        const int t = at / 2 / SUM_FOURS, o = at / 2 % SUM_FOURS, lower = at % 2;
        const int input = first_input + t * 16 + lower * 8 + group, channel = first_output + o * 4 + member;
        if (input < shape.inputs && channel < shape.outputs)
            part[(long long)input * shape.outputs + channel] = shared[t][o][lower][lane];
    }
}
