// What the 3×3 convolutions on tensor cores read, and how it comes to a product: in cells.
//
// A cell is a word of a map: one float, or two bf16, which are neighbours in a row, the first of them in an even column.
// It is loaded, activated or undone, rounded and masked as one. Where rows are not whole words, or an input is a row or a
// column short, its pixels are loaded one by one; all else is the same.
#pragma once
#include "conv_planes.cuh"
#include "mma.cuh"

constexpr int MMA_WARPS = 4, MMA_THREADS = MMA_WARPS * WARP;

// Pixels of a cell: as many as a format packs into a word.
template <class S> constexpr int PIXELS = sizeof(unsigned) / sizeof(S);

template <class S> __device__ __forceinline__ unsigned cell_at(const S* at) {
    return *reinterpret_cast<const unsigned*>(at);
}
// The same of pixels that lie anywhere in a plane.
__device__ __forceinline__ unsigned cell_of(const float* plane, const int* places) {
    return __float_as_uint(plane[places[0]]);
}
__device__ __forceinline__ unsigned cell_of(const bf16* plane, const int* places) {
    return __byte_perm(plane[places[0]].bits, plane[places[1]].bits, 0x5410);
}

__device__ __forceinline__ void pixels_of(unsigned cell, float (&x)[1]) { x[0] = __uint_as_float(cell); }
__device__ __forceinline__ void pixels_of(unsigned cell, float (&x)[2]) {
    const float2 values = reals_of(cell);
    x[0] = values.x;
    x[1] = values.y;
}

// From word i with half j to word j with half i: two cells that were one beside the other.
__device__ __forceinline__ void transpose(unsigned (&)[1]) {}
__device__ __forceinline__ void transpose(unsigned (&words)[2]) {
    const unsigned lower = __byte_perm(words[0], words[1], 0x5410), upper = __byte_perm(words[0], words[1], 0x7632);
    words[0] = lower;
    words[1] = upper;
}

__device__ __forceinline__ void put_words(unsigned* to, const unsigned (&words)[1]) { *to = words[0]; }
__device__ __forceinline__ void put_words(unsigned* to, const unsigned (&words)[2]) {
    *reinterpret_cast<uint2*>(to) = uint2{words[0], words[1]};
}

// What a source makes of a pixel is decided by four numbers of its plane.
using Constants = float4;

// Both inputs, activated. S: as what maps are stored.
template <class S> struct MmaInputs {
    const S* first;
    const float* first_stats;
    const S* second;
    const float* second_stats;
    ConvShape shape;
    static constexpr int GRIDS = 2;  // on which its planes may lie
    using Raw = unsigned;

    // Whether cells of several pixels are words of memory, at the same places of both inputs.
    __device__ __forceinline__ bool by_cells() const {
        return PIXELS<S> > 1 && shape.first_height == shape.height && shape.first_width == shape.width &&
               shape.second_height == shape.height && shape.second_width == shape.width && shape.width % PIXELS<S> == 0;
    }
    // Where a pixel lies in a plane of either input.
    __device__ __forceinline__ int place(int grid, int y, int x) const {
        const int height = grid ? shape.second_height : shape.first_height;
        const int width = grid ? shape.second_width : shape.first_width;
        // A row or column that is missing is the last but one: the edge itself is not repeated.
        y = y < height ? y : 2 * (height - 1) - y;
        x = x < width ? x : 2 * (width - 1) - x;
        return y * width + x;
    }
    __device__ __forceinline__ int channels() const { return shape.inputs(); }
    // Mean, 1/σ and slope.
    __device__ __forceinline__ Constants constants(int image, int channel) const {
        const bool in_first = channel < shape.first;
        const int plane = in_first ? image * shape.first + channel : image * shape.second + channel - shape.first;
        const float* stats = in_first ? first_stats : second_stats;
        if (!stats) return make_float4(0.0f, 1.0f, 1.0f, 0.0f);
        return make_float4(stats[2 * plane], stats[2 * plane + 1], SLOPE, 0.0f);
    }

    struct Plane {
        const S* values;
        int grid;
        __device__ __forceinline__ Raw cell(int place) const { return cell_at(values + place); }
        __device__ __forceinline__ Raw pixels(const int* places) const { return cell_of(values, places); }
    };
    __device__ __forceinline__ Plane plane(int image, int channel) const {
        const bool in_first = channel < shape.first;
        const int pixels =
            in_first ? shape.first_height * shape.first_width : shape.second_height * shape.second_width;
        const int plane = in_first ? image * shape.first + channel : image * shape.second + channel - shape.first;
        return {afresh((in_first ? first : second) + (long long)plane * pixels), in_first ? 0 : 1};
    }
    __device__ __forceinline__ void finish(Raw raw, Constants c, float (&x)[PIXELS<S>]) const {
        pixels_of(raw, x);
#pragma unroll
        for (float& v : x) {
            v = (v - c.x) * c.y;
            v = fmaxf(v, v * c.z);  // as the slope is at most 1
        }
    }
};

