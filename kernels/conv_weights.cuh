// The gradient of 3×3 filters: each of its elements is a sum over all pixels of all images.
//
// A block takes a group of input channels, a group of output channels and a part of the tiles. A thread has the nine
// taps of one input channel and Q output channels in registers, and sums over every `splits`-th row of STRIP pixels
// of a tile. In shared memory channels lie side by side, so that neighbouring threads read neighbouring words.
#pragma once
#include "conv_planes.cuh"

constexpr int STRIP = 8, STRIPS = TILE * TILE / STRIP;
constexpr int GROUP = 18;  // channels of a group, at most
constexpr int WEIGHTS_THREADS = 256;

// How the work is cut. All images together have `tiles`; a part has `per_part` of them. Groups have `inputs` and
// `outputs` channels, the last ones maybe fewer. The threads are splits × (outputs / Q) × inputs.
struct ConvCut {
    int tiles, per_part, inputs, outputs, splits;
};
DESCRIBE(ConvCut, tiles, per_part, inputs, outputs, splits)

// partial: [parts, out, inputs, 3, 3]. Blocks: parts, groups of input channels, groups of output channels.
template <int Q>
__device__ __forceinline__ void weight_gradient(const Inputs& inputs, const OutputGradient& gradient, float* partial,
                                                ConvCut cut) {
    // One more, lest the writes of neighbouring threads fall into one bank.
    SHARED(float, window, [WINDOW * WINDOW][GROUP + 1]);
    SHARED(float2, tile, [TILE * TILE][GROUP / 2]);
    const ConvShape shape = inputs.shape;
    const int first_in = blockIdx.y * cut.inputs, ins = min(cut.inputs, shape.inputs() - first_in);
    const int first_out = blockIdx.z * cut.outputs, outs = min(cut.outputs, shape.out - first_out);
    const int pairs = cut.inputs * (cut.outputs / Q);
    const int split = threadIdx.x / pairs, pair = threadIdx.x % pairs;
    const int in = pair % cut.inputs, out = pair / cut.inputs * Q;
    const bool busy = split < cut.splits && in < ins && out < outs;
    float sum[Q][9] = {};

    const int begin = blockIdx.x * cut.per_part, end = min(begin + cut.per_part, cut.tiles);
    for (int t = begin; t < end; ++t) {
        const int image = t / tiles_of(shape);
        const TileCorner corner = corner_of(t % tiles_of(shape), shape);
        __syncthreads();  // the tile before this one may still be read
        each_pixel<WINDOW>(inputs, image, first_in, ins, TileCorner{corner.y - 1, corner.x - 1},
                           [&](int c, int position, float value) { window[position][c] = value; });
        each_pixel<TILE>(gradient, image, first_out, outs, corner,
                         [&](int c, int position, float value) { (&tile[position][0].x)[c] = value; });
        __syncthreads();
        if (!busy) continue;
        for (int strip = split; strip < STRIPS; strip += cut.splits) {
            const int y = strip / (TILE / STRIP), left = strip % (TILE / STRIP) * STRIP;
            float x[3][STRIP + 2];
#pragma unroll
            for (int ky = 0; ky < 3; ++ky)
#pragma unroll
                for (int i = 0; i < STRIP + 2; ++i) x[ky][i] = window[(y + ky) * WINDOW + left + i][in];
#pragma unroll
            for (int i = 0; i < STRIP; ++i) {
#pragma unroll
                for (int q = 0; q < Q; q += 2) {
                    const float2 g = tile[y * TILE + left + i][(out + q) / 2];
#pragma unroll
                    for (int tap = 0; tap < 9; ++tap) {
                        sum[q][tap] += g.x * x[tap / 3][i + tap % 3];
                        sum[q + 1][tap] += g.y * x[tap / 3][i + tap % 3];
                    }
                }
            }
        }
    }

    // The splits of a pair are added up one output channel at a time, where the tiles were.
    float* shared = &window[0][0];  // [splits, pairs, 9]
    float* of_part = partial + (long long)blockIdx.x * shape.out * shape.inputs() * 9;
#pragma unroll
    for (int q = 0; q < Q; ++q) {
        __syncthreads();
        if (busy) {
#pragma unroll
            for (int tap = 0; tap < 9; ++tap) shared[threadIdx.x * 9 + tap] = sum[q][tap];
        }
        __syncthreads();
        for (int at = threadIdx.x; at < pairs * 9; at += blockDim.x) {
            const int i = at / 9 % cut.inputs, o = at / 9 / cut.inputs * Q + q;
            if (i >= ins || o >= outs) continue;
            float all = 0.0f;
            for (int s = 0; s < cut.splits; ++s) all += shared[s * pairs * 9 + at];
            of_part[((long long)(first_out + o) * shape.inputs() + first_in + i) * 9 + at % 9] = all;
        }
    }
}
