// Products whose columns are pixels: the transposed convolution, and the gradient of its input.
//
// A warp makes TILES sixteens of rows for 32 pixels. Few pixels make few blocks: then warps go deep, two that share
// pixels, each with every other step of what is summed over.
#pragma once
#include "conv_transpose_mma.cuh"

constexpr int WARP_PRODUCTS = 4, WARP_PIXELS = 8 * WARP_PRODUCTS;
// Runs of a lane.
template <class S> constexpr int RUNS = WARP_PRODUCTS / RUN<S>;

template <int TILES_, int DEEP_> struct PixelCut {
    static constexpr int TILES = TILES_, DEEP = DEEP_;
    static constexpr int PLACES = TRANSPOSE_MMA_WARPS / DEEP, PIXELS = PLACES * WARP_PIXELS;
    static constexpr int MINE = TILES / DEEP;  // sixteens of rows that a warp finishes
    // Steps whose weights are in shared memory at a time: all of 36 channels in, and of 18 out.
    static constexpr int SLICE = 9 * DEEP;
    static constexpr int WEIGHTS = SLICE * TILES * int(WARP);  // of 16 bytes
    static_assert(TILES % DEEP == 0 && WEIGHTS * 4 >= TRANSPOSE_MMA_WARPS * (TILES - MINE) * 16 * WARP, "sums fit");
};

// A block's place: its first sixteens of rows, its warp's pixels.
template <class G> struct PixelPlace {
    int image, first_tile, place, deep, first_pixel;

    __device__ __forceinline__ PixelPlace()
        : image(blockIdx.z), first_tile(blockIdx.y * G::TILES), place(threadIdx.x / WARP / G::DEEP),
          deep(threadIdx.x / WARP % G::DEEP), first_pixel(blockIdx.x * G::PIXELS + place * WARP_PIXELS) {}
};

// Makes sum [MINE][WARP_PRODUCTS][4]. source: columns, `load(raw, step)` and later `finish(raw, b)`; weights(tile,
// step, lane): a lane's words of a product's rows. `steps` of 8 words, `tiles` sixteens of rows that there are.
template <class T, class G, class Source, class Weights>
__device__ __forceinline__ void multiply_pixels(float (&sum)[G::MINE][WARP_PRODUCTS][4], const PixelPlace<G>& place,
                                                const Source& source, const Weights& weights, int steps, int tiles) {
    SHARED(uint4, memory, [G::WEIGHTS]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    float all[G::TILES][WARP_PRODUCTS][4] = {};
    typename Source::Raw raw;
    source.load(raw, place.deep);
    for (int first = 0; first < steps; first += G::SLICE) {
        const int count = min(G::SLICE, steps - first);
        __syncthreads();  // the slice before may still be read
        for (int at = threadIdx.x; at < count * G::TILES * int(WARP); at += TRANSPOSE_MMA_THREADS) {
            const int tile = place.first_tile + at / WARP % G::TILES;
            memory[at] = tile < tiles ? weights(tile, first + at / WARP / G::TILES, at % WARP) : uint4{};
        }
        __syncthreads();
        for (int step = place.deep; step < count; step += G::DEEP) {
            unsigned b[WARP_PRODUCTS][2];
            source.finish(raw, b);
            source.load(raw, first + step + G::DEEP);
#pragma unroll
            for (int t = 0; t < G::TILES; ++t) {
                if (place.first_tile + t >= tiles) continue;
                const uint4 words = memory[(step * G::TILES + t) * WARP + lane];
                const unsigned a[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
                for (int j = 0; j < WARP_PRODUCTS; ++j) T::mma(all[t][j], a, b[j]);
            }
        }
    }
    if constexpr (G::DEEP == 1) {
#pragma unroll
        for (int at = 0; at < G::MINE * WARP_PRODUCTS * 4; ++at)
            sum[at / 16][at / 4 % 4][at % 4] = all[at / 16][at / 4 % 4][at % 4];
    } else {
        // Each finishes a half of the rows: its own share of the sum, then the other's.
        static_assert(G::DEEP == 2, "two halves");
        float* shared = reinterpret_cast<float*>(memory);  // [warps][MINE][products][4][lanes]
        const auto at = [&](int of_warp, int i) { return (of_warp * G::MINE * 16 + i) * WARP + lane; };
        __syncthreads();  // nobody reads weights
#pragma unroll
        for (int i = 0; i < G::MINE * 16; ++i) {
            const float lower = all[i / 16][i / 4 % 4][i % 4], upper = all[G::MINE + i / 16][i / 4 % 4][i % 4];
            sum[i / 16][i / 4 % 4][i % 4] = place.deep ? upper : lower;
            shared[at(warp, i)] = place.deep ? lower : upper;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < G::MINE * 16; ++i) sum[i / 16][i / 4 % 4][i % 4] += shared[at(warp ^ 1, i)];
    }
}

// The sum over lanes 1, 2, … `last` apart.
__device__ __forceinline__ float lane_sum(float value, int last) {
    for (int lanes = 1; lanes <= last; lanes *= 2) value += __shfl_xor_sync(ALL_LANES, value, lanes);
    return value;
}
