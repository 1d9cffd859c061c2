// Correlation with 3×3 filters on tensor cores: the convolution itself and, with filters flipped and transposed, the
// gradient of its inputs.
//
// A matrix product for each tap: pixels × channels in × channels out. Pixels are the 16 rows of a product, as two rows
// of eight; channels out its 8 columns; channels in, by fours, what is summed over. Channels of the paper's network are
// 18·2ˡ, which no power of two divides: by eights and fours the share of useful work is
//
//     channels in      2    8   16   18   36   72  144  288        channels out    2    8   18   36   72  144  288
//     TF32, by 4     0.5    1    1  0.9    1    1    1    1        by 8         0.25    1 0.75  0.9    1    1    1
//     bf16, by 8    0.25    1    1 0.75  0.9    1    1    1
//
// (2 channels are the network's ends, which wait for memory). Flattening channel and tap, 162 to 168, would gain 6 % at
// 18 channels in, and cost a table of where each lane reads, and what follows here.
//
// A warp makes 8 × 8 pixels of NT·8 channels: 4·NT products, 16·NT registers. The two rows of a product lie four apart:
// then what a tap of one kx takes for rows y and y + 4 is what the next tap takes for rows y − 1 and y + 3, and the three
// taps of a column of ten rows share six pairs of them, which lie in registers as products take them, and are moved
// nowhere. What is read from shared memory, in words a lane and product, is (24/3 + 2·NT) / 4·NT: 1.17 for 18 channels.
#pragma once
#include "conv_mma_cells.cuh"

constexpr int SIDE = 8;                // pixels of a warp, each way
constexpr int STEP = 8;                // words of channels in that a product sums over
constexpr int FILTER_WORDS = 9 * 64;   // words of eight channels out and a step

// How a block's warps share: ACROSS × DOWN squares of pixels, and DEEP steps of a slice. Few pixels make few blocks:
// then warps go deep.
template <int ACROSS_, int DOWN_, int DEEP_> struct Tiling {
    static constexpr int ACROSS = ACROSS_, DOWN = DOWN_, DEEP = DEEP_;
    static constexpr int WIDTH = SIDE * ACROSS, HEIGHT = SIDE * DOWN;
    static constexpr int WORDS = STEP * DEEP;
    static constexpr int OF_WARP = WORDS / MMA_WARPS;                        // words that a warp stages
    static_assert(ACROSS * DOWN * DEEP == MMA_WARPS && (DEEP == 1 || DEEP == 2), "every warp has a part");

    static __device__ __forceinline__ int across(ConvShape shape) { return (shape.width + WIDTH - 1) / WIDTH; }
    static __device__ __forceinline__ TileCorner corner(int tile, ConvShape shape) {
        return {tile / across(shape) * HEIGHT, tile % across(shape) * WIDTH};
    }
};
using Wide = Tiling<4, 1, 1>;
using Deep = Tiling<1, 2, 2>;

// A tile with what filters read around it, in cells: a row more above and below, a cell more on either side.
template <class T, class G> struct Surrounded {
    static constexpr int ROWS = G::HEIGHT + 2, ACROSS = G::WIDTH / T::PACK + 2, CELLS = ROWS * ACROSS;
    static constexpr int PITCH = ACROSS * T::PACK;
    // Words of a channel in shared memory: 8 or 24 more than a multiple of 32, so that the four channels and eight
    // columns that a warp reads at once lie in 32 banks.
    static constexpr int PLANE = (CELLS * T::PACK - 8 + 15) / 16 * 16 + 8;
    static constexpr int OF_LANE = (CELLS + WARP - 1) / WARP;  // cells of a channel that a lane stages
};

