// Coil images of column-weighted k-space: the centred orthonormal inverse transform, columns first.
//
// Shifts are indices when lines are loaded and stored. The first kernel conjugates what it loads and the second what
// it stores, which makes the two forward transforms an inverse one.
#include "fft.cuh"

// kspace, images: [n, coils, rows, columns]; weights: [n, columns]. A block takes 2^log2_count neighbouring columns of
// one image: blocks are groups of columns, images. A column of weight 0 is not read.
extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
ifft_columns(const float2* kspace, const float* weights, float2* images, ImageShape shape,
             const __grid_constant__ FftPlan plan, int log2_count, int stride, float scale) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    const int count = 1 << log2_count;
    Lines lines = {memory, memory + count * stride, count, stride};
    const int image = blockIdx.y, first = blockIdx.x * count, here = min(count, shape.columns - first);
    weights += (long long)(image / shape.coils) * shape.columns + first;
    const long long corner = (long long)image * shape.rows * shape.columns + first;
    const bool used = block_any(int(threadIdx.x) < here && weights[threadIdx.x] != 0.0f);
    if (used) {
        for (int i = threadIdx.x; i < count * shape.rows; i += blockDim.x) {
            const int y = i >> log2_count, x = i & (count - 1);
            float2 value = make_float2(0.0f, 0.0f);
            if (x < here && weights[x] != 0.0f) {
                value = (weights[x] * scale) * conj(kspace[corner + (long long)y * shape.columns + x]);
            }
            lines.at(x, uncentred(y, shape.rows)) = value;
        }
        transform(plan, lines);
    }
    for (int i = threadIdx.x; i < count * shape.rows; i += blockDim.x) {
        const int y = i >> log2_count, x = i & (count - 1);
        if (x >= here) continue;
        const float2 value = used ? lines.at(x, uncentred(y, shape.rows)) : make_float2(0.0f, 0.0f);
        images[corner + (long long)y * shape.columns + x] = value;
    }
}
KERNEL(ifft_columns)

// images: [rows, length] with all rows of all images, in place. A block takes `count` of them.
extern "C" __global__ void __launch_bounds__(FFT_THREADS, FFT_BLOCKS)
ifft_rows(float2* images, const __grid_constant__ FftPlan plan, int count, int rows) {
    await_inputs();
    DYNAMIC_SHARED(float2, memory);
    const int first = blockIdx.x * count, length = plan.length;
    Lines lines = {memory, memory + count * length, min(count, rows - first), length};
    images += (long long)first * length;
    for (int i = threadIdx.x; i < lines.count * length; i += blockDim.x) {
        const int line = quotient(i, plan.by_length);
        lines.at(line, uncentred(i - line * length, length)) = images[i];
    }
    transform(plan, lines);
    for (int i = threadIdx.x; i < lines.count * length; i += blockDim.x) {
        const int line = quotient(i, plan.by_length);
        images[i] = conj(lines.at(line, uncentred(i - line * length, length)));
    }
}
KERNEL(ifft_rows)
