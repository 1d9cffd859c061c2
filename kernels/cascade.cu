// Data consistency in normal-operator form: N v = Σ_c S̄_c·P(S_c·v). A block takes one row of one slice: blocks are
// rows, slices. It holds `at_once` coils.
#include "cascade.cuh"

// sum += N v for the columns of each thread.
__device__ __forceinline__ void add_normal(const Row& row, const float2* sens_maps, Projection& project, int at_once,
                                           const float2 (&v)[COLUMNS], float2 (&sum)[COLUMNS]) {
    if (!any(row, v)) return;
    for (int first = 0; first < row.shape.coils; first += at_once) {
        project.lines.count = min(at_once, row.shape.coils - first);
        for (int c = 0; c < project.lines.count; ++c) {
            const float2* sens = sens_maps + row.coil(first + c);
            row.each_column([&](int i, int x) { project.at(c, x) = sens[x] * v[i]; });
        }
        project();
        for (int c = 0; c < project.lines.count; ++c) {
            const float2* sens = sens_maps + row.coil(first + c);
            row.each_column([&](int i, int x) { sum[i] = sum[i] + conj(sens[x] * project.at(c, x)); });
        }
    }
}

// m = m0 − u + N v.
extern "C" __global__ void __launch_bounds__(CASCADE_THREADS)
cascade_input(const float2* sens_maps, const float* mask, const float2* m0, const float2* u, const float2* v,
              float2* m, ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    DYNAMIC_SHARED(float2, memory);
    const Row row = {shape, int(blockIdx.y), int(blockIdx.x)};
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    float2 values[COLUMNS], sum[COLUMNS];
    row.load(v + at, values);
    row.each_column([&](int i, int x) { sum[i] = m0[at + x] - u[at + x]; });
    add_normal(row, sens_maps, project, at_once, values, sum);
    row.each_column([&](int i, int x) { m[at + x] = sum[i]; });
}
KERNEL(cascade_input)

// d_u −= d_m, d_v += N d_m, d_m0 += d_m.
extern "C" __global__ void __launch_bounds__(CASCADE_THREADS)
cascade_input_backward(const float2* sens_maps, const float* mask, const float2* d_m, float2* d_u, float2* d_v,
                       float2* d_m0, ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    DYNAMIC_SHARED(float2, memory);
    const Row row = {shape, int(blockIdx.y), int(blockIdx.x)};
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    float2 values[COLUMNS], sum[COLUMNS];
    row.load(d_m + at, values);
    row.load(d_v + at, sum);
    add_normal(row, sens_maps, project, at_once, values, sum);
    row.each_column([&](int i, int x) {
        d_u[at + x] = d_u[at + x] - values[i];
        d_m0[at + x] = d_m0[at + x] + values[i];
        d_v[at + x] = sum[i];
    });
}
KERNEL(cascade_input_backward)
