// The transposed convolution on tensor cores: what its three products share.
//
// The four values of a pixel's 2×2 block, for every channel out, are as many channels of a plain matrix product:
//
//                        rows (16)                  columns (8)              summed over
//     forward            channels out, block        pixels                   channels in
//     input's gradient   channels in                pixels                   channels out, block
//     weight's gradient  channels in                channels out, block      pixels
//
// Lanes load pixels straight from memory, in runs of 8 bytes: two pixels, or four of bf16. The blocks of a run are 16
// bytes in each of two rows of the output. Which pixel is which column, or comes when in a sum, is free to choose:
// pixel v of each run goes into product v, so that a lane uses all that it loads, and what it has made are 16 bytes to
// store. Pixels never go through shared memory; weights do, in the order of the products.
#pragma once
#include "conv_transpose.cuh"
#include "mma.cuh"
#include "norm_mma.cuh"

constexpr int TRANSPOSE_MMA_WARPS = 4, TRANSPOSE_MMA_THREADS = TRANSPOSE_MMA_WARPS * WARP;
constexpr int STEP = 8;  // words that a product sums over

template <class S> constexpr int RUN = 8 / int(sizeof(S));  // pixels

// Value i of those that lie in words.
template <class S> __device__ __forceinline__ float value_of(const unsigned* words, int i);
template <> __device__ __forceinline__ float value_of<float>(const unsigned* words, int i) {
    return __uint_as_float(words[i]);
}
template <> __device__ __forceinline__ float value_of<bf16>(const unsigned* words, int i) {
    return __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
}

// Words of so many values, rounded as they are stored.
template <class S> __device__ __forceinline__ void to_words(const float* values, unsigned* words, int count);
template <> __device__ __forceinline__ void to_words<float>(const float* values, unsigned* words, int count) {
#pragma unroll
    for (int i = 0; i < count; ++i) words[i] = __float_as_uint(values[i]);
}
template <> __device__ __forceinline__ void to_words<bf16>(const float* values, unsigned* words, int count) {
#pragma unroll
    for (int i = 0; i < count / 2; ++i) words[i] = word_of(values[2 * i], values[2 * i + 1]);
}

// One value as the lower bits of a word.
__device__ __forceinline__ unsigned bits_at(const float* at) { return __float_as_uint(*at); }
__device__ __forceinline__ unsigned bits_at(const bf16* at) { return at->bits; }

// Pixels `first` and those that follow, of a plane of so many. WHOLE: all planes have whole runs of them.
template <bool WHOLE, class S>
__device__ __forceinline__ void load_run(const S* plane, int first, int pixels, unsigned (&words)[2]) {
    words[0] = words[1] = 0;
    if constexpr (WHOLE) {
        if (first < pixels) {
            const uint2 both = *reinterpret_cast<const uint2*>(plane + first);
            words[0] = both.x;
            words[1] = both.y;
        }
    } else {
#pragma unroll
        for (int v = 0; v < RUN<S>; ++v)
            if (first + v < pixels)
                words[v * 2 / RUN<S>] |= bits_at(plane + first + v) << (RUN<S> == 4 ? v % 2 * 16 : 0);
    }
}

// Where the blocks of a run's pixels lie in a plane of the output; negative where there are none. WHOLE: side by side,
// for rows have whole runs.
template <class S> struct RunBlocks {
    int at[RUN<S>];

    __device__ __forceinline__ void find(const Transpose& shape, int first, bool whole) {
        at[0] = first < shape.pixels() ? shape.block_at(first) : -1;
#pragma unroll
        for (int v = 1; v < RUN<S>; ++v) {
            if (whole) {
                at[v] = at[0] < 0 ? -1 : at[0] + 2 * v;
            } else {
                at[v] = first + v < shape.pixels() ? shape.block_at(first + v) : -1;
            }
        }
    }

    // Of each block the two values in the row that begins at `row`.
    template <bool WHOLE> __device__ __forceinline__ void load(const S* row, unsigned (&words)[4]) const {
        words[0] = words[1] = words[2] = words[3] = 0;
        if constexpr (WHOLE) {
            if (at[0] >= 0) {
                const uint4 all = *reinterpret_cast<const uint4*>(row + at[0]);
                words[0] = all.x;
                words[1] = all.y;
                words[2] = all.z;
                words[3] = all.w;
            }
        } else {
#pragma unroll
            for (int v = 0; v < RUN<S>; ++v)
                if (at[v] >= 0) load_pair(row + at[v], words + v * 4 / RUN<S>);
        }
    }
    template <bool WHOLE> __device__ __forceinline__ void store(S* row, const unsigned (&words)[4]) const {
        if constexpr (WHOLE) {
            if (at[0] >= 0) *reinterpret_cast<uint4*>(row + at[0]) = make_uint4(words[0], words[1], words[2], words[3]);
        } else {
#pragma unroll
            for (int v = 0; v < RUN<S>; ++v)
                if (at[v] >= 0) store_pair(row + at[v], words + v * 4 / RUN<S>);
        }
    }

private:
    static __device__ __forceinline__ void load_pair(const float* at, unsigned* words) {
        const uint2 both = *reinterpret_cast<const uint2*>(at);
        words[0] = both.x;
        words[1] = both.y;
    }
    static __device__ __forceinline__ void load_pair(const bf16* at, unsigned* words) {
        *words = *reinterpret_cast<const unsigned*>(at);
    }
    static __device__ __forceinline__ void store_pair(float* at, const unsigned* words) {
        *reinterpret_cast<uint2*>(at) = uint2{words[0], words[1]};
    }
    static __device__ __forceinline__ void store_pair(bf16* at, const unsigned* words) {
        *reinterpret_cast<unsigned*>(at) = *words;
    }
};
template <class S> __device__ __forceinline__ bool whole_runs(const Transpose& shape) {
    return shape.pixels() % RUN<S> == 0;
}
template <class S> __device__ __forceinline__ bool whole_blocks(const Transpose& shape) {
    return shape.width % RUN<S> == 0;
}
