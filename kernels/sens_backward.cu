// What all cascades together give the sensitivity maps. A block takes one row of a few coils of one slice, and visits
// all cascades: blocks are groups of coils, rows, slices.
#include "cascade.cuh"

// Coils of a block, whose maps and gradients are in registers.
constexpr int COILS = 2;
// Cascades of a launch, whose images come as arguments.
constexpr int MOST_PAIRS = 16;

// The images v of some cascades, and the gradients g of their inputs: [n, rows, columns] each.
struct Pairs {
    const float2* v[MOST_PAIRS];
    const float2* g[MOST_PAIRS];
    int count;
};
DESCRIBE(Pairs, v, g, count)

// d_sens_c += d̄_m0·x0_c + Σ_t (ḡ_t·P(S_c·v_t) + v̄_t·P(S_c·g_t)). Without d_m0 only the sum.
extern "C" __global__ void __launch_bounds__(CASCADE_THREADS)
sens_backward(const float2* sens_maps, const float* mask, const float2* x0, const float2* d_m0, float2* d_sens,
              const __grid_constant__ Pairs pairs, ImageShape shape, const __grid_constant__ FftPlan plan) {
    DYNAMIC_SHARED(float2, memory);
    const Row row = {shape, int(blockIdx.z), int(blockIdx.y)};
    const int first = blockIdx.x * COILS, coils = min(COILS, shape.coils - first);
    // Of each coil c the lines 2·c for v and 2·c + 1 for g.
    Projection project(plan, mask, row.n, memory, 2 * coils);
    const long long at = row.combined();
    float2 sens[COILS][COLUMNS], sum[COILS][COLUMNS];
#pragma unroll
    for (int c = 0; c < COILS; ++c) {
        if (c >= coils) break;
        const long long coil = row.coil(first + c);
        row.load(sens_maps + coil, sens[c]);
        row.load(d_sens + coil, sum[c]);
        if (!d_m0) continue;
        row.each_column([&](int i, int x) { sum[c][i] = sum[c][i] + conj(d_m0[at + x]) * x0[coil + x]; });
    }
    for (int t = 0; t < pairs.count; ++t) {
        float2 v[COLUMNS], g[COLUMNS];
        row.load(pairs.v[t] + at, v);
        // Both terms have the factor v.
        if (!any(row, v)) continue;
        row.load(pairs.g[t] + at, g);
#pragma unroll
        for (int c = 0; c < COILS; ++c) {
            if (c >= coils) break;
            row.each_column([&](int i, int x) {
                project.at(2 * c, x) = sens[c][i] * v[i];
                project.at(2 * c + 1, x) = sens[c][i] * g[i];
            });
        }
        project();
#pragma unroll
        for (int c = 0; c < COILS; ++c) {
            if (c >= coils) break;
            row.each_column([&](int i, int x) {
                sum[c][i] = sum[c][i] + conj(g[i] * project.at(2 * c, x) + v[i] * project.at(2 * c + 1, x));
            });
        }
    }
#pragma unroll
    for (int c = 0; c < COILS; ++c) {
        if (c >= coils) break;
        float2* const to = d_sens + row.coil(first + c);
        row.each_column([&](int i, int x) { to[x] = sum[c][i]; });
    }
}
KERNEL(sens_backward)
