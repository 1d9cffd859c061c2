// What every kernel stands on: the words that differ between nvcc and the emulated device, and sums of a block.
#pragma once
#ifdef __CUDACC__
#define KERNEL(k)
#define DESCRIBE(...)
#define SCALAR(T)
// `SHARED(float, tile, [4][8])`: an array that the threads of a block share.
#define SHARED(type, name, dimensions) __shared__ type name dimensions
// The array whose bytes the launch gives; one name a kernel.
#define DYNAMIC_SHARED(type, name)                               \
    extern __shared__ __align__(128) unsigned char dynamic_shared[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared)
#else
#include "emulation/shim.h"
#endif

// What every kernel does first. On GPUs from 9.0 on the blocks of a launch may take their places while the launch before
// is at work (programmatic dependent launch, src/cuda/driver/cudarc/overlap.rs), and wait here until it has ended and
// all that it wrote can be seen: as it waited itself, all launches before have ended too. From here on the launch after
// this one may have its blocks take their places. The emulated device refuses a kernel without it.
#ifdef __CUDACC__
__device__ __forceinline__ void await_inputs() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#ifndef KERASE_NO_TRIGGER
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
#endif
}
#else
inline void await_inputs() { emulation::self->awaited = true; }
#endif

// The same value, of which the compiler does not know that: what follows from it is worked out where it is used, not
// ahead of a loop, where it would take registers all the while.
#ifdef __CUDACC__
__device__ __forceinline__ int afresh(int value) {
    asm volatile("" : "+r"(value));
    return value;
}
// Of a place in memory: what is added to it later is not added to an offset before it, in 64 bits, once for each.
template <class T> __device__ __forceinline__ T* afresh(T* at) {
    asm volatile("" : "+l"(at));
    __builtin_assume(__isGlobal(at));
    return at;
}
// An integer of which not even the assembler knows that it is `value`: blocks have one row of threads.
__device__ __forceinline__ int unknown(int value) { return value * blockDim.y; }
#else
template <class T> inline T* afresh(T* at) { return at; }
inline int afresh(int value) { return value; }
inline int unknown(int value) { return value; }
#endif

// Every kernel is launched with a multiple of 32 threads in one dimension.
constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// A batch of feature maps `[n, channels, height, width]`.
struct MapShape {
    int n, channels, height, width;
};
DESCRIBE(MapShape, n, channels, height, width)

// Complex images `[n, coils, rows, columns]`.
struct ImageShape {
    int n, coils, rows, columns;
};
DESCRIBE(ImageShape, n, coils, rows, columns)

__device__ __forceinline__ float2 operator+(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ __forceinline__ float2 operator-(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
__device__ __forceinline__ float2 operator*(float2 a, float2 b) {
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}
__device__ __forceinline__ float2 operator*(float s, float2 a) { return make_float2(s * a.x, s * a.y); }
__device__ __forceinline__ float2 conj(float2 a) { return make_float2(a.x, -a.y); }

// Which of `count` pieces of work a block is for, where each begins with its first block.
__device__ __forceinline__ int last_begun(const int* first_block, int count, int block) {
    int last = 0, behind = count;
    while (behind - last > 1) {
        const int middle = (last + behind) / 2;
        (block >= first_block[middle] ? last : behind) = middle;
    }
    return last;
}

// The sum over a warp, in every lane, by the same tree each time.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(ALL_LANES, value, lanes);
    return value;
}

// The sum over a block of at most 1024 threads, in every thread. All threads of the block must call it.
template <class T> __device__ __forceinline__ T block_sum(T value) {
    SHARED(T, of_warp, [WARP]);
    value = warp_sum(value);
    __syncthreads();  // a sum before this one may still be read
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
    __syncthreads();
    const unsigned lane = threadIdx.x % WARP;
    return warp_sum(lane < blockDim.x / WARP ? of_warp[lane] : T());
}

// Whether any thread of the block says so, in every thread. All threads of the block must call it.
__device__ __forceinline__ bool block_any(bool mine) { return block_sum(mine ? 1 : 0) != 0; }
