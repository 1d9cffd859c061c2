// The gradient of 3×3 filters on tensor cores: a sum over all pixels of all images.
//
// A product's rows are channels in with a tap, its columns channels out; what is summed over are the rows of a column
// of pixels, eight of them (or eight pairs, in bf16). A step to the right then needs one new column of the image: what
// was read for tap kx is, a step later, what tap kx − 1 reads, and stays in registers. So rows of products are (channel,
// ky), by eights, three products for the three kx: 18 · 3 = 54 of 56 rows and 18 of 24 columns do useful work, all of
// 16 · 3 and 8 · 3. Words read from shared memory, a lane and product: 20/33 for 18 channels.
//
// A block takes a group of channels in, a group of channels out and a part of the tiles. Its warps share the tile's pixels,
// and are added up at the end. Or two have half of the channels of one map each, and two the pixels: then what is staged of
// the other map is used twice. Nothing overlaps the staging of a tile but the other blocks of the multiprocessor, of which there
// are two.
#pragma once
#include "conv_mma.cuh"

template <class T> constexpr int SUM_ACROSS = TILE / T::PACK + 2;  // cells of a row of the window

// Whether the words that a warp reads of the window at once, for any eight of (channel, ky), lie in banks of their own,
// but for those that are the same word. Threes of eights begin with another ky each, and then again.
constexpr bool banks_apart(int plane, int pitch, int pack) {
    for (int eight = 0; eight < 3; ++eight) {
        int in_bank[WARP] = {};
        for (int lane = 0; lane < int(WARP); ++lane) {
            const int row = eight * 8 + lane / 4, word = row / 3 * plane + (row % 3 + lane % 4 * pack) * pitch + 1;
            if (in_bank[word % WARP] != 0 && in_bank[word % WARP] != word) return false;
            in_bank[word % WARP] = word;
        }
    }
    return true;
}

// What a warp sums: EIGHTS of (channel in, ky), and of channels out; and how often a block has as many of either.
template <class T, int EIGHTS_, int OUTS_, int SHARES_IN_, int SHARES_OUT_> struct Summing {
    static constexpr int EIGHTS = EIGHTS_, OUTS = OUTS_, SHARES_IN = SHARES_IN_, SHARES_OUT = SHARES_OUT_;
    static constexpr int SHARES = SHARES_IN * SHARES_OUT, WARPS = MMA_WARPS / SHARES;  // warps of the same channels
    static constexpr int WARP_IN = EIGHTS * 8 / 3, WARP_OUT = OUTS * 8;                // channels of a warp
    static constexpr int IN = WARP_IN * SHARES_IN, OUT = WARP_OUT * SHARES_OUT;        // and of a block
    // Eights are taken two a product; the last alone, where there is one, with two of its own kx.
    static constexpr int PAIRS = EIGHTS / 2, LONE = EIGHTS % 2, PRODUCTS = PAIRS * 3 + LONE * 2;
    static constexpr int DOWN = 2 / T::PACK, ACROSS = WARPS / DOWN;  // warps of the same channels
    static constexpr int COLUMNS = TILE / ACROSS;                    // of a warp
    // Words of a row and of a channel. What a warp reads at once are four rows of pixels, T::PACK apart, for each of eight
    // (channel, ky) that follow each other: rows 0 to 5 of up to four channels in TF32, 0 to 8 in bf16. `banks_apart` counts
    // that no two of these words share a bank. In the gradient it is four rows of eight channels, 4 apart (mod 32).
    // Rows of the window follow each other without a gap in TF32: a warp that writes 32 pixels writes 32 banks.
    static constexpr int PITCH = SUM_ACROSS<T> * T::PACK + (T::PACK - 1), PLANE = T::PACK == 1 ? 335 : 359;
    static constexpr int OUT_PITCH = TILE + 1, OUT_PLANE = T::PACK == 1 ? 292 : 164;
    static constexpr int WORDS = IN * PLANE + OUT * OUT_PLANE;  // of shared memory
    // Channels that a warp stages at a time: with more, registers are spilt.
    static constexpr int AT_ONCE = EIGHTS > 6 ? 3 : 4;
    static constexpr int WINDOWS_AT_ONCE = AT_ONCE < IN / MMA_WARPS ? AT_ONCE : IN / MMA_WARPS;
    static constexpr int GRADIENTS_AT_ONCE = AT_ONCE < OUT / MMA_WARPS ? AT_ONCE : OUT / MMA_WARPS;
    static_assert(PITCH * (WINDOW - T::PACK + 1) <= PLANE && banks_apart(PLANE, PITCH, T::PACK), "banks");
    static_assert(OUT_PITCH * TILE / T::PACK <= OUT_PLANE && OUT_PLANE % 32 == 4, "banks");
    static_assert(IN <= MMA_THREADS / 2 && OUT <= MMA_THREADS / 2, "a thread looks up each channel");
    static_assert(SHARES <= 2, "pixels are left to share");
    // Words from one register's sums of a warp to the next one's, as they are added up.
    static constexpr int SLOT = PRODUCTS * OUTS * int(WARP) + (PRODUCTS - 1) / 3 * 2;
    static_assert(2 * MMA_WARPS * SLOT + MMA_WARPS <= WORDS, "half of the sums of all warps fit");
};

