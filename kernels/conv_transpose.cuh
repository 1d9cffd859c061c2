// What the kernels of the transposed convolution share. Each is a matrix product: a block stages slices of both
// factors in shared memory, a thread keeps a tile of the result in registers. The four weights that make an output
// channel's 2×2 block of an input channel's pixel, and the block itself, are one float4: upper left and right, lower
// left and right.
#pragma once
#include "norm.cuh"

// Forward and data gradient: every lane of a warp keeps TRANSPOSE_LANE pixels, each warp channels of its own.
constexpr int TRANSPOSE_WARPS = 3;
constexpr int TRANSPOSE_THREADS = TRANSPOSE_WARPS * WARP;
constexpr int TRANSPOSE_LANE = 2;
constexpr int TRANSPOSE_TILE = TRANSPOSE_LANE * WARP;

// Pixels and channels of the input map, channels of the output map, which is twice as high and wide.
struct Transpose {
    int inputs, outputs, height, width;

    __device__ __forceinline__ int pixels() const { return height * width; }
    // The upper left value of an input pixel's block, in a plane of the output. Even: a row of a block is read as two.
    __device__ __forceinline__ int block_at(int pixel) const {
        return 4 * (pixel / width) * width + 2 * (pixel % width);
    }
};
DESCRIBE(Transpose, inputs, outputs, height, width)

__device__ __forceinline__ void transpose_add(float4& sum, float a, float4 b) {
    sum.x += a * b.x;
    sum.y += a * b.y;
    sum.z += a * b.z;
    sum.w += a * b.w;
}

__device__ __forceinline__ float transpose_dot(float4 a, float4 b) {
    return a.x * b.x + a.y * b.y + (a.z * b.z + a.w * b.w);
}

// ∂L/∂(raw output) of an input pixel's block, which lies at `block` in plane `plane` of the output.
__device__ __forceinline__ float4 transpose_gradient(const Transpose& shape, const float* output, const float* g,
                                                     const Undo& undo, int plane, int block) {
    const long long at = 4ll * plane * shape.pixels() + block;
    const float2 upper = two(g + at);
    const float2 lower = two(g + at + 2 * shape.width);
    const float2 y_upper = two(output + at);
    const float2 y_lower = two(output + at + 2 * shape.width);
    return make_float4(undo(upper.x, y_upper.x), undo(upper.y, y_upper.y), undo(lower.x, y_lower.x),
                       undo(lower.y, y_lower.y));
}