// The gradient of the convolution's raw output.
template <class S> struct MmaGradient {
    const S *d_output, *output;
    const float *stats, *sums;
    ConvShape shape;
    static constexpr int GRIDS = 1;
    struct Raw {
        unsigned d, output;
    };

    __device__ __forceinline__ bool by_cells() const { return PIXELS<S> > 1 && shape.width % PIXELS<S> == 0; }
    __device__ __forceinline__ int place(int, int y, int x) const { return y * shape.width + x; }
    __device__ __forceinline__ int channels() const { return shape.out; }
    // Mean, 1/σ, mean of g and of g·x̂.
    __device__ __forceinline__ Constants constants(int image, int channel) const {
        const Undo undo = undo_of(stats, sums, image * shape.out + channel);
        return make_float4(undo.norm.mean, undo.norm.rstd, undo.mean_g, undo.mean_gx);
    }

    struct Plane {
        const S *d_output, *output;
        static constexpr int grid = 0;
        __device__ __forceinline__ Raw cell(int place) const { return {cell_at(d_output + place), cell_at(output + place)}; }
        __device__ __forceinline__ Raw pixels(const int* places) const {
            return {cell_of(d_output, places), cell_of(output, places)};
        }
    };
    __device__ __forceinline__ Plane plane(int image, int channel) const {
        const long long at = (long long)(image * shape.out + channel) * (shape.height * shape.width);
        return {afresh(d_output + at), afresh(output + at)};
    }
    __device__ __forceinline__ void finish(Raw raw, Constants c, float (&g)[PIXELS<S>]) const {
        float x[PIXELS<S>];
        pixels_of(raw.d, g);
        pixels_of(raw.output, x);
        if (!stats) return;
#pragma unroll
        for (int p = 0; p < PIXELS<S>; ++p) g[p] = c.y * (g[p] - c.z - (x[p] - c.x) * c.y * c.w);
    }
};

// Where a block finds the cells of a window, ROWS rows of ACROSS.
template <class T, class Source, int ROWS, int ACROSS> struct CellTable {
    static constexpr int CELLS = ROWS * ACROSS;
    int places[Source::GRIDS][CELLS * T::PACK];  // of pixels; where there is none, of one that there is
    unsigned masks[CELLS];                       // bits of pixels that there are

    // By all threads of the block. corner: the first pixel.
    __device__ __forceinline__ void fill(const Source& source, TileCorner corner) {
        constexpr unsigned PIXEL = ~0u >> (32 - 32 / T::PACK);
        for (int cell = threadIdx.x; cell < CELLS; cell += MMA_THREADS) {
            const int y = corner.y + cell / ACROSS;
            unsigned mask = 0;
#pragma unroll
            for (int p = 0; p < T::PACK; ++p) {
                const int x = corner.x + cell % ACROSS * T::PACK + p;
                const bool inside = y >= 0 && y < source.shape.height && x >= 0 && x < source.shape.width;
                mask |= inside ? PIXEL << (p * 16) : 0;
#pragma unroll
                for (int grid = 0; grid < Source::GRIDS; ++grid)
                    places[grid][cell * T::PACK + p] = inside ? source.place(grid, y, x) : 0;
            }
            masks[cell] = mask;
        }
    }
};

// Of a table, the cells that a lane stages.
template <class T, class Table, int N> struct LaneCells {
    const Table& table;
    int cells[N], places[N];

    // `cell(i)`: which.
    template <class Cell> __device__ __forceinline__ LaneCells(const Table& table, Cell cell) : table(table) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
            cells[i] = cell(i);
            places[i] = table.places[0][cells[i] * T::PACK];
        }
    }

    template <class Source>
    __device__ __forceinline__ void load(const Source& source, bool by_cells, int image, int channel,
                                         typename Source::Raw (&raw)[N]) const {
        const auto plane = source.plane(image, channel);
        if (by_cells) {
#pragma unroll
            for (int i = 0; i < N; ++i) raw[i] = plane.cell(places[i]);
        } else {
#pragma unroll
            for (int i = 0; i < N; ++i) raw[i] = plane.pixels(&table.places[plane.grid][cells[i] * T::PACK]);
        }
    }
};

// What a product takes of a cell: 0 where there is no pixel.
template <class T, class Source>
__device__ __forceinline__ unsigned finished(const Source& source, typename Source::Raw raw, Constants c, unsigned mask) {
    float x[T::PACK];
    source.finish(raw, c, x);
    return T::word(x) & mask;
}