// Of a warp, what it stages of a slice beside one column of taps: a third of its words, or a half. First all is loaded,
// into registers, and later, when it has come, finished and stored. In between there is time for something else.
template <class T, class G, class Source> struct Chunk {
    using Window = Surrounded<T, G>;
    using Table = CellTable<T, Source, Window::ROWS, Window::ACROSS>;
    static constexpr int WORDS = (G::OF_WARP + 2) / 3;
    typename Source::Raw raw[WORDS][T::PACK][Window::OF_LANE];

    // Which word of the slice is the w-th of a third; none of `count` where the third has no more.
    static __device__ __forceinline__ int word(int third, int w, int count) {
        const int of_warp = third * WORDS + w;
        return of_warp < G::OF_WARP ? of_warp * MMA_WARPS + (int)(threadIdx.x / WARP) : count;
    }
    static __device__ __forceinline__ int cell(int i) { return i * WARP + threadIdx.x % WARP; }

    // Of the slice that begins at word `from` and has `count` words. places: of all channels.
    __device__ __forceinline__ void load(const Source& source, const Table& table, bool by_cells,
                                         const typename Source::Place* places, int third, int from, int count) {
        if (word(third, 0, count) >= count) return;
        const LaneCells<T, Table, Window::OF_LANE> mine(table, [](int i) { return min(cell(i), Window::CELLS - 1); });
#pragma unroll
        for (int w = 0; w < WORDS; ++w) {
            if (word(third, w, count) >= count) continue;
#pragma unroll
            for (int k = 0; k < T::PACK; ++k) {
                // Those that there are not have filters of 0, and read another.
                const int channel = min((from + word(third, w, count)) * T::PACK + k, source.channels() - 1);
                mine.load(source.plane(places[channel], channel), by_cells, raw[w][k]);
            }
        }
    }

    // To window [words, PLANE]. constants: of the slice's channels. INNER: all pixels are in the image.
    template <bool INNER>
    __device__ __forceinline__ void store(const Source& source, const Table& table, int third, int count,
                                          const Constants* constants, unsigned* window) const {
#pragma unroll
        for (int w = 0; w < WORDS; ++w) {
            const int to = word(third, w, count);
            if (to >= count) continue;
            Constants of[T::PACK];
#pragma unroll
            for (int k = 0; k < T::PACK; ++k) of[k] = constants[to * T::PACK + k];
#pragma unroll
            for (int i = 0; i < Window::OF_LANE; ++i) {
                if (cell(i) >= Window::CELLS) continue;
                unsigned x[T::PACK];
#pragma unroll
                for (int k = 0; k < T::PACK; ++k)
                    x[k] = finished<T>(source, raw[w][k][i], of[k], table.template mask<INNER>(cell(i)));
                transpose(x);
                put_words(window + to * Window::PLANE + cell(i) * T::PACK, x);
            }
        }
    }
};

// Adds to `sum` [rows y and y + 4][NT][4] what the three taps of column kx contribute: HALVES · 4 words of channels.
// window: the lane's first word; filters: [9][NT][32 lanes][2], the lane's first pair.
template <class T, class G, int NT, int HALVES>
__device__ __forceinline__ void multiply_column(float (&sum)[4][NT][4], const unsigned* window, const uint2* filters,
                                                int kx) {
    using Window = Surrounded<T, G>;
    // Rows y and y + 4, of each half. Rows 4 and 5 are read twice, from places that nobody knows to be the same: else they
    // would be read once, and moved.
    unsigned x[SIDE / 2 + 2][2 * HALVES];
    const unsigned* below = window + unknown(SIDE / 2 * Window::PITCH);
#pragma unroll
    for (int y = 0; y < SIDE / 2 + 2; ++y)
#pragma unroll
        for (int h = 0; h < HALVES; ++h) {
            const int at = 4 * h * Window::PLANE + y * Window::PITCH + kx;
            x[y][2 * h] = window[at];
            x[y][2 * h + 1] = below[at];
        }
#pragma unroll
    for (int ky = 0; ky < 3; ++ky) {
#pragma unroll
        for (int j = 0; j < NT; ++j) {
            const uint2 pair = filters[((ky * 3 + kx) * NT + j) * WARP];
            unsigned b[HALVES];
            b[0] = pair.x;
            if constexpr (HALVES == 2) b[1] = pair.y;
#pragma unroll
            for (int y = 0; y < SIDE / 2; ++y) T::mma(sum[y][j], x[y + ky], b);
        }
    }
}

