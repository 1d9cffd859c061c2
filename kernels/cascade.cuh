// Rows of complex images, and their projection P = F⁻¹·mask·F. The multi-coil state of a row never leaves its block.
#pragma once
#include "fft.cuh"

constexpr int CASCADE_THREADS = 256;
// Of a row, in registers: a row has at most so many times the block's threads.
constexpr int COLUMNS = 4;

// The row that a block works on.
struct Row {
    ImageShape shape;
    int n, y;

    // Where it begins in [n, rows, columns] and, for one coil, in [n, coils, rows, columns].
    __device__ __forceinline__ long long combined() const {
        return ((long long)n * shape.rows + y) * shape.columns;
    }
    __device__ __forceinline__ long long coil(int c) const {
        return (((long long)n * shape.coils + c) * shape.rows + y) * shape.columns;
    }
    // Calls with the number and the place of each of this thread's columns; always the same ones, so that what a
    // thread leaves there needs no barrier before it takes it up again.
    template <class F> __device__ __forceinline__ void each_column(F f) const {
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            const int x = threadIdx.x + i * blockDim.x;
            if (x < shape.columns) f(i, x);
        }
    }
    // This thread's columns of a row.
    template <class T> __device__ __forceinline__ void load(const T* row, T (&values)[COLUMNS]) const {
        each_column([&](int i, int x) { values[i] = row[x]; });
    }
};

// Whether a row, of which each thread has its columns, has any value but 0: the first cascades have none in v, and
// rows outside of the object neither.
__device__ __forceinline__ bool any(const Row& row, const float2 (&values)[COLUMNS]) {
    bool mine = false;
    row.each_column([&](int i, int) { mine = mine || values[i].x != 0.0f || values[i].y != 0.0f; });
    return block_any(mine);
}

// P and its arrays in shared memory.
struct Projection {
    const FftPlan& plan;
    // [columns] of this slice, in k-space's centred order. The shifts that centre F cancel against those of F⁻¹.
    const float* mask;
    Lines lines;

    __device__ __forceinline__ Projection(const FftPlan& plan, const float* masks, int n, float2* memory, int count)
        : plan(plan), mask(masks + (long long)n * plan.length),
          lines{memory, memory + count * plan.length, count, plan.length} {}

    __device__ __forceinline__ float2& at(int line, int x) const { return lines.at(line, x); }

    // The lines become the conjugate of P of them.
    __device__ __forceinline__ void operator()() {
        transform(plan, lines);
        const float scale = 1.0f / plan.length;
        for (int i = threadIdx.x; i < lines.count * plan.length; i += blockDim.x) {
            const float weight = mask[centred(i % plan.length, plan.length)] * scale;
            lines.from[i] = weight * conj(lines.from[i]);
        }
        transform(plan, lines);
    }
};
