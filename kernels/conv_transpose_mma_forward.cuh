// The transposed convolution on tensor cores.
//
// Rows of a product are four channels out, by (channel, ky), first those of kx = 0, then of kx = 1: a lane has both
// values of a pixel's row of its block, and its products those of a run.
#pragma once
#include "conv_transpose_mma_pixels.cuh"

// Activated pixels. Column c of a product is a pixel of run `4·(c % 2) + c / 2`, so that runs that follow each other
// are stored by lanes that do.
template <class T> struct TransposeInput {
    using S = typename T::Stored;
    const S* values;
    const float* stats;
    Transpose shape;
    int image, first_pixel;
    bool whole;

    struct Raw {
        unsigned words[2][T::PACK][RUNS<S>][2];
        MmaNorm norm[2][T::PACK];
    };

    __device__ __forceinline__ void load(Raw& raw, int step) const {
        whole ? load_runs<true>(raw, step) : load_runs<false>(raw, step);
    }
    template <bool WHOLE> __device__ __forceinline__ void load_runs(Raw& raw, int step) const {
        const int column = threadIdx.x % WARP / 4, run = 4 * (column % 2) + column / 2;
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int k = 0; k < T::PACK; ++k) {
                const int channel = (step * STEP + threadIdx.x % 4 + 4 * h) * T::PACK + k;
                const int plane = image * shape.inputs + channel;
                const bool there = channel < shape.inputs;
                raw.norm[h][k] = mma_norm_of(there ? stats : nullptr, plane);
#pragma unroll
                for (int r = 0; r < RUNS<S>; ++r)
                    load_run<WHOLE>(values + (long long)plane * shape.pixels(), first_pixel + (r * 8 + run) * RUN<S>,
                                    there ? shape.pixels() : 0, raw.words[h][k][r]);
            }
    }

    __device__ __forceinline__ void finish(const Raw& raw, unsigned (&b)[WARP_PRODUCTS][2]) const {
#pragma unroll
        for (int j = 0; j < WARP_PRODUCTS; ++j)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float x[T::PACK];
#pragma unroll
                for (int k = 0; k < T::PACK; ++k)
                    x[k] = raw.norm[h][k].activate(value_of<S>(raw.words[h][k][j / RUN<S>], j % RUN<S>));
                b[j][h] = T::word(x);
            }
    }
};

template <class T> struct ForwardWeights {
    const float* weight;
    Transpose shape;

    __device__ __forceinline__ uint4 operator()(int tile, int step, int lane) const {
        const int output = tile * 4 + lane / 8, ky = lane / 4 % 2;
        unsigned words[4];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float x[2][T::PACK] = {};
#pragma unroll
            for (int k = 0; k < T::PACK; ++k) {
                const int input = (step * STEP + lane % 4 + 4 * h) * T::PACK + k;
                if (output >= shape.outputs || input >= shape.inputs) continue;
                const float* pair = weight + ((long long)input * shape.outputs + output) * 4 + ky * 2;
                x[0][k] = pair[0];
                x[1][k] = pair[1];
            }
            words[2 * h] = T::word(x[0]);
            words[2 * h + 1] = T::word(x[1]);
        }
        return make_uint4(words[0], words[1], words[2], words[3]);
    }
};