// Which cells of a square a lane stages, and how their words lie in a plane. In TF32 a word is a pixel.
template <int SIDE, int PITCH> struct Pixels {
    static constexpr int CELLS = (SIDE * SIDE + WARP - 1) / WARP;
    static __device__ __forceinline__ int cell(int lane, int i) { return min(i * (int)WARP + lane, SIDE * SIDE - 1); }
    static __device__ __forceinline__ void put(int lane, unsigned* plane, const unsigned (&cells)[CELLS]) {
#pragma unroll
        for (int i = 0; i < CELLS; ++i) {
            const int at = i * WARP + lane;
            if (at < SIDE * SIDE) plane[at / SIDE * PITCH + at % SIDE] = cells[i];
        }
    }
};

// In bf16 a word of the window is a pixel and the one below it: a lane has a strip, and the row below that.
template <int ROWS, int ACROSS, int PITCH> struct Strips {
    static constexpr int STRIP = (ROWS - 1 + WARP / ACROSS - 1) / (WARP / ACROSS), CELLS = STRIP + 1;
    static __device__ __forceinline__ int cell(int lane, int i) {
        return min(lane / ACROSS * STRIP + i, ROWS - 1) * ACROSS + lane % ACROSS;
    }
    static __device__ __forceinline__ void put(int lane, unsigned* plane, const unsigned (&cells)[CELLS]) {
        const int top = lane / ACROSS * STRIP, left = lane % ACROSS * 2;
#pragma unroll
        for (int i = 0; i < STRIP; ++i) {
            unsigned words[2] = {cells[i], cells[i + 1]};
            transpose(words);
            if (top + i + 1 >= ROWS) continue;
            plane[(top + i) * PITCH + left] = words[0];
            plane[(top + i) * PITCH + left + 1] = words[1];
        }
    }
};

// In the gradient, of two rows that no other word has.
template <int ROWS, int ACROSS, int PITCH> struct Pairs {
    static constexpr int CELLS = ROWS * ACROSS / WARP;
    static __device__ __forceinline__ int cell(int lane, int i) {
        const int pair = i / 2 * WARP + lane;
        return (pair / ACROSS * 2 + i % 2) * ACROSS + pair % ACROSS;
    }
    static __device__ __forceinline__ void put(int lane, unsigned* plane, const unsigned (&cells)[CELLS]) {
#pragma unroll
        for (int i = 0; i < CELLS; i += 2) {
            const int pair = i / 2 * WARP + lane, at = pair / ACROSS * PITCH + pair % ACROSS * 2;
            unsigned words[2] = {cells[i], cells[i + 1]};
            transpose(words);
            plane[at] = words[0];
            plane[at + 1] = words[1];
        }
    }
};

template <class T, class S> struct Layouts {
    using Window = Pixels<WINDOW, S::PITCH>;
    using Gradient = Pixels<TILE, S::OUT_PITCH>;
};
template <class S> struct Layouts<Bf16, S> {
    using Window = Strips<WINDOW, SUM_ACROSS<Bf16>, S::PITCH>;
    using Gradient = Pairs<TILE, TILE / 2, S::OUT_PITCH>;
};

