// What the 3×3 convolutions read: planes of its inputs, and of the gradient of its output.
#pragma once
#include "norm.cuh"

// Channels of both inputs (0 where there is one) and of the output; height and width of the output, and of each input,
// which may be one less.
struct ConvShape {
    int first, second, out, height, width, first_height, first_width, second_height, second_width;

    __device__ __forceinline__ int inputs() const { return first + second; }
};
DESCRIBE(ConvShape, first, second, out, height, width, first_height, first_width, second_height, second_width)

// Both inputs of a convolution, one image of the batch, as one map of `first + second` channels.
struct Inputs {
    const float *first, *first_stats, *second, *second_stats;
    ConvShape shape;

    struct Plane {
        const float* values;
        Norm norm;
        int height, width;

        // A row or column that is missing is the last but one: the edge itself is not repeated.
        __device__ __forceinline__ float operator()(int y, int x) const {
            y = y < height ? y : 2 * (height - 1) - y;
            x = x < width ? x : 2 * (width - 1) - x;
            return norm.activate(values[y * width + x]);
        }
    };

    __device__ __forceinline__ Plane plane(int image, int channel) const {
        const bool in_first = channel < shape.first;
        const int height = in_first ? shape.first_height : shape.second_height;
        const int width = in_first ? shape.first_width : shape.second_width;
        const int plane = in_first ? image * shape.first + channel : image * shape.second + channel - shape.first;
        const float* values = (in_first ? first : second) + (long long)plane * height * width;
        return {values, norm_of(in_first ? first_stats : second_stats, plane), height, width};
    }
};

// The gradient of a convolution's raw output, from the stored one.
struct OutputGradient {
    const float *d_output, *output, *stats, *sums;
    ConvShape shape;

    struct Plane {
        const float *d_output, *output;
        Undo undo;
        int width;

        __device__ __forceinline__ float operator()(int y, int x) const {
            return undo(d_output[y * width + x], output[y * width + x]);
        }
    };

    __device__ __forceinline__ Plane plane(int image, int channel) const {
        const int plane = image * shape.out + channel;
        const long long at = (long long)plane * shape.height * shape.width;
        return {d_output + at, output + at, undo_of(stats, sums, plane), shape.width};
    }
};

// Images are cut into tiles of TILE × TILE pixels, row by row. A 3×3 filter reads one more all round.
constexpr int TILE = 16, WINDOW = TILE + 2;

struct TileCorner {
    int y, x;
};

__device__ __forceinline__ int tiles_of(ConvShape shape) {
    return (shape.height + TILE - 1) / TILE * ((shape.width + TILE - 1) / TILE);
}

__device__ __forceinline__ TileCorner corner_of(int tile, ConvShape shape) {
    const int across = (shape.width + TILE - 1) / TILE;
    return {tile / across * TILE, tile % across * TILE};
}

// The threads of a block hand each pixel of a square, SIZE wide, to `put(channel - first, position, value)`, for `count`
// channels from `first` on. Outside of the image everything is 0.
template <int SIZE, class Planes, class Put>
__device__ __forceinline__ void each_pixel(const Planes& planes, int image, int first, int count, TileCorner corner,
                                           Put put) {
    for (int position = threadIdx.x; position < SIZE * SIZE; position += blockDim.x) {
        const int y = corner.y + position / SIZE, x = corner.x + position % SIZE;
        const bool inside = y >= 0 && y < planes.shape.height && x >= 0 && x < planes.shape.width;
        // A power of 2: of others nvcc 13.0 forgets the remainder, where `count` is the lesser of two numbers.
#pragma unroll 4
        for (int c = 0; c < count; ++c) put(c, position, inside ? planes.plane(image, first + c)(y, x) : 0.0f);
    }
}
