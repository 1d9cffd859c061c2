// Fourier transforms of a few points in registers, with constants that the compiler works out.
#pragma once
#include "common.cuh"

__device__ __forceinline__ float2 times_minus_i(float2 a) { return make_float2(a.y, -a.x); }

// exp(−2πi·k/R) for all k below R. Only for constant expressions: with constant indices nothing of it is left in memory.
template <int R> struct Roots {
    float x[R], y[R];

    // The sum of the series of cos (odd = 0) or sin (odd = 1).
    static __host__ __device__ constexpr double series(double angle, int odd) {
        double term = odd ? angle : 1.0, sum = term;
        for (int i = odd + 1; i < 40; i += 2) {
            term *= -angle * angle / (i * (i + 1));
            sum += term;
        }
        return sum;
    }
    __host__ __device__ constexpr Roots() : x(), y() {
        for (int k = 0; k < R; ++k) {
            const double turn = 2.0 * k > R ? double(k) / R - 1.0 : double(k) / R;
            x[k] = float(series(6.283185307179586 * turn, 0));
            y[k] = -float(series(6.283185307179586 * turn, 1));
        }
    }
};

// v·exp(−2πi·k/R).
template <int R> __device__ __forceinline__ float2 turned(float2 v, int k) {
    constexpr Roots<R> roots;
    if (k == 0) return v;
    if (4 * k == R) return times_minus_i(v);
    return v * make_float2(roots.x[k], roots.y[k]);
}

// The first factor of R that a transform is split by, or R itself: 4 of 16, else the smallest prime.
__host__ __device__ constexpr int split(int radix) {
    if (radix == 16) return 4;
    for (int factor = 2; factor < radix; ++factor) {
        if (radix % factor == 0) return factor;
    }
    return radix;
}

// v becomes its transform.
template <int R> __device__ __forceinline__ void dft(float2 (&v)[R]) {
    constexpr int A = split(R), B = R / A, HALF = (R - 1) / 2;
    if constexpr (R == 2) {
        const float2 first = v[0];
        v[0] = first + v[1];
        v[1] = first - v[1];
    } else if constexpr (B > 1) {
        // Element b + B·a goes to column b; row k of the transformed columns becomes elements k + A·(0 … B − 1).
        float2 of[A][B];
#pragma unroll
        for (int b = 0; b < B; ++b) {
            float2 column[A];
#pragma unroll
            for (int a = 0; a < A; ++a) column[a] = v[b + B * a];
            dft(column);
#pragma unroll
            for (int a = 0; a < A; ++a) of[a][b] = turned<R>(column[a], a * b);
        }
#pragma unroll
        for (int a = 0; a < A; ++a) {
            dft(of[a]);
#pragma unroll
            for (int b = 0; b < B; ++b) v[a + A * b] = of[a][b];
        }
    } else {
        // Elements k and R − k share their sums.
        constexpr Roots<R> roots;
        float2 sum[HALF], difference[HALF], total = v[0];
#pragma unroll
        for (int j = 1; j <= HALF; ++j) {
            sum[j - 1] = v[j] + v[R - j];
            difference[j - 1] = v[j] - v[R - j];
            total = total + sum[j - 1];
        }
#pragma unroll
        for (int k = 1; k <= HALF; ++k) {
            float2 even = v[0], odd = make_float2(0.0f, 0.0f);
#pragma unroll
            for (int j = 1; j <= HALF; ++j) {
                even = even + roots.x[j * k % R] * sum[j - 1];
                odd = odd - roots.y[j * k % R] * difference[j - 1];
            }
            v[k] = even + times_minus_i(odd);
            v[R - k] = even - times_minus_i(odd);
        }
        v[0] = total;
    }
}

// The real (part = 0) or the imaginary part (1) of the transform of an odd number of points, element by element to
// `leave`. It needs half of what goes into the whole. `point(r, part)` is a part of a point.
template <int R, class Point, class Leave>
__device__ __forceinline__ void dft_part(int part, Point point, Leave leave) {
    constexpr Roots<R> roots;
    constexpr int HALF = (R - 1) / 2;
    // The imaginary part of a transform is the real part of that of −i times the points.
    const float sign = part ? -1.0f : 1.0f, first = point(0, part);
    float sum[HALF], difference[HALF], total = first;
#pragma unroll
    for (int j = 1; j <= HALF; ++j) {
        sum[j - 1] = point(j, part) + point(R - j, part);
        difference[j - 1] = point(j, 1 - part) - point(R - j, 1 - part);
        total += sum[j - 1];
    }
    leave(0, total);
#pragma unroll
    for (int k = 1; k <= HALF; ++k) {
        float even = first, odd = 0.0f;
#pragma unroll
        for (int j = 1; j <= HALF; ++j) {
            even += roots.x[j * k % R] * sum[j - 1];
            odd -= roots.y[j * k % R] * difference[j - 1];
        }
        leave(k, even + sign * odd);
        leave(R - k, even - sign * odd);
    }
}
