// What becomes of a tile that was made on tensor cores: the output with its statistics, or the gradient of the inputs
// with its sums.
#pragma once
#include "conv_mma.cuh"

// output: [n, out, height, width]; partial: [n, out, tiles, 3] where it is given.
template <class S, class G, int NT> struct MmaStoreOutput {
    S* output;
    float* partial;
    ConvShape shape;

    struct Prepared {};
    __device__ __forceinline__ void prepare(Prepared&) const {}

    // Stores a warp's square, WHOLE or not, and leaves mean and squared deviations of each channel.
    template <bool WHOLE>
    __device__ __forceinline__ void store(Square<G> square, float (&made)[NT][2][Square<G>::ROWS],
                                          float2* of_warp) const {
        constexpr int ROWS = Square<G>::ROWS;
        const int lane = threadIdx.x % WARP, first = blockIdx.y * NT * 8;
        const float share = 1.0f / max(square.rows * square.columns, 1);
        const int plane = shape.height * shape.width;
        S* const of_lane = output + (long long)(blockIdx.z * shape.out + first + lane % 4 * 2) * plane + square.place(shape);
#pragma unroll
        for (int j = 0; j < NT; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float(&rows)[ROWS] = made[j][e];
                const int of_group = j * 8 + lane % 4 * 2 + e, channel = first + of_group;
                if (channel < shape.out) {
                    S* to = of_lane + (j * 8 + e) * (long long)plane;
#pragma unroll
                    for (int y = 0; y < ROWS; ++y)
                        if (square.template has<WHOLE>(y)) rows[y] = put(to + y * shape.width, rows[y]);
                }
                if (!partial) continue;
                float total = 0.0f, squares = 0.0f;
#pragma unroll
                for (int y = 0; y < ROWS; ++y) total += square.template has<WHOLE>(y) ? rows[y] : 0.0f;
                const float mean = column_sum(total) * share;
#pragma unroll
                for (int y = 0; y < ROWS; ++y)
                    squares += square.template has<WHOLE>(y) ? (rows[y] - mean) * (rows[y] - mean) : 0.0f;
                squares = column_sum(squares);
                if (lane < 4) of_warp[of_group] = make_float2(mean, squares);
            }
    }

    __device__ __forceinline__ void operator()(const Prepared&, Square<G> square,
                                               float (&made)[NT][2][Square<G>::ROWS]) const {
        SHARED(float2, of_warp, [MMA_WARPS][NT * 8]);
        SHARED(float, counts, [MMA_WARPS]);
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first = blockIdx.y * NT * 8;
        const int count = square.rows * square.columns;
        square.whole ? store<true>(square, made, of_warp[warp]) : store<false>(square, made, of_warp[warp]);
        if (!partial) return;
        if (lane == 0) counts[warp] = count;
        __syncthreads();
        for (int c = threadIdx.x; c < NT * 8; c += MMA_THREADS) {
            if (first + c >= shape.out) continue;
            float n = 0.0f, mean = 0.0f, squares = 0.0f;
            for (int w = 0; w < MMA_WARPS; ++w) {
                n += counts[w];
                mean += counts[w] * of_warp[w][c].x;
            }
            mean /= n;
            for (int w = 0; w < MMA_WARPS; ++w) {
                const float deviation = of_warp[w][c].x - mean;
                squares += of_warp[w][c].y + counts[w] * (deviation * deviation);
            }
            float* part = partial + 3ll * ((long long)(blockIdx.z * shape.out + first + c) * gridDim.x + blockIdx.x);
            part[0] = n;
            part[1] = mean;
            part[2] = squares;
        }
    }
};

// Of one input: values and d [n, channels, height, width], the latter on the output's grid; partial [n, channels,
// tiles, 2]. With statistics the gradient is finished, and the input has the output's grid too.
template <class S> struct MmaPlace {
    const S* values;
    const float* stats;
    S* d;
    float* partial;
};