// Stages `count` channels, from channel `first` on, of what `table` finds, into planes of PLANE words each. Each warp takes
// every fourth channel, AT_ONCE of them at a time: all that it loads of these is on the way before the first value is
// waited for.
// INNER: all pixels are in the image.
template <bool INNER, class T, class Layout, int PLANE, int AT_ONCE, class Source, class Table>
__device__ __forceinline__ void stage_of(const Source& source, const Table& table, bool by_cells,
                                         const Channel<Source>* channels, int first, int count, unsigned* planes) {
    const int warp = threadIdx.x / WARP;
    const LaneCells<T, Table, Layout::CELLS> mine(table, [&](int i) { return Layout::cell(threadIdx.x % WARP, i); });
#pragma unroll 1
    for (int begin = warp; begin < count; begin += MMA_WARPS * AT_ONCE) {
        typename Source::Raw raw[AT_ONCE][Layout::CELLS];
#pragma unroll
        for (int a = 0; a < AT_ONCE; ++a) {
            const int c = begin + a * MMA_WARPS;
            // Nothing may be left as it was: it would have to be kept in registers from one round to the next.
            if (c < count) {
                mine.load(source.plane(channels[c].place, first + c), by_cells, raw[a]);
            } else {
#pragma unroll
                for (int i = 0; i < Layout::CELLS; ++i) raw[a][i] = {};
            }
        }
#pragma unroll
        for (int a = 0; a < AT_ONCE; ++a) {
            const int c = begin + a * MMA_WARPS;
            if (c >= count) break;
            const Constants constants = channels[c].constants;
            unsigned cells[Layout::CELLS];
#pragma unroll
            for (int i = 0; i < Layout::CELLS; ++i)
                cells[i] = finished<T>(source, raw[a][i], constants, table.template mask<INNER>(mine.cells[i]));
            Layout::put(threadIdx.x % WARP, planes + c * PLANE, cells);
        }
    }
}

template <class T, class Layout, int PLANE, int AT_ONCE, class Source, class Table>
__device__ __forceinline__ void stage(const Source& source, const Table& table, bool by_cells,
                                      const Channel<Source>* channels, int first, int count, unsigned* planes) {
    table.inner ? stage_of<true, T, Layout, PLANE, AT_ONCE>(source, table, by_cells, channels, first, count, planes)
                : stage_of<false, T, Layout, PLANE, AT_ONCE>(source, table, by_cells, channels, first, count, planes);
}

