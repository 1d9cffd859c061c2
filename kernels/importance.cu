// How important each parameter is to a set of slices, and what selective synaptic dampening makes of it. A thread a
// parameter.
#include "common.cuh"

constexpr int IMPORTANCE_THREADS = 256;

namespace {

__device__ __forceinline__ unsigned long long this_parameter() {
    return (unsigned long long)blockIdx.x * IMPORTANCE_THREADS + threadIdx.x;
}

}  // namespace

// sums += factor·gradient².
extern "C" __global__ void __launch_bounds__(IMPORTANCE_THREADS)
add_squares(const float* gradient, float* sums, float factor, unsigned long long len) {
    await_inputs();
    const unsigned long long i = this_parameter();
    if (i < len) sums[i] += factor * (gradient[i] * gradient[i]);
}
KERNEL(add_squares)

// What is more than α times as important to the forget set as to all data is multiplied by λ times the inverse of that
// ratio, at most by 1. Comparisons with NaN select nothing.
extern "C" __global__ void __launch_bounds__(IMPORTANCE_THREADS)
dampen(const float* forget, const float* retain, float* parameters, float alpha, float lambda, float of_forget,
       float of_retain, unsigned long long len) {
    await_inputs();
    const unsigned long long i = this_parameter();
    if (i >= len) return;
    const float all = of_forget * forget[i] + of_retain * retain[i];
    if (forget[i] > alpha * all) parameters[i] *= fminf(lambda * all / forget[i], 1.0f);
}
KERNEL(dampen)
