// The gradient of 3×3 filters on tensor cores: a sum over all pixels of all images.
//
// A product's rows are channels in with a tap, its columns channels out; what is summed over are the rows of a column
// of pixels, eight of them (or eight pairs, in bf16). A step to the right then needs one new column of the image: what
// was read for tap kx is, a step later, what tap kx − 1 reads, and stays in registers. So rows of products are (channel,
// ky), by eights, three products for the three kx: 18 · 3 = 54 of 56 rows and 18 of 24 columns do useful work, all of
// 16 · 3 and 8 · 3. Words read from shared memory, a lane and product: 20/33 for 18 channels.
//
// A block takes a group of channels in, a group of channels out and a part of the tiles; its warps share the tile's
// pixels, and are added up at the end. Nothing overlaps the staging of a tile but the other blocks of the multiprocessor,
// of which there are two.
#pragma once
#include "conv_mma.cuh"

constexpr int SUM_TILE = 16, SUM_WINDOW = SUM_TILE + 2;
// Channels that a warp stages at a time, of the 5 and 6 that it has at most: with more, registers are spilt (sm_80).
template <class T> constexpr int WINDOWS_AT_ONCE = T::PACK == 1 ? 3 : 2;
constexpr int GRADIENTS_AT_ONCE = 2;
// Positions of a lane in a window and in a tile.
constexpr int SUM_OF_WINDOW = (SUM_WINDOW * SUM_WINDOW + WARP - 1) / WARP, SUM_OF_TILE = SUM_TILE * SUM_TILE / WARP;

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

// EIGHTS of (channel in, ky), and of channels out.
template <class T, int EIGHTS_, int OUTS_> struct Summing {
    static constexpr int EIGHTS = EIGHTS_, OUTS = OUTS_;
    static constexpr int IN = EIGHTS * 8 / 3, OUT = OUTS * 8;  // channels of a block
    // Eights are taken two a product; the last alone, where there is one, with two of its own kx.
    static constexpr int PAIRS = EIGHTS / 2, LONE = EIGHTS % 2, PRODUCTS = PAIRS * 3 + LONE * 2;
    // Words of a row and of a channel. What a warp reads at once are four rows of pixels, T::PACK apart, for each of eight
    // (channel, ky) that follow each other: rows 0 to 5 of up to four channels in TF32, 0 to 8 in bf16. `banks_apart` counts
    // that no two of these words share a bank. In the gradient it is four rows of eight channels, 4 apart (mod 32).
    static constexpr int PITCH = SUM_WINDOW + 1, PLANE = T::PACK == 1 ? 360 : 363;
    static constexpr int OUT_PITCH = SUM_TILE + 1, OUT_PLANE = T::PACK == 1 ? 292 : 164;
    static constexpr int DOWN = 2 / T::PACK, ACROSS = MMA_WARPS / DOWN;  // warps
    static constexpr int COLUMNS = SUM_TILE / ACROSS;                    // of a warp
    static constexpr int WORDS = IN * PLANE + OUT * OUT_PLANE;           // of shared memory
    static_assert(PITCH * SUM_WINDOW <= PLANE && banks_apart(PLANE, PITCH, T::PACK), "banks");
    static_assert(OUT_PITCH * SUM_TILE / T::PACK <= OUT_PLANE && OUT_PLANE % 32 == 4, "banks");
    static_assert(PRODUCTS * OUTS * 4 * WARP <= WORDS, "the sums of a warp fit");
};

// A pixel of row y in a plane of the window. In bf16 a word holds a pixel and the one below it.
__device__ __forceinline__ void put_in(Tf32, unsigned* plane, int pitch, int y, int x, float value) {
    const float values[1] = {value};
    plane[y * pitch + x] = Tf32::word(values);
}
__device__ __forceinline__ void put_in(Bf16, unsigned* plane, int pitch, int y, int x, float value) {
    const float values[2] = {value, 0.0f};
    const unsigned short half = (unsigned short)Bf16::word(values);
    unsigned short* halves = reinterpret_cast<unsigned short*>(plane);
    halves[2 * (y * pitch + x)] = half;
    if (y > 0) halves[2 * ((y - 1) * pitch + x) + 1] = half;
}
// The same in a plane of the gradient, whose words are pairs of rows that do not overlap.
__device__ __forceinline__ void put_out(Tf32 format, unsigned* plane, int pitch, int y, int x, float value) {
    put_in(format, plane, pitch, y, x, value);
}
__device__ __forceinline__ void put_out(Bf16, unsigned* plane, int pitch, int y, int x, float value) {
    const float values[2] = {value, 0.0f};
    reinterpret_cast<unsigned short*>(plane)[2 * (y / 2 * pitch + x) + y % 2] = (unsigned short)Bf16::word(values);
}

