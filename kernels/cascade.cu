// Data consistency in normal-operator form: N v = Σ_c S̄_c·P(S_c·v). A block takes one row of one slice: blocks are
// rows, slices. It holds `at_once` coils.
#include "cascade.cuh"

// sum += N v, for a row of v.
__device__ __forceinline__ void add_normal(Row& row, const float2* sens_maps, Projection& project, int at_once,
                                           const float2* v, float2* to_sum) {
    if (!any(row, v)) return;
    for (int first = 0; first < row.shape.coils; first += at_once) {
        project.lines.count = min(at_once, row.shape.coils - first);
        project.expand(row, sens_maps, first, v);
        project(row);
        float2 sum[COLUMNS], sens[COLUMNS], projected[COLUMNS];
        row.load(to_sum, sum);
        for (int c = 0; c < project.lines.count; ++c) {
            row.load(sens_maps + row.coil(first + c), sens);
            row.load(project.line(c), projected);
            row.each_column([&](int i, int) { sum[i] = sum[i] + conj(sens[i] * projected[i]); });
        }
        row.store(sum, to_sum);
    }
}

// m = m0 − u + N v.
extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
cascade_input(const float2* sens_maps, const float* mask, const float2* m0, const float2* u, const float2* v,
              float2* m, ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    Row row(shape, int(blockIdx.y), int(blockIdx.x));
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    float2 sum[COLUMNS], of_u[COLUMNS];
    row.load(m0 + at, sum);
    row.load(u + at, of_u);
    row.each_column([&](int i, int) { sum[i] = sum[i] - of_u[i]; });
    row.store(sum, project.sum(0));
    add_normal(row, sens_maps, project, at_once, v + at, project.sum(0));
    row.load(project.sum(0), sum);
    row.store(sum, m + at);
}
KERNEL(cascade_input)

// sum += N v.
extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
normal_operator(const float2* sens_maps, const float* mask, const float2* v, float2* sum, ImageShape shape,
                const __grid_constant__ FftPlan plan, int at_once) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    Row row(shape, int(blockIdx.y), int(blockIdx.x));
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    float2 of_row[COLUMNS];
    row.load(sum + at, of_row);
    row.store(of_row, project.sum(0));
    add_normal(row, sens_maps, project, at_once, v + at, project.sum(0));
    row.load(project.sum(0), of_row);
    row.store(of_row, sum + at);
}
KERNEL(normal_operator)
