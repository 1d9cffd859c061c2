// Sensitivity maps: coil images divided by their root sum of squares, and what the maps combine.
//
// A thread takes one pixel of all coils, so nothing is shared: neighbours read neighbouring addresses of each coil, and
// what is read a second time comes from a cache. Blocks: parts of an image, slices.
#include "common.cuh"

constexpr int SENS_THREADS = 128;

namespace {

// A pixel of the images `[n, coils, pixels]`; none beyond the last.
struct Pixel {
    long long first;
    int pixels;
    bool present;

    __device__ __forceinline__ long long of(int coil) const { return first + (long long)coil * pixels; }
};

__device__ __forceinline__ Pixel this_pixel(int coils, int pixels) {
    const int at = blockIdx.x * SENS_THREADS + threadIdx.x;
    return {(long long)blockIdx.y * coils * pixels + at, pixels, at < pixels};
}

// 1/√Σ|raw|², 0 where the root is 0.
__device__ __forceinline__ float inverse_rss(const float2* raw, Pixel pixel, int coils) {
    float sum = 0.0f;
    for (int coil = 0; coil < coils; ++coil) {
        const float2 value = raw[pixel.of(coil)];
        sum += value.x * value.x + value.y * value.y;
    }
    // Not `> 0`: a NaN must stay one.
    return sum == 0.0f ? 0.0f : 1.0f / sqrtf(sum);
}

}  // namespace

// raw, sens_maps: [n, coils, pixels].
extern "C" __global__ void __launch_bounds__(SENS_THREADS)
divide_by_rss(const float2* raw, float2* sens_maps, int coils, int pixels) {
    await_inputs();
    const Pixel pixel = this_pixel(coils, pixels);
    if (!pixel.present) return;
    const float inverse = inverse_rss(raw, pixel, coils);
    for (int coil = 0; coil < coils; ++coil) sens_maps[pixel.of(coil)] = inverse * raw[pixel.of(coil)];
}
KERNEL(divide_by_rss)

// combined [n, pixels] = Σ_coil conj(sens_maps)·images; both [n, coils, pixels].
extern "C" __global__ void __launch_bounds__(SENS_THREADS)
sens_reduce(const float2* sens_maps, const float2* images, float2* combined, int coils, int pixels) {
    await_inputs();
    const Pixel pixel = this_pixel(coils, pixels);
    if (!pixel.present) return;
    float2 sum = make_float2(0.0f, 0.0f);
    for (int coil = 0; coil < coils; ++coil) sum = sum + conj(sens_maps[pixel.of(coil)]) * images[pixel.of(coil)];
    combined[this_pixel(1, pixels).of(0)] = sum;
}
KERNEL(sens_reduce)

// d = (d − S·Re Σ S̄·d)/rss, in place. raw, sens_maps, d: [n, coils, pixels].
extern "C" __global__ void __launch_bounds__(SENS_THREADS)
divide_by_rss_backward(const float2* raw, const float2* sens_maps, float2* d, int coils, int pixels) {
    await_inputs();
    const Pixel pixel = this_pixel(coils, pixels);
    if (!pixel.present) return;
    const float inverse = inverse_rss(raw, pixel, coils);
    // What of d lies along S changes the length of the raw coil vector, which is divided away.
    float radial = 0.0f;
    for (int coil = 0; coil < coils; ++coil) radial += (conj(sens_maps[pixel.of(coil)]) * d[pixel.of(coil)]).x;
    for (int coil = 0; coil < coils; ++coil) {
        const long long i = pixel.of(coil);
        d[i] = inverse * (d[i] - radial * sens_maps[i]);
    }
}
KERNEL(divide_by_rss_backward)
