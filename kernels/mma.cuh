// Products on tensor cores: formats of their operands, and copies that run beside them.
//
// A format is a word's worth of numbers: one TF32, made of float, or two bf16 that follow each other along the dimension
// that is summed over (K), of maps that are stored as bf16. So a kernel is written once, with K in words: a product takes 8
// of them, half a one takes 4. With group = lane / 4 and member = lane % 4, a lane holds (emulation/mma.h has the ISA's
// formulas, by element)
//     A, 16 × 8 words:  a0 (group, member)  a1 (group + 8, member)  a2 (group, member + 4)  a3 (group + 8, member + 4)
//     B, 8 words × 8:   b0 (member, group)  b1 (member + 4, group)
//     D, 16 × 8:        d0 (group, 2·member)  d1 (group, 2·member + 1)  d2, d3 the same of row group + 8
// and a half product has a0, a1 and b0 alone.
#pragma once
#include "stored.cuh"

struct Tf32 {
    static constexpr int PACK = 1;
    using Stored = float;

    // To nearest, as cvt.rna.tf32 would: the hardware cuts off the lower 13 bits, which by itself would be an error twice as
    // large and always towards zero. Half of the last bit that it keeps is added, and the cut left to it: the PTX ISA says
    // nothing of these bits, but CUTLASS (round_half_ulp_truncate) stands on it too. A NaN would become a small number:
    // hence the test.
    static __device__ __forceinline__ unsigned word(const float (&x)[1]) {
        return __float_as_uint(x[0]) + (isfinite(x[0]) ? 0x1000u : 0u);
    }

    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDACC__
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
        emulation::mma<false, 4>(d, a, b, EMULATION_HERE);
#endif
    }

    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
#ifdef __CUDACC__
        asm("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#else
        emulation::mma<false, 2>(d, a, b, EMULATION_HERE);
#endif
    }
};

struct Bf16 {
    static constexpr int PACK = 2;
    using Stored = bf16;

    static __device__ __forceinline__ unsigned word(const float (&x)[2]) { return word_of(x[0], x[1]); }

    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDACC__
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
        emulation::mma<true, 4>(d, a, b, EMULATION_HERE);
#endif
    }

    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
#ifdef __CUDACC__
        asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#else
        emulation::mma<true, 2>(d, a, b, EMULATION_HERE);
#endif
    }
};

// Copies 16 bytes to shared memory; both addresses are multiples of 16. Whoever reads them waits, then meets the others.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from)
                 : "memory");
#else
    emulation::copy_16(to, from);
#endif
}

__device__ __forceinline__ void copies_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulation::copies_commit();
#endif
}

// Waits for all copies that the calling thread has committed.
__device__ __forceinline__ void copies_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group 0;" ::: "memory");
#else
    emulation::copies_wait(0);
#endif
}