// partial: [parts, out, inputs, 3, 3]; part p takes tiles p, p + parts, … of the `tiles` of all images. Dynamic shared
// memory: window [IN][PLANE], gradient [OUT][OUT_PLANE]. Blocks: parts, groups of IN channels, groups of OUT channels.
template <class T, class S>
__device__ __forceinline__ void sum_over_pixels(const MmaInputs<typename T::Stored>& inputs,
                                                const MmaGradient<typename T::Stored>& gradient, float* partial,
                                                int tiles) {
    using Inputs = MmaInputs<typename T::Stored>;
    using Gradient = MmaGradient<typename T::Stored>;
    using Layout = Layouts<T, S>;
    using WindowTable = CellTable<T, Inputs, WINDOW, SUM_ACROSS<T>>;
    using GradientTable = CellTable<T, Gradient, TILE, TILE / T::PACK>;
    SHARED(WindowTable, window_table, );
    SHARED(GradientTable, gradient_table, );
    SHARED(Channel<Inputs>, channels_in, [S::IN]);
    SHARED(Channel<Gradient>, channels_out, [S::OUT]);
    DYNAMIC_SHARED(unsigned, memory);
    const bool inputs_by_cells = inputs.by_cells(), gradient_by_cells = gradient.by_cells();
    unsigned* of_gradient = memory + S::IN * S::PLANE;
    const ConvShape shape = inputs.shape;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first_in = blockIdx.y * S::IN, ins = min(S::IN, shape.inputs() - first_in);
    const int first_out = blockIdx.z * S::OUT, outs = min(S::OUT, shape.out - first_out);

    float sum[S::PRODUCTS][S::OUTS][4] = {};
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int of_image = tiles_of(shape), image = tile / of_image;
        const TileCorner corner = corner_of(tile % of_image, shape);
        window_table.fill(inputs, TileCorner{corner.y - 1, corner.x - T::PACK});
        gradient_table.fill(gradient, corner);
        if ((int)threadIdx.x < ins)
            channels_in[threadIdx.x] = Channel<Inputs>::of(inputs, image, first_in + threadIdx.x);
        const int o = threadIdx.x - MMA_THREADS / 2;  // beside the others
        if (o >= 0 && o < outs) channels_out[o] = Channel<Gradient>::of(gradient, image, first_out + o);
        __syncthreads();  // this is there, and nobody reads the tile before any more
        using Window = typename Layout::Window;
        stage<T, Window, S::PLANE, S::WINDOWS_AT_ONCE>(inputs, window_table, inputs_by_cells, channels_in, first_in, ins,
                                                       memory);
        stage<T, typename Layout::Gradient, S::OUT_PLANE, S::GRADIENTS_AT_ONCE>(
            gradient, gradient_table, gradient_by_cells, channels_out, first_out, outs, of_gradient);
        __syncthreads();
        // Where a lane reads, worked out anew for each tile: staging needs the registers. Rows and columns of products that
        // stand for no channel read another's, and come to nothing.
        const int mine = afresh(threadIdx.x), group = mine % WARP / 4, member = mine % 4;
        const int share = S::SHARES == 1 ? 0 : mine / WARP / S::WARPS, of_share = mine / WARP % S::WARPS;
        const int down = of_share % S::DOWN, left = of_share / S::DOWN * S::COLUMNS;
        const unsigned *window[S::EIGHTS], *columns[S::OUTS];
#pragma unroll
        for (int e = 0; e < S::EIGHTS; ++e) {
            const int row = min(share % S::SHARES_IN * S::WARP_IN * 3 + e * 8 + group, ins * 3 - 1);
            window[e] = memory + row / 3 * S::PLANE + (row % 3 + down * 8 + member * T::PACK) * S::PITCH + left + T::PACK - 1;
        }
#pragma unroll
        for (int j = 0; j < S::OUTS; ++j)
            columns[j] = of_gradient + min(share / S::SHARES_IN * S::WARP_OUT + j * 8 + group, outs - 1) * S::OUT_PLANE +
                         (down * 8 + member) * S::OUT_PITCH + left;
        unsigned x[S::EIGHTS][3][2];  // by column modulo 3; members, and members + 4
#pragma unroll
        for (int column = -2; column < S::COLUMNS; ++column) {
#pragma unroll
            for (int e = 0; e < S::EIGHTS; ++e)
#pragma unroll
                for (int h = 0; h < 2; ++h)
                    x[e][(column + 2) % 3][h] = window[e][column + 2 + 4 * h * T::PACK * S::PITCH];
            if (column < 0) continue;
#pragma unroll
            for (int j = 0; j < S::OUTS; ++j) {
                const unsigned b[2] = {columns[j][column], columns[j][column + 4 * S::OUT_PITCH]};
#pragma unroll
                for (int kx = 0; kx < 3; ++kx) {
                    const int at = (column + kx) % 3;
#pragma unroll
                    for (int p = 0; p < S::PAIRS; ++p) {
                        const unsigned a[4] = {x[2 * p][at][0], x[2 * p + 1][at][0], x[2 * p][at][1], x[2 * p + 1][at][1]};
                        T::mma(sum[p * 3 + kx][j], a, b);
                    }
                }
                if constexpr (S::LONE) {
                    const auto& last = x[S::EIGHTS - 1];
                    const int at[3] = {column % 3, (column + 1) % 3, (column + 2) % 3};
                    const unsigned two[4] = {last[at[0]][0], last[at[1]][0], last[at[0]][1], last[at[1]][1]};
                    T::mma(sum[S::PAIRS * 3][j], two, b);
                    const unsigned one[4] = {last[at[2]][0], last[at[2]][0], last[at[2]][1], last[at[2]][1]};
                    T::mma(sum[S::PAIRS * 3 + 1][j], one, b);
                }
            }
        }
    }

    // Warps of the same channels are added up where the tiles were. Of the four registers of a product's sums each warp has
    // two to add up with its neighbour, and hands it the other two; of four warps then one of these with the neighbours' warp:
    // (0 + 1) + (2 + 3). In the end it leaves what its registers, or its register, are of all.
    static_assert(MMA_WARPS == 4, "a warp for each register");
    float* shared = reinterpret_cast<float*>(memory);
    // [slots][products][OUTS][lanes], with words in between: then the four eights of rows that a warp reads at once, of two
    // slots and of two threes of products, lie in banks of their own.
    constexpr int SLOT = S::SLOT;
    const auto place = [](int slot, int p) {
        return slot / 2 * (2 * SLOT + 1) + slot % 2 * SLOT + p * (S::OUTS * int(WARP)) + p / 3 * 2;
    };
    const auto handed = [&](int slot, int p, int j) -> float& { return shared[place(slot, p) + j * WARP + lane]; };
    const auto each_sum = [](auto&& go) {
#pragma unroll
        for (int p = 0; p < S::PRODUCTS; ++p)
#pragma unroll
            for (int j = 0; j < S::OUTS; ++j) go(p, j);
    };
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i / 2 != warp % 2) each_sum([&](int p, int j) { handed(warp * 2 + i % 2, p, j) = sum[p][j][i]; });
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i / 2 == warp % 2) each_sum([&](int p, int j) { sum[p][j][i] += handed((warp ^ 1) * 2 + i % 2, p, j); });
    __syncthreads();
    // What a warp leaves, [shares][4][products][OUTS][lanes]: where four are added up, behind what they hand each other.
    constexpr int LEFT = S::WARPS == 4 ? MMA_WARPS : 0;
    if constexpr (S::WARPS == 4) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i / 2 == warp % 2 && i % 2 != warp / 2) each_sum([&](int p, int j) { handed(warp, p, j) = sum[p][j][i]; });
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i / 2 == warp % 2 && i % 2 == warp / 2)
                each_sum([&](int p, int j) { handed(LEFT + i, p, j) = sum[p][j][i] + handed(warp ^ 2, p, j); });
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i / 2 == warp % 2) each_sum([&](int p, int j) { handed(warp / 2 * 4 + i, p, j) = sum[p][j][i]; });
    }
    __syncthreads();
    // A thread has one (channel in, ky), of every SHARE-th channel out from `begin` on. Where a channel out lies is the sum of
    // where `begin` lies and of what is known of it: no bit is in both.
    constexpr int ROWS = S::IN * 3, OF_SHARE = S::WARP_IN * 3, SHARE = MMA_THREADS / ROWS < 4 ? MMA_THREADS / ROWS : 4;
    static_assert(SHARE == 1 || SHARE == 2 || SHARE == 4, "a power of two");
    const int row = threadIdx.x % ROWS, begin = SHARE == 1 ? 0 : threadIdx.x / ROWS, eight = row % OF_SHARE / 8;
    if (row >= ins * 3 || threadIdx.x >= ROWS * SHARE) return;
    const auto of_out = [](int o) {
        const int slots = o / S::WARP_OUT * (S::SHARES_IN * 4) + o % 2;
        return slots / 2 * (2 * SLOT + 1) + slots % 2 * SLOT + o % S::WARP_OUT / 8 * int(WARP) + o % 8 / 2;
    };
    const bool alone = eight >= 2 * S::PAIRS;
    const float* of_kx[3];
