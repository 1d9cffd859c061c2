// Tensor cores and asynchronous copies on the emulated device.
//
// Which element of a matrix a register holds is written down here from the formulas of the PTX ISA ("Matrix fragments
// for mma.m16n8k4 / k8 / k16"), not from the kernels: lanes are
//     group = lane / 4,  member = lane % 4
// and, A being 16 × K, B K × 8, C and D 16 × 8,
//     .tf32  A: row = group (+ 8 for a1, a3), column = member (+ 4 for a2, a3)       k4: a0, a1;  k8: a0 … a3
//            B: row = member (+ 4 for b1), column = group                            k4: b0;      k8: b0, b1
//     .bf16  two elements a register, the lower half first; a_i and b_i count elements
//            A: row = group (+ 8 unless i < 2 or 4 ≤ i < 6), column = 2·member + i % 2 (+ 8 for i ≥ 4)
//            B: row = 2·member + i % 2 (+ 8 for i ≥ 2), column = group               k8: half of these;  k16: all
//     C, D:     row = group (+ 8 for c2, c3), column = 2·member + i % 2
//
// Products are exact; the sum with the accumulator is rounded towards zero once an instruction, as GPUs were measured
// to do (Fasi, Higham, Mikaitis and Pranesh, 2021; they may cut a little more of the smaller terms).
#pragma once

namespace emulation {

struct Product {
    const unsigned *a, *b;
    float* d;
};

static inline float towards_zero(double x) {
    const float nearest = float(x);
    return std::fabs(double(nearest)) > std::fabs(x) && !std::isinf(x) ? std::nextafterf(nearest, 0.0f) : nearest;
}

// REGISTERS: of A; B has half as many.
template <bool BF16, int REGISTERS> EMULATION_UNWATCHED void multiply(void** records, unsigned lanes) {
    if (lanes != 0xffffffffu) fault("mma by less than a whole warp", "");
    constexpr int PACK = BF16 ? 2 : 1, K = 2 * REGISTERS * PACK;
    double a[16][K], b[K][8];
    const auto element = [](unsigned word, int half) {
        if (!BF16) return __uint_as_float(word & 0xffffe000u);  // the hardware looks no further
        return __uint_as_float(half ? word & 0xffff0000u : word << 16);
    };
    for (int lane = 0; lane < 32; ++lane) {
        const Product& of = *static_cast<Product*>(records[lane]);
        const int group = lane / 4, member = lane % 4;
        for (int i = 0; i < REGISTERS * PACK; ++i) {
            const bool lower = BF16 ? !(i < 2 || (4 <= i && i < 6)) : i % 2 == 1;
            const int column = BF16 ? 2 * member + i % 2 + (i >= 4 ? 8 : 0) : member + (i >= 2 ? 4 : 0);
            a[group + (lower ? 8 : 0)][column] = element(of.a[i / PACK], i % PACK);
        }
        for (int i = 0; i < REGISTERS / 2 * PACK; ++i) {
            const int row = BF16 ? 2 * member + i % 2 + (i >= 2 ? 8 : 0) : member + (i >= 1 ? 4 : 0);
            b[row][group] = element(of.b[i / PACK], i % PACK);
        }
    }
    // Each sum in the order of k; eight of them side by side.
    double sums[16][8];
    const auto element_of_sums = [&](int lane, int i) -> double& {
        return sums[lane / 4 + (i >= 2 ? 8 : 0)][2 * (lane % 4) + i % 2];
    };
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) element_of_sums(lane, i) = static_cast<Product*>(records[lane])->d[i];
    for (int row = 0; row < 16; ++row)
        for (int k = 0; k < K; ++k)
            for (int column = 0; column < 8; ++column) sums[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) static_cast<Product*>(records[lane])->d[i] = towards_zero(element_of_sums(lane, i));
}

template <bool BF16, int REGISTERS>
EMULATION_UNWATCHED void mma(float (&d)[4], const unsigned (&a)[REGISTERS], const unsigned (&b)[REGISTERS / 2],
                             const char* site) {
    Product product{a, b, d};
    meet_warp(0xffffffffu, &product, &multiply<BF16, REGISTERS>, false, site);
}

// cvt.rn.bf16.f32: to nearest, ties to even.
static inline unsigned round_to_bf16(float x) {
    const unsigned bits = __float_as_uint(x);
    if (std::isnan(x)) return 0x7fffu;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

// A thread's copies to shared memory. They happen when they are waited for, no sooner: what a kernel reads without
// having waited is NaN, or what was there before.
struct Copies {
    struct Copy {
        void* to;
        const void* from;
    };
    struct Group {
        std::vector<Copy> copies;
    };
    std::vector<Copy> open;
    std::vector<Group> groups;
};
Copies& copies();

static inline void copy_16(void* to, const void* from) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16)
        fault("an asynchronous copy of 16 bytes that are not aligned", "");
    copies().open.push_back({to, from});
}

static inline void copies_commit() {
    copies().groups.push_back({std::move(copies().open)});
    copies().open.clear();
}

// Until at most `left` groups are under way.
static inline void copies_wait(size_t left) {
    auto& groups = copies().groups;
    while (groups.size() > left) {
        // By words, in code that sanitizers see: memcpy would be theirs.
        for (const Copies::Copy& copy : groups.front().copies)
            for (int i = 0; i < 4; ++i) static_cast<float*>(copy.to)[i] = static_cast<const float*>(copy.from)[i];
        groups.erase(groups.begin());
    }
}

}  // namespace emulation