// Channels `begin` to `end` of the concatenated inputs.
template <class S, class G, int NT> struct MmaStoreGradients {
    MmaPlace<S> first, second;
    ConvShape shape;
    int begin, end;

    // Where a channel's gradient goes: null where there is no channel. What it is finished with is read beside the sum.
    struct alignas(16) Target {
        const S* values;
        S* d;
        Norm norm;
        float* part;
    };
    struct Prepared {
        Target of_group[NT * 8];
    };

    __device__ __forceinline__ void prepare(Prepared& prepared) const {
        for (int c = threadIdx.x; c < NT * 8; c += MMA_THREADS) {
            const int channel = begin + blockIdx.y * NT * 8 + c;
            const bool in_first = channel < shape.first;
            // One by one: a structure that is chosen as a whole would lie in memory.
            const S* values = in_first ? first.values : second.values;
            const float* stats = in_first ? first.stats : second.stats;
            S* d = in_first ? first.d : second.d;
            float* partial = in_first ? first.partial : second.partial;
            const int plane =
                in_first ? blockIdx.z * shape.first + channel : blockIdx.z * shape.second + channel - shape.first;
            const long long at = (long long)plane * (shape.height * shape.width);
            Target& to = prepared.of_group[c];
            to.d = channel < end ? d + at : nullptr;
            to.values = values + at;
            to.norm = norm_of(channel < end ? stats : nullptr, plane);
            to.part = partial + 2ll * ((long long)plane * gridDim.x + blockIdx.x);
        }
    }

    // Stores a warp's square, WHOLE or not, and leaves the sums of g and of g·x̂ of each channel.
    template <bool WHOLE>
    __device__ __forceinline__ void store(const Prepared& prepared, Square<G> square,
                                          float (&made)[NT][2][Square<G>::ROWS], float2* of_warp) const {
        constexpr int ROWS = Square<G>::ROWS;
        const int lane = threadIdx.x % WARP, at = square.place(shape);
#pragma unroll
        for (int j = 0; j < NT; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int of_group = j * 8 + lane % 4 * 2 + e;
                const Target to = prepared.of_group[of_group];
                float(&rows)[ROWS] = made[j][e], sum_g = 0.0f, sum_gx = 0.0f;
                if (to.d) {
                    const Norm norm = to.norm;
                    const S* from = afresh(to.values) + at;
                    S* d = afresh(to.d) + at;
                    const int width = afresh(shape.width);
                    if (norm.present) {
                        float values[ROWS];
#pragma unroll
                        for (int y = 0; y < ROWS; ++y)
                            values[y] = square.template has<WHOLE>(y) ? real(from[y * width]) : 0.0f;
#pragma unroll
                        for (int y = 0; y < ROWS; ++y) {
                            rows[y] = rounded<S>(norm.finish(rows[y], values[y]));
                            sum_g += square.template has<WHOLE>(y) ? rows[y] : 0.0f;
                            sum_gx += square.template has<WHOLE>(y) ? rows[y] * norm.normalised(values[y]) : 0.0f;
                        }
                    }
#pragma unroll
                    for (int y = 0; y < ROWS; ++y)
                        if (square.template has<WHOLE>(y)) put(d + y * width, rows[y]);
                }
                sum_g = column_sum(sum_g);
                sum_gx = column_sum(sum_gx);
                if (lane < 4) of_warp[of_group] = make_float2(sum_g, sum_gx);
            }
    }

    __device__ __forceinline__ void operator()(const Prepared& prepared, Square<G> square,
                                               float (&made)[NT][2][Square<G>::ROWS]) const {
        SHARED(float2, of_warp, [MMA_WARPS][NT * 8]);
        float2* mine = of_warp[threadIdx.x / WARP];
        square.whole ? store<true>(prepared, square, made, mine) : store<false>(prepared, square, made, mine);
        __syncthreads();
        for (int c = threadIdx.x; c < NT * 8; c += MMA_THREADS) {
            const Target& to = prepared.of_group[c];
            if (!to.norm.present) continue;
            float2 all = make_float2(0.0f, 0.0f);
            for (int w = 0; w < MMA_WARPS; ++w) all = all + of_warp[w][c];
            float* part = afresh(to.part);
            part[0] = all.x;
            part[1] = all.y;
        }
    }
};
