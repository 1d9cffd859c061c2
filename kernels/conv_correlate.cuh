// Correlation with 3×3 filters: the convolution itself and, with filters flipped and transposed, the gradient of its
// inputs.
//
// A block makes one tile of one image. Each of its warps makes all of that tile for Q channels, in registers: a lane
// has a column of RUN pixels of each. So what a lane reads from shared memory lies beside what its neighbours read,
// a filter's weight is the same for the whole warp, and sums over the tile are sums over a warp.
#pragma once
#include "conv_planes.cuh"

constexpr int RUN = TILE * TILE / WARP;
// Channels that are summed over, in shared memory at a time: half of the network's usual 18.
constexpr int SLICE = 9;
constexpr int CORRELATE_WARPS = 6;  // of a block, at most
constexpr int CORRELATE_THREADS = CORRELATE_WARPS * WARP;

// The pixels of a lane: RUN rows from y on, column x.
struct Column {
    int y, x;
};

// Channels `begin + …` to `end` of the result; `planes` has `inputs` channels. The weight of channels o and i is
// `weights[o, i, tap]`, or `weights[i, o, 8 − tap]` where FLIPPED, which has `flipped_row` channels o.
// `store(channel, column, sum[RUN])` is called by all lanes of a warp with the same channel.
// Blocks: tiles, groups of Q channels for each warp, images.
template <int Q, bool FLIPPED, class Planes, class Store>
__device__ __forceinline__ void correlate(const Planes& planes, int inputs, const float* weights, int flipped_row,
                                          int begin, int end, const Store& store) {
    SHARED(float, window, [SLICE][WINDOW * WINDOW]);
    // By tap, then by channel. One more, lest the writes of neighbouring threads fall into one bank.
    SHARED(float2, filters, [SLICE * 9][CORRELATE_WARPS * Q / 2 + 1]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, image = blockIdx.z;
    const int channels = blockDim.x / WARP * Q, first = begin + blockIdx.y * channels, mine = first + warp * Q;
    const TileCorner corner = corner_of(blockIdx.x, planes.shape);
    const int top = lane / TILE * RUN, left = lane % TILE;
    float sum[Q][RUN] = {};

    for (int from = 0; from < inputs; from += SLICE) {
        const int count = min(SLICE, inputs - from);
        __syncthreads();  // the slice before this one may still be read
        each_pixel<WINDOW>(planes, image, from, count, TileCorner{corner.y - 1, corner.x - 1},
                           [&](int c, int position, float value) { window[c][position] = value; });
        for (int at = threadIdx.x; at < channels * count * 9; at += blockDim.x) {
            // In the order in which they lie in memory.
            const int tap = at % 9, pair = at / 9;
            const int o = FLIPPED ? pair % channels : pair / count, i = FLIPPED ? pair / channels : pair % count;
            const int row = FLIPPED ? from + i : first + o, entry = FLIPPED ? first + o : from + i;
            const long long weight = ((long long)row * (FLIPPED ? flipped_row : inputs) + entry) * 9 + tap;
            float* to = &filters[i * 9 + (FLIPPED ? 8 - tap : tap)][0].x;
            to[o] = first + o < end ? weights[weight] : 0.0f;
        }
        __syncthreads();
        if (mine >= end) continue;
        for (int i = 0; i < count; ++i) {
            const float* pixels = &window[i][top * WINDOW + left];
#pragma unroll
            for (int kx = 0; kx < 3; ++kx) {
                float x[RUN + 2];
#pragma unroll
                for (int y = 0; y < RUN + 2; ++y) x[y] = pixels[y * WINDOW + kx];
#pragma unroll
                for (int ky = 0; ky < 3; ++ky) {
                    const float2* of_tap = &filters[i * 9 + ky * 3 + kx][warp * Q / 2];
#pragma unroll
                    for (int q = 0; q < Q; q += 2) {
                        const float2 w = of_tap[q / 2];
#pragma unroll
                        for (int y = 0; y < RUN; ++y) {
                            sum[q][y] += w.x * x[y + ky];
                            sum[q + 1][y] += w.y * x[y + ky];
                        }
                    }
                }
            }
        }
    }
#pragma unroll
    for (int q = 0; q < Q; ++q) {
        if (mine + q < end) store(mine + q, Column{corner.y + top, corner.x + left}, sum[q]);
    }
}
