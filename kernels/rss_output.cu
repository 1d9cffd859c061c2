// The final coil combination, √Σ_c |x₀_c − S_c·u + P(S_c·v)|². A block takes one row of one slice: blocks are rows,
// slices. It holds `at_once` coils.
#include "cascade.cuh"

// The lines become the conjugate of P(S_c·v), for as many coils from `first` on as there are lines.
__device__ __forceinline__ void project_coils(const Row& row, const float2* sens_maps, int first, int at_once,
                                              const float2 (&v)[COLUMNS], Projection& project) {
    project.lines.count = min(at_once, row.shape.coils - first);
    for (int c = 0; c < project.lines.count; ++c) {
        const float2* sens = sens_maps + row.coil(first + c);
        row.each_column([&](int i, int x) { project.at(c, x) = sens[x] * v[i]; });
    }
    project();
}

extern "C" __global__ void __launch_bounds__(CASCADE_THREADS)
rss_output(const float2* sens_maps, const float* mask, const float2* x0, const float2* u, const float2* v,
           float* output, ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    DYNAMIC_SHARED(float2, memory);
    const Row row = {shape, int(blockIdx.y), int(blockIdx.x)};
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    float2 of_u[COLUMNS], of_v[COLUMNS];
    float squares[COLUMNS] = {};
    row.load(u + at, of_u);
    row.load(v + at, of_v);
    for (int first = 0; first < shape.coils; first += at_once) {
        project_coils(row, sens_maps, first, at_once, of_v, project);
        for (int c = 0; c < project.lines.count; ++c) {
            const long long coil = row.coil(first + c);
            row.each_column([&](int i, int x) {
                const float2 image = x0[coil + x] - sens_maps[coil + x] * of_u[i] + conj(project.at(c, x));
                squares[i] += image.x * image.x + image.y * image.y;
            });
        }
    }
    row.each_column([&](int i, int x) { output[at + x] = sqrtf(squares[i]); });
}
KERNEL(rss_output)

// With g_c the gradient of coil c's image, 0 where the output is: d_u = −Σ S̄_c·g_c, d_v = Σ S̄_c·P g_c and
// d_sens_c = −ū·g_c + v̄·P g_c. Two blocks an SM: for more, the compiler would keep registers in memory.
extern "C" __global__ void __launch_bounds__(CASCADE_THREADS, 2)
rss_output_backward(const float2* sens_maps, const float* mask, const float2* x0, const float2* u, const float2* v,
                    const float* output, const float* d_output, float2* d_u, float2* d_v, float2* d_sens,
                    ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    DYNAMIC_SHARED(float2, memory);
    const Row row = {shape, int(blockIdx.y), int(blockIdx.x)};
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    float2 of_u[COLUMNS], of_v[COLUMNS], sum_u[COLUMNS] = {}, sum_v[COLUMNS] = {};
    float factor[COLUMNS];
    row.load(u + at, of_u);
    row.load(v + at, of_v);
    row.each_column([&](int i, int x) {
        factor[i] = output[at + x] == 0.0f ? 0.0f : d_output[at + x] / output[at + x];
    });
    for (int first = 0; first < shape.coils; first += at_once) {
        project_coils(row, sens_maps, first, at_once, of_v, project);
        for (int c = 0; c < project.lines.count; ++c) {
            const long long coil = row.coil(first + c);
            row.each_column([&](int i, int x) {
                const float2 sens = sens_maps[coil + x];
                const float2 g = factor[i] * (x0[coil + x] - sens * of_u[i] + conj(project.at(c, x)));
                sum_u[i] = sum_u[i] - conj(sens) * g;
                d_sens[coil + x] = make_float2(0.0f, 0.0f) - conj(of_u[i]) * g;
                project.at(c, x) = g;
            });
        }
        project();
        for (int c = 0; c < project.lines.count; ++c) {
            const long long coil = row.coil(first + c);
            row.each_column([&](int i, int x) {
                const float2 projected = project.at(c, x);
                sum_v[i] = sum_v[i] + conj(sens_maps[coil + x] * projected);
                d_sens[coil + x] = d_sens[coil + x] + conj(of_v[i] * projected);
            });
        }
    }
    row.each_column([&](int i, int x) {
        d_u[at + x] = sum_u[i];
        d_v[at + x] = sum_v[i];
    });
}
KERNEL(rss_output_backward)
