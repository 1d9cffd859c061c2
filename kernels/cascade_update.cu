// The update of u and v between cascades, value by value, and λ's gradient.
#include "common.cuh"

constexpr int UPDATE_THREADS = 256;

// u_out = u + r, v_out = (1 − λ)·v + λ·u. All of them `len` reals.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
cascade_update(const float* dc_weight, const float* r, const float* u, const float* v, float* u_out, float* v_out,
               int len) {
    await_inputs();
    const float lambda = *dc_weight;
    for (int i = blockIdx.x * UPDATE_THREADS + threadIdx.x; i < len; i += gridDim.x * UPDATE_THREADS) {
        const float u_here = u[i];
        u_out[i] = u_here + r[i];
        v_out[i] = (1.0f - lambda) * v[i] + lambda * u_here;
    }
}
KERNEL(cascade_update)

// d_r = d_u, d_u += λ·d_v, d_v *= 1 − λ. partial: [blocks], sums of d_v·(u − v).
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
cascade_update_backward(const float* dc_weight, const float* u, const float* v, float* d_u, float* d_v, float* d_r,
                        float* partial, int len) {
    await_inputs();
    const float lambda = *dc_weight;
    double sum = 0.0;
    for (int i = blockIdx.x * UPDATE_THREADS + threadIdx.x; i < len; i += gridDim.x * UPDATE_THREADS) {
        const float g_u = d_u[i], g_v = d_v[i];
        sum += double(g_v) * (u[i] - v[i]);
        d_r[i] = g_u;
        d_u[i] = g_u + lambda * g_v;
        d_v[i] = (1.0f - lambda) * g_v;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = float(sum);
}
KERNEL(cascade_update_backward)
