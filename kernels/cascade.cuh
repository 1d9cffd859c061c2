// Rows of complex images, and their projection P = F⁻¹·mask·F. The multi-coil state of a row never leaves its block.
#pragma once
#include "fft.cuh"

// Of a row, in registers: a row has at most so many times the block's threads.
constexpr int COLUMNS = 4;

// The row that a block works on.
struct Row {
    ImageShape shape;
    int n, y, thread;

    __device__ __forceinline__ Row(const ImageShape& shape, int n, int y)
        : shape(shape), n(n), y(y), thread(threadIdx.x) {}

    // Where it begins in [n, rows, columns] and, for one coil, in [n, coils, rows, columns].
    __device__ __forceinline__ long long combined() const {
        return ((long long)n * shape.rows + y) * shape.columns;
    }
    __device__ __forceinline__ long long coil(int c) const {
        return (((long long)n * shape.coils + c) * shape.rows + y) * shape.columns;
    }
    // Calls with the number and the place of each of this thread's columns, which are pairs of neighbours; always the same
    // ones, so that what a thread leaves there needs no barrier before it takes it up again.
    template <class F> __device__ __forceinline__ void each_column(F f) const {
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            const int x = 2 * (thread + i / 2 * int(blockDim.x)) + i % 2;
            if (x < shape.columns) f(i, x);
        }
    }
    // This thread's columns of a row, in global or shared memory: 16 bytes at once where all rows begin at a multiple. Where
    // there is no column, 0: a value left as it was would be kept in a register all the while.
    __device__ __forceinline__ void load(const float2* row, float2 (&values)[COLUMNS]) const {
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) values[i] = make_float2(0.0f, 0.0f);
        if (shape.columns % 2 == 0) {
            each_column([&](int i, int x) {
                if (i % 2) return;
                const float4 two = *reinterpret_cast<const float4*>(row + x);
                values[i] = make_float2(two.x, two.y);
                values[i + 1] = make_float2(two.z, two.w);
            });
        } else {
            each_column([&](int i, int x) { values[i] = row[x]; });
        }
    }
    __device__ __forceinline__ void store(const float2 (&values)[COLUMNS], float2* row) const {
        if (shape.columns % 2 == 0) {
            each_column([&](int i, int x) {
                if (i % 2) return;
                const float2 a = values[i], b = values[i + 1];
                *reinterpret_cast<float4*>(row + x) = make_float4(a.x, a.y, b.x, b.y);
            });
        } else {
            each_column([&](int i, int x) { row[x] = values[i]; });
        }
    }
};

// Whether a row has any value but 0: the first cascades have none in v, and rows outside of the object neither.
__device__ __forceinline__ bool any(const Row& row, const float2* of_row) {
    float2 values[COLUMNS];
    row.load(of_row, values);
    bool mine = false;
    row.each_column([&](int i, int) { mine = mine || values[i].x != 0.0f || values[i].y != 0.0f; });
    return block_any(mine);
}

// P and its arrays in shared memory. What a block adds up from coil to coil is there too: the transforms need the
// registers. Whatever else is needed again after them is loaded again, from a cache.
struct Projection {
    const FftPlan& plan;
    // [columns] of this slice, in k-space's centred order. The shifts that centre F cancel against those of F⁻¹.
    const float* mask;
    Lines lines;
    // Rows behind the lines.
    float2* sums;

    __device__ __forceinline__ Projection(const FftPlan& plan, const float* masks, int n, float2* memory, int count)
        : plan(plan), mask(masks + (long long)n * plan.length),
          lines{memory, memory + count * plan.length, count, plan.length}, sums(memory + 2 * count * plan.length) {}

    __device__ __forceinline__ float2& at(int line, int x) const { return lines.at(line, x); }
    __device__ __forceinline__ float2* line(int c) const { return &lines.at(c, 0); }
    __device__ __forceinline__ float2* sum(int i) const { return sums + i * plan.length; }

    // The lines become S_c·v, for as many coils from `first` on as there are lines.
    __device__ __forceinline__ void expand(const Row& row, const float2* sens_maps, int first, const float2* of_v) const {
        float2 v[COLUMNS], sens[COLUMNS];
        row.load(of_v, v);
        for (int c = 0; c < lines.count; ++c) {
            row.load(sens_maps + row.coil(first + c), sens);
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) sens[i] = sens[i] * v[i];
            row.store(sens, line(c));
        }
    }

    // The lines become the conjugate of P of them. Afterwards the row's columns are worked out anew.
    __device__ __forceinline__ void operator()(Row& row) {
        const float scale = 1.0f / plan.length;
        // One loop round both transforms, so that their code is there once.
#pragma unroll 1
        for (bool forward = true;; forward = false) {
            transform(plan, lines);
            if (!forward) break;
            for (int x = threadIdx.x; x < plan.length; x += blockDim.x) {
                const float weight = mask[centred(x, plan.length)] * scale;
                for (int line = 0; line < lines.count; ++line) at(line, x) = weight * conj(at(line, x));
            }
        }
        row.thread = afresh(row.thread);
    }
};