#pragma unroll
    for (int kx = 0; kx < 3; ++kx) {
        const int product = alone ? S::PAIRS * 3 + kx / 2 : eight / 2 * 3 + kx, lower = alone ? kx % 2 : eight % 2;
        const int slot = LEFT + row / OF_SHARE * 4 + 2 * lower;
        of_kx[kx] = shared + place(slot, product) + row % OF_SHARE % 8 * 4 + of_out(begin);
    }
    const int entries = shape.inputs() * 9;
    float* of_row =
        partial + ((long long)blockIdx.x * shape.out + first_out + begin) * entries + first_in * 9 + row * 3;
#pragma unroll
    for (int o = 0; o < S::OUT; o += SHARE) {
        if (o + begin >= outs) break;
#pragma unroll
        for (int kx = 0; kx < 3; ++kx) of_row[kx] = of_kx[kx][of_out(o)];
        of_row += (long long)SHARE * entries;
    }
}

// The kernels, by channels in and out of a block, for one format.
#define CONV3X3_WEIGHTS_MMA(NAME, T, EIGHTS, OUTS, SHARES_IN, SHARES_OUT)                                             \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2)                                                      \
    conv3x3_weights_##NAME(const T::Stored* first, const float* first_stats, const T::Stored* second,                 \
                           const float* second_stats, const T::Stored* d_output, const T::Stored* output,             \
                           const float* stats, const float* sums, float* partial, ConvShape shape, int tiles) {       \
        await_inputs();                                                                                               \
        const MmaInputs<T::Stored> inputs = {first, first_stats, second, second_stats, shape};                        \
        const MmaGradient<T::Stored> gradient = {d_output, output, stats, sums, shape};                               \
        sum_over_pixels<T, Summing<T, EIGHTS, OUTS, SHARES_IN, SHARES_OUT>>(inputs, gradient, partial, tiles);        \
    }                                                                                                                 \
    KERNEL(conv3x3_weights_##NAME)

#define CONV3X3_WEIGHTS_FORMAT(NAME, T)               \
    CONV3X3_WEIGHTS_MMA(NAME##_36x24, T, 7, 3, 2, 1) \
    CONV3X3_WEIGHTS_MMA(NAME##_18x24, T, 7, 3, 1, 1) \
    CONV3X3_WEIGHTS_MMA(NAME##_16x32, T, 6, 2, 1, 2) \
    CONV3X3_WEIGHTS_MMA(NAME##_16x16, T, 6, 2, 1, 1) \
    CONV3X3_WEIGHTS_MMA(NAME##_8x8, T, 3, 1, 1, 1)
