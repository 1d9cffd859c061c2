// The gradient of the transposed convolution's input on tensor cores.
//
// What is summed over are channels out by (channel, ky, kx): a lane has a row of the blocks of one channel, and of
// bf16, two of whose values are a word, of another channel too.
#pragma once
#include "conv_transpose_mma_pixels.cuh"

// ∂L/∂(raw output), of blocks.
template <class T> struct TransposeGradient {
    using S = typename T::Stored;
    static constexpr int CHANNELS = 2 * T::PACK;  // of a step
    const S *output, *g;
    const float *stats, *sums;
    Transpose shape;
    int image;
    bool whole;
    RunBlocks<S> runs[RUNS<S>];

    struct Raw {
        unsigned g[T::PACK][RUNS<S>][4], output[T::PACK][RUNS<S>][4];
        MmaUndo undo[T::PACK];
    };

    __device__ __forceinline__ void load(Raw& raw, int step) const {
        whole ? load_runs<true>(raw, step) : load_runs<false>(raw, step);
    }
    template <bool WHOLE> __device__ __forceinline__ void load_runs(Raw& raw, int step) const {
        const int member = threadIdx.x % 4;
#pragma unroll
        for (int k = 0; k < T::PACK; ++k) {
            const int channel = step * CHANNELS + k * 2 + member / 2, plane = image * shape.outputs + channel;
            const bool there = channel < shape.outputs;
            const long long row = 4ll * plane * shape.pixels() + member % 2 * 2 * shape.width;
            raw.undo[k] = mma_undo_of(there ? stats : nullptr, sums, plane);
#pragma unroll
            for (int r = 0; r < RUNS<S>; ++r) {
                if (there) {
                    runs[r].template load<WHOLE>(g + row, raw.g[k][r]);
                    runs[r].template load<WHOLE>(output + row, raw.output[k][r]);
                } else {
                    for (int i = 0; i < 4; ++i) raw.g[k][r][i] = raw.output[k][r][i] = 0;
                }
            }
        }
    }

    __device__ __forceinline__ void finish(const Raw& raw, unsigned (&b)[WARP_PRODUCTS][2]) const {
#pragma unroll
        for (int j = 0; j < WARP_PRODUCTS; ++j) {
            float d[T::PACK][2];
#pragma unroll
            for (int k = 0; k < T::PACK; ++k)
#pragma unroll
                for (int kx = 0; kx < 2; ++kx) {
                    const int r = j / RUN<S>, i = 2 * (j % RUN<S>) + kx;
                    d[k][kx] = raw.undo[k](value_of<S>(raw.g[k][r], i), value_of<S>(raw.output[k][r], i));
                }
            words_of(d, b[j]);
        }
    }
    static __device__ __forceinline__ void words_of(const float (&d)[1][2], unsigned (&b)[2]) {
        for (int kx = 0; kx < 2; ++kx) b[kx] = T::word({d[0][kx]});
    }
    static __device__ __forceinline__ void words_of(const float (&d)[2][2], unsigned (&b)[2]) {
        for (int k = 0; k < 2; ++k) b[k] = T::word(d[k]);
    }
};

template <class T> struct InputWeights {
    const float* weight;
    Transpose shape;

    __device__ __forceinline__ uint4 operator()(int tile, int step, int lane) const {
        unsigned words[2][2];  // of rows `group` and eight more, as TransposeGradient's
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
            const int input = tile * 16 + lower * 8 + lane / 4, ky = lane % 2;
            float w[T::PACK][2] = {};
#pragma unroll
            for (int k = 0; k < T::PACK; ++k) {
                const int output = step * TransposeGradient<T>::CHANNELS + k * 2 + lane % 4 / 2;
                if (input >= shape.inputs || output >= shape.outputs) continue;
                const float* pair = weight + ((long long)input * shape.outputs + output) * 4 + ky * 2;
                w[k][0] = pair[0];
                w[k][1] = pair[1];
            }
            TransposeGradient<T>::words_of(w, words[lower]);
        }
        return make_uint4(words[0][0], words[1][0], words[0][1], words[1][1]);
    }
};

// Two runs of pixels, from `first` on. WHOLE: all planes have whole pairs of runs.
template <bool WHOLE, class S> struct TwoRuns {
    int first, pixels;

    __device__ __forceinline__ void load(const S* plane, unsigned (&words)[4]) const {
        unsigned of_run[2][2] = {};
        if constexpr (WHOLE) {
            if (first < pixels) {
                const uint4 all = *reinterpret_cast<const uint4*>(plane + first);
                of_run[0][0] = all.x;
                of_run[0][1] = all.y;
                of_run[1][0] = all.z;
                of_run[1][1] = all.w;
            }
        } else {
            for (int i = 0; i < 2; ++i) load_run<false>(plane, first + i * RUN<S>, pixels, of_run[i]);
        }
        for (int i = 0; i < 4; ++i) words[i] = of_run[i / 2][i % 2];
    }
    __device__ __forceinline__ void store(S* plane, const unsigned (&words)[4]) const {
        if constexpr (WHOLE) {
            if (first < pixels)
                *reinterpret_cast<uint4*>(plane + first) = make_uint4(words[0], words[1], words[2], words[3]);
        } else {
#pragma unroll
            for (int i = 0; i < 2 * RUN<S>; ++i)
                if (first + i < pixels) put(plane + first + i, value_of<S>(words, i));
        }
    }
};

