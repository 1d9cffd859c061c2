// Fourier transforms of lines in shared memory: Stockham's, which needs no bit reversal but a second array.
//
// Only the forward transform exists: the inverse is its conjugate on conjugate values. Nothing is scaled.
#pragma once
#include "dft.cuh"

// Of what transforms lines. Blocks have at most 256 threads; two of these leave each thread 96 registers. Left to itself,
// nvcc takes more, or spills some.
constexpr int FFT_THREADS = 320, FFT_BLOCKS = 2;

constexpr int MOST_PASSES = 8;

// A pass of a transform, when the passes before it have made transforms of `done` points: the length is
// radix·done·(what comes after), and `apart` the length over the radix. From `twiddles` on, the table has
// exp(−2πi·r·k/(radix·done)) at [r, k], r below the radix and k below `done`; none where `done` is 1. See `quotient`
// for what `by_` stands for. code: the radix where it has code of its own, which those from 11 on have in the first pass
// alone; else 0.
struct FftPass {
    int code, radix, done, apart;
    unsigned by_done, by_apart;
    int twiddles;
};
DESCRIBE(FftPass, code, radix, done, apart, by_done, by_apart, twiddles)

// table: exp(−2πi·k/length) for all k below the length, then the twiddles of the passes. Kernels take a plan as a grid
// constant, whose passes can be indexed where they lie; of another parameter each thread would make a copy.
struct FftPlan {
    const float2* table;
    int length, passes;
    unsigned by_length;
    FftPass pass[MOST_PASSES];
};
DESCRIBE(FftPlan, table, length, passes, by_length, pass)

// i / d for by_d = ⌈2³¹/d⌉, exact where i·d is below 2³¹.
__device__ __forceinline__ int quotient(int i, unsigned by_d) { return int(__umulhi(2u * unsigned(i), by_d)); }

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

// One pass of radix R. A thread takes R points at a time.
template <int R> __device__ __forceinline__ void pass(const FftPlan& plan, const FftPass& p, const Lines& lines) {
    const float2* const twiddles = plan.table + p.twiddles;
    for (int i = afresh(threadIdx.x); i < lines.count * p.apart; i += blockDim.x) {
        const int line = quotient(i, p.by_apart), j = i - line * p.apart;
        const int block = quotient(j, p.by_done), k = j - block * p.done;
        const float2* const from = lines.from + line * lines.stride + j;
        float2* const to = lines.to + line * lines.stride + block * p.done * R + k;
        float2 v[R];
#pragma unroll
        for (int r = 0; r < R; ++r) v[r] = from[r * p.apart];
        if (p.done > 1) {
#pragma unroll
            for (int r = 1; r < R; ++r) v[r] = v[r] * __ldg(twiddles + r * p.done + k);
        }
        dft(v);
#pragma unroll
        for (int r = 0; r < R; ++r) to[r * p.done] = v[r];
    }
}

// The first pass, of an odd radix that is too large for that: a thread takes the real or the imaginary parts of R points,
// which halves its registers.
template <int R> __device__ __forceinline__ void first_pass(const FftPass& p, const Lines& lines) {
    const int thread = afresh(threadIdx.x), part = thread % 2;
    for (int i = thread / 2; i < lines.count * p.apart; i += blockDim.x / 2) {
        const int line = quotient(i, p.by_apart), j = i - line * p.apart;
        const float* const from = &lines.from[line * lines.stride + j].x;
        float* const to = &lines.to[line * lines.stride + j * R].x + part;
        dft_part<R>(
            part, [&](int r, int of) { return from[2 * r * p.apart + of]; },
            [&](int r, float value) { to[2 * r] = value; });
    }
}

// One pass of any radix. A thread takes one point at a time, the sum of `radix` products: in parts, since a long sum
// in a row loses digits.
__device__ __forceinline__ void pass_by_definition(const FftPlan& plan, const FftPass& p, const Lines& lines) {
    constexpr int PART = 32;
    const int step = p.apart / p.done;
    for (int i = afresh(threadIdx.x); i < lines.count * plan.length; i += blockDim.x) {
        const int line = quotient(i, plan.by_length), at = i - line * plan.length;
        const int block = quotient(at, p.by_done), k = at - block * p.done, r = block % p.radix;
        const float2* from = lines.from + line * lines.stride + block / p.radix * p.done + k;
        // Twiddle and root in one: both are powers of the same.
        const int turn = k * step + r * p.apart;
        float2 sum = make_float2(0.0f, 0.0f);
        for (int first = 0, angle = 0; first < p.radix; first += PART) {
            float2 part = make_float2(0.0f, 0.0f);
            for (int q = first; q < min(first + PART, p.radix); ++q) {
                part = part + from[q * p.apart] * __ldg(plan.table + angle);
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
#pragma unroll 1
    for (int i = 0; i < plan.passes; ++i) {
        const FftPass& p = plan.pass[i];
        switch (p.code) {
#define WHOLE(R) case R: pass<R>(plan, p, lines); break;
#define FIRST(R) case R: first_pass<R>(p, lines); break;
            WHOLE(2) WHOLE(3) WHOLE(4) WHOLE(5) WHOLE(6) WHOLE(7) WHOLE(8) WHOLE(9) WHOLE(10) WHOLE(12) WHOLE(14)
            WHOLE(16) FIRST(11) FIRST(13) FIRST(17) FIRST(19) FIRST(23) FIRST(29) FIRST(31)
#undef WHOLE
#undef FIRST
            default: pass_by_definition(plan, p, lines);
        }
        __syncthreads();
        float2* const written = lines.to;
        lines.to = lines.from;
        lines.from = written;
    }
}
