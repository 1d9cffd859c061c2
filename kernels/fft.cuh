// Fourier transforms of lines in shared memory: Stockham's, which needs no bit reversal but a second array.
//
// The radices 2, 3, 4, 5, 7 and 8 have code of their own; any other prime is transformed by its definition, with the
// twiddles as its roots. Only the forward transform exists: the inverse is its conjugate on conjugate values. Nothing
// is scaled.
#pragma once
#include "common.cuh"

constexpr int MOST_PASSES = 8;

// The length is the product of the radices; twiddles: [length], exp(−2πi·k/length). Kernels take it as a grid constant,
// whose radices can be indexed where they lie; of another parameter each thread would make a copy.
struct FftPlan {
    const float2* twiddles;
    int length, passes, radices[MOST_PASSES];
};
DESCRIBE(FftPlan, twiddles, length, passes, radices)

// `count` lines in shared memory, `stride` apart: they lie in `from`, and the next pass puts them into `to`.
struct Lines {
    float2 *from, *to;
    int count, stride;

    __device__ __forceinline__ float2& at(int line, int i) const { return from[line * stride + i]; }
};

// Where ifftshift puts the element at `i`; fftshift brings it back.
__device__ __forceinline__ int uncentred(int i, int length) {
    i += (length + 1) / 2;
    return i < length ? i : i - length;
}

// Where fftshift puts the element at `i`.
__device__ __forceinline__ int centred(int i, int length) {
    i += length / 2;
    return i < length ? i : i - length;
}

__device__ __forceinline__ float2 times_minus_i(float2 a) { return make_float2(a.y, -a.x); }

// cos and sin of 2π·i/R, i from 1 to R − 1.
template <int R> __device__ __forceinline__ float2 root(int i) {
    static_assert(R == 3 || R == 5 || R == 7, "the odd radices with code of their own");
    const bool lower = 2 * i > R;
    if (lower) i = R - i;
    float2 upper;
    if (R == 3) upper = make_float2(-0.5f, 0.866025403784f);
    if (R == 5) upper = i == 1 ? make_float2(0.309016994375f, 0.951056516295f)
                               : make_float2(-0.809016994375f, 0.587785252292f);
    if (R == 7) upper = i == 1   ? make_float2(0.623489801859f, 0.781831482468f)
                        : i == 2 ? make_float2(-0.222520933956f, 0.974927912182f)
                                 : make_float2(-0.900968867902f, 0.433883739118f);
    return lower ? conj(upper) : upper;
}

// The transform of an odd number of points: elements k and R − k share their sums.
template <int R> __device__ __forceinline__ void dft(float2 (&v)[R]) {
    constexpr int HALF = (R - 1) / 2;
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
            const float2 w = root<R>(j * k % R);
            even = even + w.x * sum[j - 1];
            odd = odd + w.y * difference[j - 1];
        }
        v[k] = even + times_minus_i(odd);
        v[R - k] = even - times_minus_i(odd);
    }
    v[0] = total;
}

__device__ __forceinline__ void dft(float2 (&v)[2]) {
    const float2 first = v[0];
    v[0] = first + v[1];
    v[1] = first - v[1];
}

__device__ __forceinline__ void dft(float2 (&v)[4]) {
    float2 even[2] = {v[0], v[2]}, odd[2] = {v[1], v[3]};
    dft(even);
    dft(odd);
    odd[1] = times_minus_i(odd[1]);
    v[0] = even[0] + odd[0];
    v[1] = even[1] + odd[1];
    v[2] = even[0] - odd[0];
    v[3] = even[1] - odd[1];
}

__device__ __forceinline__ void dft(float2 (&v)[8]) {
    constexpr float HALF_ROOT = 0.707106781187f;
    float2 even[4] = {v[0], v[2], v[4], v[6]}, odd[4] = {v[1], v[3], v[5], v[7]};
    dft(even);
    dft(odd);
    odd[1] = HALF_ROOT * make_float2(odd[1].x + odd[1].y, odd[1].y - odd[1].x);
    odd[2] = times_minus_i(odd[2]);
    odd[3] = HALF_ROOT * make_float2(odd[3].y - odd[3].x, -odd[3].x - odd[3].y);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        v[k] = even[k] + odd[k];
        v[k + 4] = even[k] - odd[k];
    }
}

// One pass of radix R, when the radices before it multiply to `done`. A thread takes R points at a time.
template <int R> __device__ __forceinline__ void pass(const FftPlan& plan, const Lines& lines, int done) {
    const int apart = plan.length / R, step = apart / done;
    for (int i = threadIdx.x; i < lines.count * apart; i += blockDim.x) {
        const int line = i / apart, j = i - line * apart, k = j % done;
        const float2* from = lines.from + line * lines.stride + j;
        float2* to = lines.to + line * lines.stride + (j - k) * R + k;
        float2 v[R];
#pragma unroll
        for (int r = 0; r < R; ++r) v[r] = from[r * apart];
        if (done > 1) {
#pragma unroll
            for (int r = 1; r < R; ++r) v[r] = v[r] * __ldg(plan.twiddles + r * k * step);
        }
        dft(v);
#pragma unroll
        for (int r = 0; r < R; ++r) to[r * done] = v[r];
    }
}

// One pass of any radix. A thread takes one point at a time, the sum of `radix` products: in parts, since a long sum
// in a row loses digits.
__device__ __forceinline__ void pass_by_definition(const FftPlan& plan, const Lines& lines, int radix, int done) {
    constexpr int PART = 32;
    const int apart = plan.length / radix, step = apart / done;
    for (int i = threadIdx.x; i < lines.count * plan.length; i += blockDim.x) {
        const int line = i / plan.length, at = i - line * plan.length;
        const int block = at / done, k = at - block * done, r = block % radix;
        const float2* from = lines.from + line * lines.stride + block / radix * done + k;
        // Twiddle and root in one: both are powers of the same.
        const int turn = k * step + r * apart;
        float2 sum = make_float2(0.0f, 0.0f);
        for (int first = 0, angle = 0; first < radix; first += PART) {
            float2 part = make_float2(0.0f, 0.0f);
            for (int q = first; q < min(first + PART, radix); ++q) {
                part = part + from[q * apart] * __ldg(plan.twiddles + angle);
                angle += turn;
                if (angle >= plan.length) angle -= plan.length;
            }
            sum = sum + part;
        }
        lines.to[line * lines.stride + at] = sum;
    }
}

// Transforms all lines. All threads of the block call it; what they wrote before it is seen, and so is what it wrote.
__device__ __forceinline__ void transform(const FftPlan& plan, Lines& lines) {
    __syncthreads();
    int done = 1;
#pragma unroll 1
    for (int i = 0; i < plan.passes; ++i) {
        const int radix = plan.radices[i];
        switch (radix) {
            case 2: pass<2>(plan, lines, done); break;
            case 3: pass<3>(plan, lines, done); break;
            case 4: pass<4>(plan, lines, done); break;
            case 5: pass<5>(plan, lines, done); break;
            case 7: pass<7>(plan, lines, done); break;
            case 8: pass<8>(plan, lines, done); break;
            default: pass_by_definition(plan, lines, radix, done);
        }
        __syncthreads();
        float2* const written = lines.to;
        lines.to = lines.from;
        lines.from = written;
        done *= radix;
    }
}
