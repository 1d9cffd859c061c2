// What changes u, v and m between cascades, value by value, and λ's gradient.
#include "common.cuh"

constexpr int UPDATE_THREADS = 256;

// v_out = (1 − λ)·v + λ·u. All of them `len` reals.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
cascade_dc(const float* dc_weight, const float* u, const float* v, float* v_out, int len) {
    await_inputs();
    const float lambda = *dc_weight;
    for (int i = blockIdx.x * UPDATE_THREADS + threadIdx.x; i < len; i += gridDim.x * UPDATE_THREADS)
        v_out[i] = (1.0f - lambda) * v[i] + lambda * u[i];
}
KERNEL(cascade_dc)

// u_out = u + r, m −= r where it is given.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
cascade_update(const float* r, const float* u, float* u_out, float* m, int len) {
    await_inputs();
    for (int i = blockIdx.x * UPDATE_THREADS + threadIdx.x; i < len; i += gridDim.x * UPDATE_THREADS) {
        const float step = r[i];
        u_out[i] = u[i] + step;
        if (m) m[i] -= step;
    }
}
KERNEL(cascade_update)

// d_u += λ·d_v − d_m, d_v *= 1 − λ, d_m0 += d_m. partial: [blocks], sums of d_v·(u − v).
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
cascade_update_backward(const float* dc_weight, const float* u, const float* v, const float* d_m, float* d_u, float* d_v,
                        float* d_m0, float* partial, int len) {
    await_inputs();
    const float lambda = *dc_weight;
    double sum = 0.0;
    for (int i = blockIdx.x * UPDATE_THREADS + threadIdx.x; i < len; i += gridDim.x * UPDATE_THREADS) {
        const float g_v = d_v[i], g_m = d_m[i];
        sum += double(g_v) * (u[i] - v[i]);
        d_u[i] += lambda * g_v - g_m;
        d_v[i] = (1.0f - lambda) * g_v;
        d_m0[i] += g_m;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = float(sum);
}
KERNEL(cascade_update_backward)
