// What all cascades together give the sensitivity maps. A block takes one row of a few coils of one slice, and visits
// all cascades: blocks are groups of coils, rows, slices.
#include "cascade.cuh"

// Coils of a block.
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
extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
sens_backward(const float2* sens_maps, const float* mask, const float2* x0, const float2* d_m0, float2* d_sens,
              const __grid_constant__ Pairs pairs, ImageShape shape, const __grid_constant__ FftPlan plan) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    Row row(shape, int(blockIdx.z), int(blockIdx.y));
    const int first = blockIdx.x * COILS, coils = min(COILS, shape.coils - first);
    // Of each coil c the lines 2·c for v and 2·c + 1 for g, and the sum c.
    Projection project(plan, mask, row.n, memory, 2 * coils);
    const long long at = row.combined();
    for (int c = 0; c < coils; ++c) {
        const long long coil = row.coil(first + c);
        float2 sum[COLUMNS], d[COLUMNS], image[COLUMNS];
        row.load(d_sens + coil, sum);
        if (d_m0) {
            row.load(d_m0 + at, d);
            row.load(x0 + coil, image);
            row.each_column([&](int i, int) { sum[i] = sum[i] + conj(d[i]) * image[i]; });
        }
        row.store(sum, project.sum(c));
    }
    for (int t = 0; t < pairs.count; ++t) {
        const float2 *const of_v = pairs.v[t] + at, *const of_g = pairs.g[t] + at;
        // Both terms have the factor v.
        if (!any(row, of_v)) continue;
        {
            float2 v[COLUMNS], g[COLUMNS], sens[COLUMNS], product[COLUMNS];
            row.load(of_v, v);
            row.load(of_g, g);
            for (int c = 0; c < coils; ++c) {
                row.load(sens_maps + row.coil(first + c), sens);
#pragma unroll
                for (int i = 0; i < COLUMNS; ++i) product[i] = sens[i] * v[i];
                row.store(product, project.line(2 * c));
#pragma unroll
                for (int i = 0; i < COLUMNS; ++i) product[i] = sens[i] * g[i];
                row.store(product, project.line(2 * c + 1));
            }
        }
        project(row);
        float2 v[COLUMNS], g[COLUMNS], sum[COLUMNS], projected_v[COLUMNS], projected_g[COLUMNS];
        row.load(of_v, v);
        row.load(of_g, g);
        for (int c = 0; c < coils; ++c) {
            row.load(project.sum(c), sum);
            row.load(project.line(2 * c), projected_v);
            row.load(project.line(2 * c + 1), projected_g);
            row.each_column([&](int i, int) {
                sum[i] = sum[i] + conj(g[i] * projected_v[i] + v[i] * projected_g[i]);
            });
            row.store(sum, project.sum(c));
        }
    }
    for (int c = 0; c < coils; ++c) {
        float2 sum[COLUMNS];
        row.load(project.sum(c), sum);
        row.store(sum, d_sens + row.coil(first + c));
    }
}
KERNEL(sens_backward)
