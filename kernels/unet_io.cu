// In and out of a U-Net: a complex image becomes two normalised, padded channels, and two channels an image again.
//
// Plane 2n of a map is the real part of image n, 2n + 1 the imaginary. Moments are made in two steps, the mean before
// the squares about it, and joined in double: an image's mean may be many deviations away from 0. A part without any
// deviation is divided by 1.
#include "norm.cuh"

constexpr int UNET_IO_THREADS = 256;
// Pixels that a thread keeps while a block finds the moments of its part.
constexpr int UNET_IO_PIXELS = 4;
constexpr int UNET_IO_PART = UNET_IO_THREADS * UNET_IO_PIXELS;
constexpr int UNET_IO_JOIN_THREADS = 64;

// Where an image lies in the middle of its padded map.
struct UnetFrame {
    int rows, columns, height, width, top, left;

    __device__ __forceinline__ int pixels() const { return rows * columns; }
    __device__ __forceinline__ int padded_pixels() const { return height * width; }
    // The place of an image's pixel in a plane of the map.
    __device__ __forceinline__ int padded(int pixel) const {
        return (top + pixel / columns) * width + left + pixel % columns;
    }
    // The image's pixel at a place in a plane of the map, or −1 in the padding.
    __device__ __forceinline__ int cropped(int place) const {
        const int y = place / width - top, x = place % width - left;
        return y >= 0 && y < rows && x >= 0 && x < columns ? y * columns + x : -1;
    }
};
DESCRIBE(UnetFrame, rows, columns, height, width, top, left)

__device__ __forceinline__ float unet_divisor(float deviation) { return deviation == 0.0f ? 1.0f : deviation; }

// Σd and Σd·y of the two planes of an image, one plane after the other, over what a thread has seen.
struct UnetSums {
    double of[4];

    __device__ __forceinline__ void add(float2 d, float re, float im) {
        of[0] += d.x;
        of[1] += double(d.x) * re;
        of[2] += d.y;
        of[3] += double(d.y) * im;
    }
    // Leaves the block's sums at `part` `[4]`.
    __device__ __forceinline__ void leave(double* part) {
        for (int i = 0; i < 4; ++i) {
            const double sum = block_sum(of[i]);
            if (threadIdx.x == 0) part[i] = sum;
        }
    }
};

// ---- forward -------------------------------------------------------------------------------------------------

// partial: [n, parts, 2, 2], for either part of the image mean and sum of squared deviations of UNET_IO_PART pixels,
// the last part of fewer. Blocks: parts, images.
extern "C" __global__ void __launch_bounds__(UNET_IO_THREADS)
unet_part_moments(const float2* image, double* partial, int pixels) {
    await_inputs();
    const int first = blockIdx.x * UNET_IO_PART, count = min(UNET_IO_PART, pixels - first);
    const float2* from = image + (long long)blockIdx.y * pixels + first;
    float2 mine[UNET_IO_PIXELS];
    double re = 0.0, im = 0.0;
#pragma unroll
    for (int i = 0; i < UNET_IO_PIXELS; ++i) {
        const int pixel = i * UNET_IO_THREADS + threadIdx.x;
        if (pixel >= count) continue;
        mine[i] = from[pixel];
        re += mine[i].x;
        im += mine[i].y;
    }
    const double mean_re = block_sum(re) / count, mean_im = block_sum(im) / count;
    re = im = 0.0;
#pragma unroll
    for (int i = 0; i < UNET_IO_PIXELS; ++i) {
        if (i * UNET_IO_THREADS + int(threadIdx.x) >= count) continue;
        re += (mine[i].x - mean_re) * (mine[i].x - mean_re);
        im += (mine[i].y - mean_im) * (mine[i].y - mean_im);
    }
    re = block_sum(re);
    im = block_sum(im);
    if (threadIdx.x != 0) return;
    double* part = partial + 4 * ((long long)blockIdx.y * gridDim.x + blockIdx.x);
    part[0] = mean_re;
    part[1] = re;
    part[2] = mean_im;
    part[3] = im;
}
KERNEL(unet_part_moments)

