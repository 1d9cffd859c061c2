// What the 3×3 convolutions on tensor cores read, and how it comes to a product: in cells.
//
// A cell is a word of a map: one float, or two bf16, which are neighbours in a row, the first of them in an even column.
// It is loaded, activated or undone, rounded and masked as one. Where rows are not whole words, or an input is a row or a
// column short, its pixels are loaded one by one; all else is the same.
#pragma once
#include "conv_planes.cuh"
#include "mma.cuh"
#include "norm_mma.cuh"

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

// What a source makes of a pixel is decided by three numbers of its plane.
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

    // Whether a pixel lies at the same place of both inputs.
    __device__ __forceinline__ bool one_grid() const {
        return shape.first_height == shape.height && shape.first_width == shape.width &&
               shape.second_height == shape.height && shape.second_width == shape.width;
    }
    // Whether cells of several pixels are words of memory.
    __device__ __forceinline__ bool by_cells() const {
        return PIXELS<S> > 1 && one_grid() && shape.width % PIXELS<S> == 0;
    }
    // Where a pixel lies in a plane of either input.
    __device__ __forceinline__ int pixel(int grid, int y, int x) const {
        const int height = grid ? shape.second_height : shape.first_height;
        const int width = grid ? shape.second_width : shape.first_width;
        // A row or column that is missing is the last but one: the edge itself is not repeated.
        y = y < height ? y : 2 * (height - 1) - y;
        x = x < width ? x : 2 * (width - 1) - x;
        return y * width + x;
    }
    __device__ __forceinline__ int channels() const { return shape.inputs(); }
    __device__ __forceinline__ Constants constants(int image, int channel) const {
        const bool in_first = channel < shape.first;
        const int plane = in_first ? image * shape.first + channel : image * shape.second + channel - shape.first;
        const MmaNorm norm = mma_norm_of(in_first ? first_stats : second_stats, plane);
        return make_float4(norm.scale, norm.shift, norm.slope, 0.0f);
    }

    struct Plane {
        const S* values;
        int grid;
        __device__ __forceinline__ Raw cell(int place) const { return cell_at(values + place); }
        __device__ __forceinline__ Raw pixels(const int* places) const { return cell_of(values, places); }
    };
    // Where a channel lies, and its plane.
    using Place = const S*;
    __device__ __forceinline__ Place place(int image, int channel) const {
        const bool in_first = channel < shape.first;
        const int pixels =
            in_first ? shape.first_height * shape.first_width : shape.second_height * shape.second_width;
        const int plane = in_first ? image * shape.first + channel : image * shape.second + channel - shape.first;
        return (in_first ? first : second) + (long long)plane * pixels;
    }
    __device__ __forceinline__ Plane plane(Place place, int channel) const {
        return {afresh(place), channel < shape.first ? 0 : 1};
    }
    __device__ __forceinline__ void finish(Raw raw, Constants c, float (&x)[PIXELS<S>]) const {
        pixels_of(raw, x);
#pragma unroll
        for (float& v : x) v = MmaNorm{c.x, c.y, c.z}.activate(v);
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

    __device__ __forceinline__ bool one_grid() const { return true; }
    __device__ __forceinline__ bool by_cells() const { return PIXELS<S> > 1 && shape.width % PIXELS<S> == 0; }
    __device__ __forceinline__ int pixel(int, int y, int x) const { return y * shape.width + x; }
    __device__ __forceinline__ int channels() const { return shape.out; }
    __device__ __forceinline__ Constants constants(int image, int channel) const {
        const MmaUndo undo = mma_undo_of(stats, sums, image * shape.out + channel);
        return make_float4(undo.a, undo.b, undo.c, 0.0f);
    }

    struct Plane {
        const S *d_output, *output;
        static constexpr int grid = 0;
        __device__ __forceinline__ Raw cell(int place) const { return {cell_at(d_output + place), cell_at(output + place)}; }
        __device__ __forceinline__ Raw pixels(const int* places) const {
            return {cell_of(d_output, places), cell_of(output, places)};
        }
    };
    using Place = long long;
    __device__ __forceinline__ Place place(int image, int channel) const {
        return (long long)(image * shape.out + channel) * (shape.height * shape.width);
    }
    __device__ __forceinline__ Plane plane(Place place, int) const {
        return {afresh(d_output + place), afresh(output + place)};
    }
    __device__ __forceinline__ void finish(Raw raw, Constants c, float (&g)[PIXELS<S>]) const {
        float x[PIXELS<S>];
        pixels_of(raw.d, g);
        pixels_of(raw.output, x);
#pragma unroll
        for (int p = 0; p < PIXELS<S>; ++p) g[p] = MmaUndo{c.x, c.y, c.z}(g[p], x[p]);
    }
};

// What a channel is read with, and where it lies.
template <class Source> struct Channel {
    Constants constants;
    typename Source::Place place;

    static __device__ __forceinline__ Channel of(const Source& source, int image, int channel) {
        return {source.constants(image, channel), source.place(image, channel)};
    }
};

// Where a block finds the cells of a window, ROWS rows of ACROSS.
template <class T, class Source, int ROWS, int ACROSS> struct CellTable {
    static constexpr int CELLS = ROWS * ACROSS;
    int places[Source::GRIDS][CELLS * T::PACK];  // of pixels; where there is none, of one that there is
    unsigned masks[CELLS];                       // bits of pixels that there are, where not all are
    TileCorner corner;                           // the first pixel
    bool inner;                                  // there are all

    template <bool INNER> __device__ __forceinline__ unsigned mask(int cell) const { return INNER ? ~0u : masks[cell]; }

    // By all threads of the block.
    __device__ __forceinline__ void fill(const Source& source, TileCorner from) {
        const bool all = from.y >= 0 && from.y + ROWS <= source.shape.height && from.x >= 0 &&
                         from.x + ACROSS * T::PACK <= source.shape.width;
        if (threadIdx.x == 0) {
            corner = from;
            inner = all;
        }
        // What of it is the same for all tiles is worked out anew, where a block has several: it would take registers.
        const int mine = afresh((int)threadIdx.x);
        if (all && source.one_grid()) {
            for (int cell = mine; cell < CELLS; cell += MMA_THREADS) {
                const int at = (from.y + cell / ACROSS) * source.shape.width + from.x + cell % ACROSS * T::PACK;
#pragma unroll
                for (int i = 0; i < Source::GRIDS * T::PACK; ++i)
                    places[i / T::PACK][cell * T::PACK + i % T::PACK] = at + i % T::PACK;
            }
            return;
        }
        constexpr unsigned PIXEL = ~0u >> (32 - 32 / T::PACK);
        for (int cell = mine; cell < CELLS; cell += MMA_THREADS) {
            const int y = from.y + cell / ACROSS;
            unsigned mask = 0;
#pragma unroll
            for (int p = 0; p < T::PACK; ++p) {
                const int x = from.x + cell % ACROSS * T::PACK + p;
                const bool inside = y >= 0 && y < source.shape.height && x >= 0 && x < source.shape.width;
                mask |= inside ? PIXEL << (p * 16) : 0;
#pragma unroll
                for (int grid = 0; grid < Source::GRIDS; ++grid)
                    places[grid][cell * T::PACK + p] = inside ? source.pixel(grid, y, x) : 0;
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

    template <class Plane, class Raw>
    __device__ __forceinline__ void load(const Plane& plane, bool by_cells, Raw (&raw)[N]) const {
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
