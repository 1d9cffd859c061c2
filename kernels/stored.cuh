// How the values of feature maps, and of their gradients, are stored: as float, or as bf16 where a kernel's name says so.
// They are floats once they are read; what is computed is rounded once, to nearest, when it is stored, and whatever else
// is made of it (statistics, sums) is made of what readers will see.
#pragma once
#include "common.cuh"

// The upper half of a float: 8 significant bits.
struct bf16 {
    unsigned short bits;
};
SCALAR(bf16)

__device__ __forceinline__ float real(float x) { return x; }
__device__ __forceinline__ float real(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

// Two bf16 in a word, the lower half first.
__device__ __forceinline__ unsigned word_of(float x, float y) {
#ifdef __CUDACC__
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(y), "f"(x));  // the upper half first
    return word;
#else
    return emulation::round_to_bf16(y) << 16 | emulation::round_to_bf16(x);
#endif
}
__device__ __forceinline__ float2 reals_of(unsigned word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}

// x, as a reader will see it once it is stored.
template <class S> __device__ __forceinline__ float rounded(float x);
template <> __device__ __forceinline__ float rounded<float>(float x) { return x; }
template <> __device__ __forceinline__ float rounded<bf16>(float x) { return __uint_as_float(word_of(x, 0.0f) << 16); }

// Stores x, and returns the same.
__device__ __forceinline__ float put(float* at, float x) { return *at = x; }
__device__ __forceinline__ float put(bf16* at, float x) {
    const bf16 rounded = {(unsigned short)word_of(x, 0.0f)};
    *at = rounded;
    return real(rounded);
}

// Two values that follow each other, the first at an even place of the map.
__device__ __forceinline__ float2 two(const float* at) { return *reinterpret_cast<const float2*>(at); }
__device__ __forceinline__ float2 two(const bf16* at) { return reals_of(*reinterpret_cast<const unsigned*>(at)); }
__device__ __forceinline__ float2 put_two(float* at, float2 x) { return *reinterpret_cast<float2*>(at) = x; }
__device__ __forceinline__ float2 put_two(bf16* at, float2 x) {
    const unsigned word = word_of(x.x, x.y);
    *reinterpret_cast<unsigned*>(at) = word;
    return reals_of(word);
}

// One value or two, where a kernel is written for either.
template <class T> __device__ __forceinline__ void get(const T* at, float (&x)[1]) { x[0] = real(*at); }
template <class T> __device__ __forceinline__ void get(const T* at, float (&x)[2]) {
    const float2 values = two(at);
    x[0] = values.x;
    x[1] = values.y;
}
template <class T> __device__ __forceinline__ void put(T* at, float (&x)[1]) { x[0] = put(at, x[0]); }
template <class T> __device__ __forceinline__ void put(T* at, float (&x)[2]) {
    const float2 values = put_two(at, make_float2(x[0], x[1]));
    x[0] = values.x;
    x[1] = values.y;
}

// Whether a thread takes two values at a time: bf16 goes by words where rows or planes of so many are whole words.
template <class T> __device__ __forceinline__ bool by_words(int values) { return sizeof(T) == 2 && values % 2 == 0; }

// `MAP_KERNEL(pool, (256), POOL, (map, n))`: the kernels `pool` and `pool_bf16`, for maps of either kind, of a template
// `pool_of`, with the parameters of a macro `#define POOL(T) const T* map, int n`.
#define MAP_KERNEL(NAME, BOUNDS, PARAMETERS, ARGUMENTS)             \
    MAP_KERNEL_OF(float, NAME, NAME, BOUNDS, PARAMETERS, ARGUMENTS) \
    MAP_KERNEL_OF(bf16, NAME##_bf16, NAME, BOUNDS, PARAMETERS, ARGUMENTS)
#define MAP_KERNEL_OF(STORED, KERNEL_NAME, NAME, BOUNDS, PARAMETERS, ARGUMENTS)               \
    extern "C" __global__ void __launch_bounds__ BOUNDS KERNEL_NAME(PARAMETERS(STORED)) {     \
        await_inputs();                                                                       \
        NAME##_of<STORED> ARGUMENTS;                                                          \
    }                                                                                         \
    KERNEL(KERNEL_NAME)