// Finishes and stores what a warp has made, and leaves sums of g and g·x̂ of each channel in `sums` [TILES · 16].
template <bool WHOLE, class S, class G>
__device__ __forceinline__ void finish_gradient(const float (&sum)[G::MINE][WARP_PRODUCTS][4],
                                                const PixelPlace<G>& place, const S* values, const float* stats,
                                                S* d_input, const Transpose& shape, float2* sums) {
    const int pixels = shape.pixels(), member = threadIdx.x % 4, group = threadIdx.x % WARP / 4;
#pragma unroll
    for (int t = 0; t < G::MINE; ++t)
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
            const int of_block = (place.deep * G::MINE + t) * 16 + lower * 8 + group;
            const int channel = place.first_tile * 16 + of_block, plane = place.image * shape.inputs + channel;
            float sum_g = 0.0f, sum_gx = 0.0f;
            if (channel < shape.inputs) {
                const Norm norm = norm_of(stats, plane);
#pragma unroll
                for (int r = 0; r < RUNS<S>; ++r) {
                    // A lane's columns are two runs that follow each other.
                    const TwoRuns<WHOLE, S> at = {place.first_pixel + (r * 8 + 2 * member) * RUN<S>, pixels};
                    unsigned read[4], words[4];
                    at.load(values + (long long)plane * pixels, read);
                    float d[2 * RUN<S>];
#pragma unroll
                    for (int i = 0; i < 2 * RUN<S>; ++i)
                        d[i] = norm.finish(sum[t][r * RUN<S> + i % RUN<S>][lower * 2 + i / RUN<S>],
                                           value_of<S>(read, i));
                    to_words<S>(d, words, 2 * RUN<S>);
                    at.store(d_input + (long long)plane * pixels, words);
#pragma unroll
                    for (int i = 0; i < 2 * RUN<S>; ++i) {
                        const float finished = at.first + i < pixels ? value_of<S>(words, i) : 0.0f;
                        sum_g += finished;
                        sum_gx += finished * norm.normalised(value_of<S>(read, i));
                    }
                }
            }
            sum_g = lane_sum(sum_g, 2);
            sum_gx = lane_sum(sum_gx, 2);
            if (member == 0) sums[of_block] = make_float2(sum_g, sum_gx);
        }
}

// As conv_transpose_backward; partial: [n·inputs, gridDim.x, 2].
template <class T, class G>
__device__ __forceinline__ void conv_transpose_inputs_mma(const typename T::Stored* values, const float* stats,
                                                          const float* weight, const typename T::Stored* output,
                                                          const float* output_stats, const typename T::Stored* g,
                                                          const float* sums, typename T::Stored* d_input, float* partial,
                                                          Transpose shape) {
    using S = typename T::Stored;
    SHARED(float2, of_warp, [G::PLACES][G::TILES * 16]);  // sums of g and of g·x̂
    const PixelPlace<G> place;
    float sum[G::MINE][WARP_PRODUCTS][4];
    const bool whole = whole_blocks<S>(shape);
    TransposeGradient<T> gradient = {output, g, output_stats, sums, shape, place.image, whole, {}};
#pragma unroll
    for (int r = 0; r < RUNS<S>; ++r)
        gradient.runs[r].find(shape, place.first_pixel + (r * 8 + threadIdx.x % WARP / 4) * RUN<S>, whole);
    constexpr int CHANNELS = TransposeGradient<T>::CHANNELS;
    multiply_pixels<T, G>(sum, place, gradient, InputWeights<T>{weight, shape},
                          (shape.outputs + CHANNELS - 1) / CHANNELS, (shape.inputs + 15) / 16);

    if (shape.pixels() % (2 * RUN<S>) == 0) {
        finish_gradient<true, S, G>(sum, place, values, stats, d_input, shape, of_warp[place.place]);
    } else {
        finish_gradient<false, S, G>(sum, place, values, stats, d_input, shape, of_warp[place.place]);
    }
    if (!stats) return;
    __syncthreads();
    for (int c = threadIdx.x; c < G::TILES * 16; c += TRANSPOSE_MMA_THREADS) {
        const int channel = place.first_tile * 16 + c;
        if (channel >= shape.inputs) continue;
        float2 all = make_float2(0.0f, 0.0f);
        for (int p = 0; p < G::PLACES; ++p) all = all + of_warp[p][c];
        float* part = partial + 2ll * ((long long)(place.image * shape.inputs + channel) * gridDim.x + blockIdx.x);
        part[0] = all.x;
        part[1] = all.y;
    }
}
