// The final coil combination, √Σ_c |x₀_c − S_c·u + P(S_c·v)|². A block takes one row of one slice: blocks are rows,
// slices. It holds `at_once` coils.
#include "cascade.cuh"

extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
rss_output(const float2* sens_maps, const float* mask, const float2* x0, const float2* u, const float2* v,
           float* output, ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    Row row(shape, int(blockIdx.y), int(blockIdx.x));
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    // Of squares of the real and of the imaginary part.
    float2 sum[COLUMNS] = {};
    row.store(sum, project.sum(0));
    for (int first = 0; first < shape.coils; first += at_once) {
        project.lines.count = min(at_once, shape.coils - first);
        project.expand(row, sens_maps, first, v + at);
        project(row);
        float2 of_u[COLUMNS], image[COLUMNS], sens[COLUMNS], projected[COLUMNS];
        row.load(u + at, of_u);
        float2 squares[COLUMNS];
        row.load(project.sum(0), squares);
        for (int c = 0; c < project.lines.count; ++c) {
            const long long coil = row.coil(first + c);
            row.load(x0 + coil, image);
            row.load(sens_maps + coil, sens);
            row.load(project.line(c), projected);
            row.each_column([&](int i, int) {
                const float2 value = image[i] - sens[i] * of_u[i] + conj(projected[i]);
                squares[i] = squares[i] + make_float2(value.x * value.x, value.y * value.y);
            });
        }
        row.store(squares, project.sum(0));
    }
    row.load(project.sum(0), sum);
    row.each_column([&](int i, int x) { output[at + x] = sqrtf(sum[i].x + sum[i].y); });
}
KERNEL(rss_output)

// With g_c the gradient of coil c's image, 0 where the output is: d_u = −Σ S̄_c·g_c, d_v = Σ S̄_c·P g_c and
// d_sens_c = −ū·g_c + v̄·P g_c.
extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
rss_output_backward(const float2* sens_maps, const float* mask, const float2* x0, const float2* u, const float2* v,
                    const float* output, const float* d_output, float2* d_u, float2* d_v, float2* d_sens,
                    ImageShape shape, const __grid_constant__ FftPlan plan, int at_once) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    Row row(shape, int(blockIdx.y), int(blockIdx.x));
    Projection project(plan, mask, row.n, memory, at_once);
    const long long at = row.combined();
    {
        const float2 zeros[COLUMNS] = {};
        row.store(zeros, project.sum(0));
        row.store(zeros, project.sum(1));
    }
    for (int first = 0; first < shape.coils; first += at_once) {
        project.lines.count = min(at_once, shape.coils - first);
        project.expand(row, sens_maps, first, v + at);
        project(row);
        {
            float2 sum[COLUMNS], of_u[COLUMNS], g[COLUMNS], sens[COLUMNS], projected[COLUMNS];
            float factor[COLUMNS] = {};
            row.each_column([&](int i, int x) {
                factor[i] = output[at + x] == 0.0f ? 0.0f : d_output[at + x] / output[at + x];
            });
            row.load(u + at, of_u);
            row.load(project.sum(0), sum);
            for (int c = 0; c < project.lines.count; ++c) {
                const long long coil = row.coil(first + c);
                row.load(x0 + coil, g);
                row.load(sens_maps + coil, sens);
                row.load(project.line(c), projected);
                row.each_column([&](int i, int) {
                    g[i] = factor[i] * (g[i] - sens[i] * of_u[i] + conj(projected[i]));
                    sum[i] = sum[i] - conj(sens[i]) * g[i];
                    sens[i] = make_float2(0.0f, 0.0f) - conj(of_u[i]) * g[i];
                });
                row.store(sens, d_sens + coil);
                row.store(g, project.line(c));
            }
            row.store(sum, project.sum(0));
        }
        project(row);
        float2 sum[COLUMNS], of_v[COLUMNS], sens[COLUMNS], projected[COLUMNS], d[COLUMNS];
        row.load(v + at, of_v);
        row.load(project.sum(1), sum);
        for (int c = 0; c < project.lines.count; ++c) {
            const long long coil = row.coil(first + c);
            row.load(sens_maps + coil, sens);
            row.load(d_sens + coil, d);
            row.load(project.line(c), projected);
            row.each_column([&](int i, int) {
                sum[i] = sum[i] + conj(sens[i] * projected[i]);
                d[i] = d[i] + conj(of_v[i] * projected[i]);
            });
            row.store(d, d_sens + coil);
        }
        row.store(sum, project.sum(1));
    }
    float2 sum[COLUMNS];
    row.load(project.sum(0), sum);
    row.store(sum, d_u + at);
    row.load(project.sum(1), sum);
    row.store(sum, d_v + at);
}
KERNEL(rss_output_backward)