// Stores what a warp has made, and leaves mean and squared deviations of each channel in `moments` [TILES · 4]. count:
// of values of a channel.
template <bool WHOLE, class S, class G>
__device__ __forceinline__ void finish_output(const float (&sum)[G::MINE][WARP_PRODUCTS][4], const PixelPlace<G>& place,
                                              S* output, const Transpose& shape, int count, float2* moments) {
    const int member = threadIdx.x % 4, group = threadIdx.x % WARP / 4;
    const float share = count > 0 ? 1.0f / count : 0.0f;
    // Where the blocks lie that a lane has made, the same in each of its channels.
    RunBlocks<S> runs[2 * RUNS<S>];
#pragma unroll
    for (int r = 0; r < 2 * RUNS<S>; ++r) runs[r].find(shape, place.first_pixel + (r * 4 + member) * RUN<S>, WHOLE);
#pragma unroll
    for (int t = 0; t < G::MINE; ++t) {
        const int of_block = (place.deep * G::MINE + t) * 4 + group / 2, channel = place.first_tile * 4 + of_block;
        S* row = output + 4ll * (place.image * shape.outputs + channel) * shape.pixels() + group % 2 * 2 * shape.width;
        float total = 0.0f, squares = 0.0f, made[2 * RUNS<S>][2 * RUN<S>];
#pragma unroll
        for (int r = 0; r < 2 * RUNS<S>; ++r) {
#pragma unroll
            for (int v = 0; v < RUN<S>; ++v)
#pragma unroll
                for (int kx = 0; kx < 2; ++kx) made[r][2 * v + kx] = sum[t][r / 2 * RUN<S> + v][2 * kx + r % 2];
            unsigned words[4];
            to_words<S>(made[r], words, 2 * RUN<S>);
            if (channel < shape.outputs) runs[r].template store<WHOLE>(row, words);
#pragma unroll
            for (int i = 0; i < 2 * RUN<S>; ++i) {
                made[r][i] = value_of<S>(words, i);
                total += runs[r].at[i / 2] >= 0 ? made[r][i] : 0.0f;
            }
        }
        // Members and both rows of blocks have the same channel.
        const float mean = lane_sum(total, 4) * share;
#pragma unroll
        for (int r = 0; r < 2 * RUNS<S>; ++r)
#pragma unroll
            for (int i = 0; i < 2 * RUN<S>; ++i) {
                const float deviation = runs[r].at[i / 2] >= 0 ? made[r][i] - mean : 0.0f;
                squares += deviation * deviation;
            }
        squares = lane_sum(squares, 4);
        if (threadIdx.x % 8 == 0) moments[of_block] = make_float2(mean, squares);
    }
}

// As conv_transpose.cu's; partial: [n·outputs, gridDim.x, 3].
template <class T, class G>
__device__ __forceinline__ void conv_transpose_mma(const typename T::Stored* values, const float* stats,
                                                   const float* weight, typename T::Stored* output, float* partial,
                                                   Transpose shape) {
    using S = typename T::Stored;
    SHARED(float2, of_warp, [G::PLACES][G::TILES * 4]);  // mean and squared deviations
    const PixelPlace<G> place;
    float sum[G::MINE][WARP_PRODUCTS][4];
    const TransposeInput<T> input = {values, stats, shape, place.image, place.first_pixel, whole_runs<S>(shape)};
    const int words = (shape.inputs + T::PACK - 1) / T::PACK;
    multiply_pixels<T, G>(sum, place, input, ForwardWeights<T>{weight, shape}, (words + STEP - 1) / STEP,
                          (shape.outputs + 3) / 4);

    const auto count_of = [&](int of) {
        return 4 * max(0, min(WARP_PIXELS, shape.pixels() - int(blockIdx.x) * G::PIXELS - of * WARP_PIXELS));
    };
    const int count = count_of(place.place);
    if (whole_blocks<S>(shape)) {
        finish_output<true, S, G>(sum, place, output, shape, count, of_warp[place.place]);
    } else {
        finish_output<false, S, G>(sum, place, output, shape, count, of_warp[place.place]);
    }
    __syncthreads();
    for (int c = threadIdx.x; c < G::TILES * 4; c += TRANSPOSE_MMA_THREADS) {
        const int channel = place.first_tile * 4 + c;
        if (channel >= shape.outputs) continue;
        // As in norm.cuh; the numbers of pixels are small and exact.
        float n = 0.0f, mean = 0.0f, squares = 0.0f;
        for (int p = 0; p < G::PLACES; ++p) {
            const float2 more = of_warp[p][c];
            const float of_more = count_of(p), both = n + of_more, delta = more.x - mean;
            if (of_more == 0.0f) continue;
            mean += delta * of_more / both;
            squares += more.y + delta * delta * n * of_more / both;
            n = both;
        }
        float* part = partial + 3ll * ((long long)(place.image * shape.outputs + channel) * gridDim.x + blockIdx.x);
        part[0] = n;
        part[1] = mean;
        part[2] = squares;
    }
}