// What a warp has made: its rows of pixels from y on, eight columns from x on. A lane has column `x + lane / 4` and, of
// each eight channels, 2·(lane % 4) and the next.
template <class G> struct Square {
    static constexpr int ROWS = SIDE / G::DEEP;
    int y, x, rows, columns;  // of which there are in the image
    bool whole;               // all, and all of the tile's other squares

    __device__ __forceinline__ int column() const { return threadIdx.x % WARP / 4; }
    // Whether there is one of the lane's pixels: there are all, where the square is WHOLE.
    template <bool WHOLE> __device__ __forceinline__ bool has(int row) const {
        return WHOLE || (row < rows && column() < columns);
    }
    // Of the lane's first row, in a plane of the image.
    __device__ __forceinline__ int place(ConvShape shape) const { return y * shape.width + x + column(); }
};

// The sum over the columns of a square: over lanes that have the same channels.
__device__ __forceinline__ float column_sum(float value) {
    for (int lanes = 4; lanes < (int)WARP; lanes *= 2) value += __shfl_xor_sync(ALL_LANES, value, lanes);
    return value;
}

// Makes a tile of one image for NT·8 channels. What a warp has made of it, [NT][2 channels][rows], it hands to
// `store(prepared, square, made)`, all threads of the block at once; `store.prepare(prepared)` goes before, while nobody has
// pixels yet. filters: [groups of NT·8 channels][steps][9][NT][32 lanes][2], as conv3x3_filters lays them out. Dynamic
// shared memory: twice window [WORDS][PLANE] and filters [DEEP][9][NT][32][2], then the constants of all channels, up to a
// whole slice, and their places. Blocks: tiles, groups of channels, images.
template <class T, class G, int NT, class Source, class Store>
__device__ __forceinline__ void correlate_mma(const Source& source, const unsigned* filters, const Store& store) {
    using Window = Surrounded<T, G>;
    using Table = CellTable<T, Source, Window::ROWS, Window::ACROSS>;
    SHARED(Table, table, );
    SHARED(typename Store::Prepared, prepared, );
    DYNAMIC_SHARED(unsigned, memory);
    constexpr int WINDOW_WORDS = G::WORDS * Window::PLANE, BUFFER = WINDOW_WORDS + G::DEEP * NT * FILTER_WORDS;
    Constants* constants = reinterpret_cast<Constants*>(memory + 2 * BUFFER);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, image = blockIdx.z;
    const int deep = warp % G::DEEP, square = warp / G::DEEP;
    const int top = square / G::ACROSS * SIDE, left = square % G::ACROSS * SIDE;
    const int channels = source.channels(), words = (channels + T::PACK - 1) / T::PACK;
    const int steps = (words + STEP - 1) / STEP, slices = (words + G::WORDS - 1) / G::WORDS;
    const int all = slices * G::WORDS * T::PACK;
    typename Source::Place* places = reinterpret_cast<typename Source::Place*>(constants + all);
    const unsigned* of_group = filters + (long long)blockIdx.y * steps * NT * FILTER_WORDS;

    const bool by_cells = source.by_cells();
    const TileCorner corner = G::corner(blockIdx.x, source.shape);
    table.fill(source, TileCorner{corner.y - 1, corner.x - T::PACK});
    for (int channel = threadIdx.x; channel < all; channel += MMA_THREADS) {
        const int of = min(channel, channels - 1);  // of one that there is not the last one's, whose values it gets
        constants[channel] = source.constants(image, of);
        places[channel] = source.place(image, of);
    }
    store.prepare(prepared);
    __syncthreads();

    // Words of a slice that are summed over: by fours.
    const auto count_of = [&](int slice) { return min(G::WORDS, (words - slice * G::WORDS + 3) / 4 * 4); };
    const auto copy_filters = [&](int slice) {
        unsigned* to = memory + slice % 2 * BUFFER + WINDOW_WORDS;
        const unsigned* from = of_group + (long long)slice * G::DEEP * NT * FILTER_WORDS;
        const int count = min(G::DEEP, steps - slice * G::DEEP) * NT * FILTER_WORDS;
        for (int i = threadIdx.x * 4; i < count; i += MMA_THREADS * 4) copy_async(to + i, from + i);
        copies_commit();
    };

    Chunk<T, G, Source> chunk;
    const auto store_chunk = [&](int third, int slice, int count) {
        const Constants* of_slice = constants + slice * G::WORDS * T::PACK;
        unsigned* window = memory + slice % 2 * BUFFER;
        table.inner ? chunk.template store<true>(source, table, third, count, of_slice, window)
                    : chunk.template store<false>(source, table, third, count, of_slice, window);
    };
    copy_filters(0);
#pragma unroll
    for (int third = 0; third < 3; ++third) {
        chunk.load(source, table, by_cells, places, third, 0, count_of(0));
        store_chunk(third, 0, count_of(0));
    }
    float sum[4][NT][4] = {};
    for (int slice = 0; slice < slices; ++slice) {
        copies_wait();
        __syncthreads();  // this slice is there, and nobody reads the one before
        const bool more = slice + 1 < slices;
        const int coming = count_of(slice + 1);
        if (more) copy_filters(slice + 1);
        const unsigned* buffer = memory + slice % 2 * BUFFER;
        const unsigned* window = buffer + (deep * STEP + lane % 4) * Window::PLANE + top * Window::PITCH + left + lane / 4 +
                                 T::PACK - 1;
        const uint2* of_step = reinterpret_cast<const uint2*>(buffer + WINDOW_WORDS + deep * NT * FILTER_WORDS) + lane;
        const int mine = count_of(slice) - deep * STEP;
#pragma unroll
        for (int kx = 0; kx < 3; ++kx) {
            if (more) chunk.load(source, table, by_cells, places, kx, (slice + 1) * G::WORDS, coming);
            if (mine > 4) {
                multiply_column<T, G, NT, 2>(sum, window, of_step, kx);
            } else if (mine > 0) {
                multiply_column<T, G, NT, 1>(sum, window, of_step, kx);
            }
            if (more) store_chunk(kx, slice + 1, coming);
        }
    }

    constexpr int ROWS = Square<G>::ROWS;
    float mine[NT][2][ROWS];
    if constexpr (G::DEEP == 1) {
#pragma unroll
        for (int y = 0; y < SIDE; ++y)
#pragma unroll
            for (int at = 0; at < NT * 2; ++at) mine[at / 2][at % 2][y] = sum[y % 4][at / 2][y / 4 * 2 + at % 2];
    } else {
        // Two warps have a half of the sum each; each finishes a half of the rows.
        float* shared = reinterpret_cast<float*>(memory) + lane;  // [warps][NT][2][4 rows][lanes]
        const auto at = [&](int of_warp, int j, int e, int y) { return (((of_warp * NT + j) * 2 + e) * ROWS + y) * WARP; };
        __syncthreads();  // nobody reads the last slice
#pragma unroll
        for (int j = 0; j < NT; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
#pragma unroll
                for (int y = 0; y < ROWS; ++y) {
                    mine[j][e][y] = deep ? sum[y][j][2 + e] : sum[y][j][e];
                    shared[at(warp, j, e, y)] = deep ? sum[y][j][e] : sum[y][j][2 + e];
                }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < NT; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
#pragma unroll
                for (int y = 0; y < ROWS; ++y) mine[j][e][y] += shared[at(warp ^ 1, j, e, y)];
    }
    // Where this tile was is worked out again, from memory: it would take registers all the while.
    const TileCorner around = table.corner, made_at = {around.y + 1, around.x + T::PACK};
    const ConvShape shape = source.shape;
    Square<G> made = {made_at.y + top + deep * ROWS, made_at.x + left, 0, 0, false};
    made.rows = max(0, min(ROWS, shape.height - made.y));
    made.columns = max(0, min(SIDE, shape.width - made.x));
    made.whole = made_at.y + G::HEIGHT <= shape.height && made_at.x + G::WIDTH <= shape.width;
    store(prepared, made, mine);
}
