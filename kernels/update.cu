// The optimiser: ℓ1 penalty, global norm, clip and Adam, in PyTorch's order of operations.
//
// Where there is a mask (it may be null), a parameter at its zeros is frozen: left out of the norm and of the step.
//
// Three kernels, for the norm is of all parameters: parts of Σg², their sum and the scale that it asks for, the step.
#include "common.cuh"

constexpr int UPDATE_THREADS = 256;

// The scalars of one step, computed in double on the host, then rounded once.
struct AdamScalars {
    float l1, beta1, one_minus_beta1, beta2, one_minus_beta2, bias_correction2_sqrt, eps, minus_step_size;
};
DESCRIBE(AdamScalars, l1, beta1, one_minus_beta1, beta2, one_minus_beta2, bias_correction2_sqrt, eps, minus_step_size)

namespace {

// g + γ·sign(θ), where sign(0) = 0.
__device__ __forceinline__ float penalised(float gradient, float parameter, float l1) {
    const float above = parameter > 0.0f ? l1 : 0.0f, below = parameter < 0.0f ? l1 : 0.0f;
    return gradient + (above - below);
}

__device__ __forceinline__ bool frozen(const float* mask, unsigned long long i) { return mask && mask[i] == 0.0f; }

}  // namespace

// partial: [gridDim.x], sums of squares of the penalised gradient.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
update_squares(const float* parameters, const float* mask, const float* gradient, double* partial, float l1,
               unsigned long long len) {
    await_inputs();
    const unsigned long long stride = (unsigned long long)gridDim.x * UPDATE_THREADS;
    double sum = 0.0;
    for (unsigned long long i = (unsigned long long)blockIdx.x * UPDATE_THREADS + threadIdx.x; i < len; i += stride) {
        if (frozen(mask, i)) continue;
        const double g = penalised(gradient[i], parameters[i], l1);
        sum += g * g;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
KERNEL(update_squares)

// norm: [1], of the penalised gradient; scale: [1], what the gradient is multiplied by, NaN where there is to be no
// step. `clip` is infinite where there is none. One block.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
update_norm(const double* partial, float* norm, float* scale, int parts, double clip) {
    await_inputs();
    double sum = 0.0;
    for (int part = threadIdx.x; part < parts; part += UPDATE_THREADS) sum += partial[part];
    const double root = sqrt(block_sum(sum));
    if (threadIdx.x != 0) return;
    norm[0] = float(root);
    // By the norm as the host will see it, so that the two agree on whether there was a step.
    scale[0] = float(root) - float(root) == 0.0f ? float(fmin(clip / (root + 1e-6), 1.0)) : NAN;
}
KERNEL(update_norm)

extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
update_adam(float* parameters, const float* mask, const float* gradient, float* first_moment, float* second_moment,
            const float* scale, AdamScalars adam, unsigned long long len) {
    await_inputs();
    const unsigned long long i = (unsigned long long)blockIdx.x * UPDATE_THREADS + threadIdx.x;
    const float clip = scale[0];
    if (i >= len || clip != clip || frozen(mask, i)) return;
    const float parameter = parameters[i];
    float first = first_moment[i], second = second_moment[i];
    const float g = penalised(gradient[i], parameter, adam.l1) * clip;
    // torch.lerp takes the end that is nearer.
    const float change = g - first;
    first = adam.one_minus_beta1 < 0.5f ? first + adam.one_minus_beta1 * change : g - change * adam.beta1;
    second = second * adam.beta2 + adam.one_minus_beta2 * g * g;
    const float denominator = sqrtf(second) / adam.bias_correction2_sqrt + adam.eps;
    parameters[i] = parameter + adam.minus_step_size * first / denominator;
    first_moment[i] = first;
    second_moment[i] = second;
}
KERNEL(update_adam)