// moments: [planes, 2], mean and sample standard deviation, from the parts above. Blocks: planes.
extern "C" __global__ void __launch_bounds__(UNET_IO_JOIN_THREADS)
unet_moments(const double* partial, float* moments, int parts, int pixels) {
    await_inputs();
    const int plane = blockIdx.x, thread = threadIdx.x;
    Moments mine = {0.0, 0.0, 0.0};
    for (int part = thread; part < parts; part += UNET_IO_JOIN_THREADS) {
        const double* p = partial + 4 * ((long long)(plane / 2) * parts + part) + 2 * (plane % 2);
        const double count = min(UNET_IO_PART, pixels - part * UNET_IO_PART);
        mine = join(mine, Moments{count, p[0], p[1]});
    }
    mine = block_join(mine);
    if (thread != 0) return;
    moments[2 * plane] = float(mine.mean);
    moments[2 * plane + 1] = float(sqrt(mine.squares / max(pixels - 1, 1)));
}
KERNEL(unet_moments)

// map: [n, 2, height, width], zeros around the normalised image. Blocks: parts of a plane of the map, images.
#define UNET_INPUT(T) const float2* image, const float* moments, T* map, UnetFrame frame
template <class T> __device__ __forceinline__ void unet_input_of(UNET_INPUT(T)) {
    const int n = blockIdx.y, places = frame.padded_pixels();
    const float* of = moments + 4 * n;
    const float divide_re = unet_divisor(of[1]), divide_im = unet_divisor(of[3]);
    const float2* from = image + (long long)n * frame.pixels();
    T* re = map + 2ll * n * places;
    T* im = re + places;
    for (int i = blockIdx.x * UNET_IO_THREADS + threadIdx.x; i < places; i += gridDim.x * UNET_IO_THREADS) {
        const int pixel = frame.cropped(i);
        float2 value = make_float2(0.0f, 0.0f);
        if (pixel >= 0) {
            value = from[pixel] - make_float2(of[0], of[2]);
            value = make_float2(value.x / divide_re, value.y / divide_im);
        }
        put(re + i, value.x);
        put(im + i, value.y);
    }
}
MAP_KERNEL(unet_input, (UNET_IO_THREADS), UNET_INPUT, (image, moments, map, frame))

// image: [n, rows, columns] c. Blocks: parts of an image, images.
#define UNET_OUTPUT(T) const T* map, const float* moments, float2* image, UnetFrame frame
template <class T> __device__ __forceinline__ void unet_output_of(UNET_OUTPUT(T)) {
    const int n = blockIdx.y;
    const float* of = moments + 4 * n;
    const T* re = map + 2ll * n * frame.padded_pixels();
    const T* im = re + frame.padded_pixels();
    float2* to = image + (long long)n * frame.pixels();
    for (int i = blockIdx.x * UNET_IO_THREADS + threadIdx.x; i < frame.pixels(); i += gridDim.x * UNET_IO_THREADS) {
        const int place = frame.padded(i);
        to[i] = make_float2(real(re[place]) * of[1] + of[0], real(im[place]) * of[3] + of[2]);
    }
}
MAP_KERNEL(unet_output, (UNET_IO_THREADS), UNET_OUTPUT, (map, moments, image, frame))

// ---- backward ------------------------------------------------------------------------------------------------

// d_map: [n, 2, height, width], 0 in the padding; partial: [n, parts, 4], see UnetSums. Blocks: parts of a plane of
// the map, images.
#define UNET_OUTPUT_BACKWARD(T)                                                                           \
    const T* map, const float* moments, const float2* d_image, T* d_map, double* partial, UnetFrame frame
template <class T> __device__ __forceinline__ void unet_output_backward_of(UNET_OUTPUT_BACKWARD(T)) {
    const int n = blockIdx.y, places = frame.padded_pixels();
    const float* of = moments + 4 * n;
    const long long first = 2ll * n * places;
    const float2* from = d_image + (long long)n * frame.pixels();
    UnetSums sums = {};
    for (int i = blockIdx.x * UNET_IO_THREADS + threadIdx.x; i < places; i += gridDim.x * UNET_IO_THREADS) {
        const int pixel = frame.cropped(i);
        float2 d = make_float2(0.0f, 0.0f);
        if (pixel >= 0) {
            d = from[pixel];
            sums.add(d, real(map[first + i]), real(map[first + places + i]));
            d = make_float2(d.x * of[1], d.y * of[3]);
        }
        put(d_map + first + i, d.x);
        put(d_map + first + places + i, d.y);
    }
    sums.leave(partial + 4 * ((long long)n * gridDim.x + blockIdx.x));
}
MAP_KERNEL(unet_output_backward, (UNET_IO_THREADS), UNET_OUTPUT_BACKWARD,
           (map, moments, d_image, d_map, partial, frame))