// Stages `count` channels from `first` on of a square of pixels, SIZE wide; `put(channel − first, y, x, value)`. Each
// warp takes every fourth channel, AT_ONCE of them at a time: all that it loads of these is on the way before the first
// value is waited for. A lane's positions are the same in all channels.
template <int SIZE, int OF_LANE, int AT_ONCE, class Source, class Put>
__device__ __forceinline__ void stage_square(const Source& source, int image, int first, int count, TileCorner corner,
                                             Put put) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    typename Source::Place places[OF_LANE];
#pragma unroll
    for (int i = 0; i < OF_LANE; ++i) {
        const int position = i * WARP + lane, y = corner.y + position / SIZE, x = corner.x + position % SIZE;
        const bool inside = position < SIZE * SIZE && y >= 0 && y < source.shape.height && x >= 0 && x < source.shape.width;
        int at[Source::PLACES];
        source.find(y, x, inside, at, 1);
        places[i] = source.look_up(at, 1);
    }
#pragma unroll 1
    for (int begin = warp; begin < count; begin += MMA_WARPS * AT_ONCE) {
        Constants constants[AT_ONCE];
        typename Source::Raw raw[AT_ONCE][OF_LANE];
#pragma unroll
        for (int a = 0; a < AT_ONCE; ++a) {
            const int c = begin + a * MMA_WARPS;
            // The last channel again where there is no other, so that nothing stands between the loads.
            const int channel = first + min(c, count - 1);
            const auto plane = source.plane(image, channel);
            constants[a] = source.constants(image, channel);
#pragma unroll
            for (int i = 0; i < OF_LANE; ++i) {
                raw[a][i] = {};
                if (c < count && places[i].inside()) raw[a][i] = plane(places[i]);
            }
        }
#pragma unroll
        for (int a = 0; a < AT_ONCE; ++a) {
            const int c = begin + a * MMA_WARPS;
            if (c >= count) break;
#pragma unroll
            for (int i = 0; i < OF_LANE; ++i) {
                const int position = i * WARP + lane;
                const float value = places[i].inside() ? source.finish(raw[a][i], constants[a]) : 0.0f;
                if (position < SIZE * SIZE) put(c, position / SIZE, position % SIZE, value);
            }
        }
    }
}

