// Label noise from a counter-based generator: value i depends on (key, stream, i) alone, as src/cpu/noise.rs has it.
//
// All is in double but what is stored, in the reference's order of operations, so that at most the last rounding of a
// value can differ between devices.
#include "common.cuh"

constexpr int NOISE_THREADS = 128;

namespace {

struct Words {
    unsigned w[4];
};

// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
__device__ __forceinline__ Words philox(Words c, unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; ++round) {
        const unsigned a = 0xD2511F53u, b = 0xCD9E8D57u;
        c = {{__umulhi(b, c.w[2]) ^ c.w[1] ^ key0, b * c.w[2], __umulhi(a, c.w[0]) ^ c.w[3] ^ key1, a * c.w[0]}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// The upper 53 of 64 bits.
__device__ __forceinline__ unsigned long long mantissa(unsigned high, unsigned low) {
    return ((unsigned long long)high << 32 | low) >> 11;
}

// A standard normal number: one of the pair that Box–Muller makes.
__device__ __forceinline__ double normal(unsigned long long key, unsigned long long stream, unsigned long long index) {
    constexpr double SCALE = 1.0 / (1ull << 53), TAU = 6.283185307179586;
    const Words counter = {{unsigned(index), unsigned(index >> 32), unsigned(stream), unsigned(stream >> 32)}};
    const Words bits = philox(counter, unsigned(key), unsigned(key >> 32));
    // In (0, 1]: the logarithm needs no special case.
    const double radius = double(mantissa(bits.w[0], bits.w[1]) + 1) * SCALE;
    const double angle = double(mantissa(bits.w[2], bits.w[3])) * SCALE;
    return sqrt(-2.0 * log(radius)) * cos(TAU * angle);
}

}  // namespace

// target[i] += λ·n_i, or λ·|n_i|, for i below len.
extern "C" __global__ void __launch_bounds__(NOISE_THREADS)
label_noise(float* target, unsigned long long len, unsigned long long key, unsigned long long stream, double lambda,
            int absolute) {
    await_inputs();
    const unsigned long long i = (unsigned long long)blockIdx.x * NOISE_THREADS + threadIdx.x;
    if (i >= len) return;
    const double n = normal(key, stream, i);
    target[i] = float(target[i] + lambda * (absolute ? fabs(n) : n));
}
KERNEL(label_noise)
