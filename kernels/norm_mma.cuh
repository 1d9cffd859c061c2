// Norm and LeakyReLU in as few instructions as there can be, for operands of tensor cores: they are rounded coarser than what
// this rounds.
#pragma once
#include "norm.cuh"

// x̂ = x/σ − mean/σ. Unlike (x − mean)/σ it rounds mean/σ, which is less than what rounding an operand does as long as that is
// below 2¹³. Without statistics 1, 0 and 1.
struct MmaNorm {
    float scale, shift, slope;

    // What a reader of the map reads. The slope is at most 1.
    __device__ __forceinline__ float activate(float x) const {
        const float v = x * scale + shift;
        return fmaxf(v, v * slope);
    }
};

__device__ __forceinline__ MmaNorm mma_norm_of(const float* stats, int plane) {
    if (!stats) return {1.0f, 0.0f, 1.0f};
    const Norm norm = norm_of(stats, plane);
    return {norm.rstd, -norm.mean * norm.rstd, SLOPE};
}

// (g − mean(g) − x̂·mean(g·x̂))/σ as a·g + (b − c·x). Without statistics 1, 0 and 0, so that an output that is not finite
// spoils its gradient.
struct MmaUndo {
    float a, b, c;

    __device__ __forceinline__ float operator()(float g, float x) const { return a * g + (b - c * x); }
};

__device__ __forceinline__ MmaUndo mma_undo_of(const float* stats, const float* sums, int plane) {
    const Undo undo = undo_of(stats, sums, plane);
    const float a = undo.norm.rstd, c = a * a * undo.mean_gx;
    return {a, c * undo.norm.mean - a * undo.mean_g, c};
}