// partial: [parts, out, inputs, 3, 3]; part p takes tiles p, p + parts, … of the `tiles` of all images. Dynamic shared
// memory: window [IN][PLANE], gradient [OUT][OUT_PLANE]. Blocks: parts, groups of IN channels, groups of OUT channels.
template <class T, class S>
__device__ __forceinline__ void sum_over_pixels(const MmaInputs<typename T::Stored>& inputs,
                                                const MmaGradient<typename T::Stored>& gradient, float* partial,
                                                int tiles) {
    DYNAMIC_SHARED(unsigned, memory);
    unsigned* of_gradient = memory + S::IN * S::PLANE;
    const ConvShape shape = inputs.shape;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first_in = blockIdx.y * S::IN, ins = min(S::IN, shape.inputs() - first_in);
    const int first_out = blockIdx.z * S::OUT, outs = min(S::OUT, shape.out - first_out);

    float sum[S::PRODUCTS][S::OUTS][4] = {};
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int of_image = tiles_of(shape), image = tile / of_image;
        const TileCorner corner = corner_of(tile % of_image, shape);
        __syncthreads();  // the tile before this one may still be read
        stage_square<SUM_WINDOW, SUM_OF_WINDOW, WINDOWS_AT_ONCE<T>>(
            inputs, image, first_in, ins, TileCorner{corner.y - 1, corner.x - 1},
            [&](int c, int y, int x, float value) { put_in(T{}, memory + c * S::PLANE, S::PITCH, y, x, value); });
        stage_square<SUM_TILE, SUM_OF_TILE, GRADIENTS_AT_ONCE>(
            gradient, image, first_out, outs, corner,
            [&](int c, int y, int x, float value) { put_out(T{}, of_gradient + c * S::OUT_PLANE, S::OUT_PITCH, y, x, value); });
        __syncthreads();
        // Where a lane reads, worked out anew for each tile: staging needs the registers. Rows and columns of products that
        // stand for no channel read another's, and come to nothing.
        const int mine = afresh(threadIdx.x), group = mine % WARP / 4, member = mine % 4;
        const int down = mine / WARP % S::DOWN, left = mine / WARP / S::DOWN * S::COLUMNS;
        const unsigned *window[S::EIGHTS], *columns[S::OUTS];
#pragma unroll
        for (int e = 0; e < S::EIGHTS; ++e) {
            const int row = min(e * 8 + group, ins * 3 - 1);
            window[e] = memory + row / 3 * S::PLANE + (row % 3 + down * 8 + member * T::PACK) * S::PITCH + left;
        }
#pragma unroll
        for (int j = 0; j < S::OUTS; ++j)
            columns[j] =
                of_gradient + min(j * 8 + group, outs - 1) * S::OUT_PLANE + (down * 8 + member) * S::OUT_PITCH + left;
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

    // The warps are added up one after the other, where the tiles were: [products][OUTS][4][lanes].
    float* shared = reinterpret_cast<float*>(memory);
    for (int turn = 0; turn < MMA_WARPS; ++turn) {
        __syncthreads();
        if (turn != warp) continue;
#pragma unroll
        for (int p = 0; p < S::PRODUCTS; ++p)
#pragma unroll
            for (int j = 0; j < S::OUTS; ++j)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float* to = shared + ((p * S::OUTS + j) * 4 + i) * WARP + lane;
                    *to = turn == 0 ? sum[p][j][i] : *to + sum[p][j][i];
                }
    }
    __syncthreads();
    float* of_part = partial + (long long)blockIdx.x * shape.out * shape.inputs() * 9;
    for (int at = threadIdx.x; at < outs * ins * 9; at += MMA_THREADS) {
        const int o = at / (ins * 9), i = at / 9 % ins, ky = at % 9 / 3, kx = at % 3;
        const int row = i * 3 + ky, eight = row / 8;
        const bool alone = eight >= 2 * S::PAIRS;
        const int product = alone ? S::PAIRS * 3 + kx / 2 : eight / 2 * 3 + kx;
        const int lower = alone ? kx % 2 : eight % 2;
        const int word = ((product * S::OUTS + o / 8) * 4 + lower * 2 + o % 2) * WARP + row % 8 * 4 + o % 8 / 2;
        of_part[((long long)(first_out + o) * shape.inputs() + first_in + i) * 9 + at % 9] = shared[word];
    }
}

// The kernels for groups of 18, 16 and 8 channels, for one format.
#define CONV3X3_WEIGHTS_MMA(NAME, T, EIGHTS, OUTS)                                                                    \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2)                                                      \
    conv3x3_weights_##NAME(const T::Stored* first, const float* first_stats, const T::Stored* second,                 \
                           const float* second_stats, const T::Stored* d_output, const T::Stored* output,             \
                           const float* stats, const float* sums, float* partial, ConvShape shape, int tiles) {       \
        await_inputs();                                                                                               \
        const MmaInputs<T::Stored> inputs = {first, first_stats, second, second_stats, shape};                        \
        const MmaGradient<T::Stored> gradient = {d_output, output, stats, sums, shape};                               \
        sum_over_pixels<T, Summing<T, EIGHTS, OUTS>>(inputs, gradient, partial, tiles);                               \
    }                                                                                                                 \
    KERNEL(conv3x3_weights_##NAME)

#define CONV3X3_WEIGHTS_FORMAT(NAME, T)       \
    CONV3X3_WEIGHTS_MMA(NAME##_18, T, 7, 3) \
    CONV3X3_WEIGHTS_MMA(NAME##_16, T, 6, 2) \
    CONV3X3_WEIGHTS_MMA(NAME##_8, T, 3, 1)