// partial: [n, parts, 4], see UnetSums. Blocks: parts of an image, images.
#define UNET_INPUT_SUMS(T) const T* map, const T* d_map, double* partial, UnetFrame frame
template <class T> __device__ __forceinline__ void unet_input_sums_of(UNET_INPUT_SUMS(T)) {
    const int n = blockIdx.y, places = frame.padded_pixels();
    const long long first = 2ll * n * places;
    UnetSums sums = {};
    for (int i = blockIdx.x * UNET_IO_THREADS + threadIdx.x; i < frame.pixels(); i += gridDim.x * UNET_IO_THREADS) {
        const long long re = first + frame.padded(i), im = re + places;
        sums.add(make_float2(real(d_map[re]), real(d_map[im])), real(map[re]), real(map[im]));
    }
    sums.leave(partial + 4 * ((long long)n * gridDim.x + blockIdx.x));
}
MAP_KERNEL(unet_input_sums, (UNET_IO_THREADS), UNET_INPUT_SUMS, (map, d_map, partial, frame))

// A plane's sums over all parts, in every thread.
__device__ __forceinline__ double2 unet_joined_sums(const double* partial, int plane, int parts) {
    double d = 0.0, dy = 0.0;
    for (int part = threadIdx.x; part < parts; part += UNET_IO_JOIN_THREADS) {
        const double* p = partial + 4 * ((long long)(plane / 2) * parts + part) + 2 * (plane % 2);
        d += p[0];
        dy += p[1];
    }
    d = block_sum(d);
    dy = block_sum(dy);
    return make_double2(d, dy);
}

// d_moments: [planes, 2]: image = map·deviation + mean. Blocks: planes.
extern "C" __global__ void __launch_bounds__(UNET_IO_JOIN_THREADS)
unet_output_d_moments(const double* partial, float* d_moments, int parts) {
    await_inputs();
    const int plane = blockIdx.x;
    const double2 sums = unet_joined_sums(partial, plane, parts);
    if (threadIdx.x != 0) return;
    d_moments[2 * plane] = float(sums.x);
    d_moments[2 * plane + 1] = float(sums.y);
}
KERNEL(unet_output_d_moments)

// coefficients: [planes, 3], scale, offset and slope: with y = (x − mean)/deviation the gradient is
// d·scale + offset + slope·y, since y depends on the moments, and they on x. Blocks: planes.
extern "C" __global__ void __launch_bounds__(UNET_IO_JOIN_THREADS)
unet_input_coefficients(const double* partial, const float* moments, const float* d_moments, float* coefficients,
                        int parts, int pixels) {
    await_inputs();
    const int plane = blockIdx.x;
    const double2 sums = unet_joined_sums(partial, plane, parts);
    if (threadIdx.x != 0) return;
    const double deviation = unet_divisor(moments[2 * plane + 1]);
    coefficients[3 * plane] = float(1.0 / deviation);
    coefficients[3 * plane + 1] = float((d_moments[2 * plane] - sums.x / deviation) / pixels);
    coefficients[3 * plane + 2] = float((d_moments[2 * plane + 1] - sums.y / deviation) / max(pixels - 1, 1));
}
KERNEL(unet_input_coefficients)

// d_image: [n, rows, columns] c. Blocks: parts of an image, images.
#define UNET_INPUT_BACKWARD(T)                                                                \
    const T* map, const T* d_map, const float* coefficients, float2* d_image, UnetFrame frame
template <class T> __device__ __forceinline__ void unet_input_backward_of(UNET_INPUT_BACKWARD(T)) {
    const int n = blockIdx.y, places = frame.padded_pixels();
    const long long first = 2ll * n * places;
    const float* of = coefficients + 6 * n;
    float2* to = d_image + (long long)n * frame.pixels();
    for (int i = blockIdx.x * UNET_IO_THREADS + threadIdx.x; i < frame.pixels(); i += gridDim.x * UNET_IO_THREADS) {
        const long long re = first + frame.padded(i), im = re + places;
        to[i] = make_float2(real(d_map[re]) * of[0] + of[1] + of[2] * real(map[re]),
                            real(d_map[im]) * of[3] + of[4] + of[5] * real(map[im]));
    }
}
MAP_KERNEL(unet_input_backward, (UNET_IO_THREADS), UNET_INPUT_BACKWARD, (map, d_map, coefficients, d_image, frame))
