// What a kernel sees when the host's C++ compiler compiles it: CUDA's words, each CUDA thread a fiber.
// common.cuh includes it where nvcc is not at work; nvcc never sees this folder.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) float2 { float x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }

namespace emulation {

// The CUDA thread that runs now.
struct Self {
    uint3 thread, block;
    dim3 threads, blocks;
    unsigned linear, lane, warp;
    bool awaited;  // has waited for the launches before, as common.cuh says
};
extern thread_local Self* self;

void barrier(const char* site);

// Lanes of `mask` meet; the last to arrive runs `work` for all of them, on the records that they brought.
// `fence`: memory written before is visible after, to the lanes of the mask.
using WarpWork = void (*)(void** records, unsigned lanes);
void meet_warp(unsigned mask, void* record, WarpWork work, bool fence, const char* site);

[[noreturn]] void fault(const char* what, const char* site);

// Shared memory of the block that runs now: `bytes` for the declaration at `site`, the same for all its threads,
// filled with NaN when the block began.
void* shared(const void* site, size_t bytes);
void* dynamic_shared();

// ---- kernels and their signatures ----------------------------------------------------------------------------

template <class T> struct Name;
template <> struct Name<float> { static std::string get() { return "f32"; } };
template <> struct Name<double> { static std::string get() { return "f64"; } };
template <> struct Name<int> { static std::string get() { return "i32"; } };
template <> struct Name<unsigned> { static std::string get() { return "u32"; } };
template <> struct Name<unsigned long long> { static std::string get() { return "u64"; } };
template <> struct Name<float2> { static std::string get() { return "c32"; } };
template <class T> struct Name<const T> { static std::string get() { return "const " + Name<T>::get(); } };
template <class T> struct Name<T*> { static std::string get() { return Name<T>::get() + "*"; } };
template <class T, size_t N> struct Name<T[N]> {
    static std::string get() { return "[" + Name<T>::get() + ";" + std::to_string(N) + "]"; }
};

struct Kernel {
    const char* name;
    const char* source;  // the file that the compiler was given, not a header
    void (*call)(void** arguments);
    std::string (*signature)();
    size_t (*argument_bytes)(size_t argument);
    Kernel* next;
    unsigned most_threads;  // of a block
};
void enter(Kernel*);

template <auto K> struct Entry;
template <class... P, void (*K)(P...)> struct Entry<K> {
    template <size_t... I> static void unpack(void** arguments, std::index_sequence<I...>) {
        K(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
    }
    static void call(void** arguments) { unpack(arguments, std::index_sequence_for<P...>{}); }
    static std::string signature() {
        std::string all;
        ((all += (all.empty() ? "" : ", ") + Name<std::remove_const_t<P>>::get()), ...);
        return all;
    }
    static size_t argument_bytes(size_t argument) {
        constexpr size_t BYTES[] = {sizeof(P)...};
        return argument < sizeof...(P) ? BYTES[argument] : 0;
    }
};

}  // namespace emulation

#define threadIdx (::emulation::self->thread)
#define blockIdx (::emulation::self->block)
#define blockDim (::emulation::self->threads)
#define gridDim (::emulation::self->blocks)

#define EMULATION_TEXT(x) #x
#define EMULATION_SITE(file, line) file ":" EMULATION_TEXT(line)
#define EMULATION_HERE EMULATION_SITE(__FILE__, __LINE__)

#define __syncthreads() ::emulation::barrier(EMULATION_HERE)
#define __syncwarp() ::emulation::meet_warp(0xffffffffu, nullptr, nullptr, true, EMULATION_HERE)

// `void __launch_bounds__(THREADS, …) name(…)` ends the declaration that it stands in, says what the bound is under a
// number of its own, and begins anew; KERNEL(name), the next to take a number, looks it up. So a bound counts wherever
// the kernel's name comes from, and a kernel without one is not compiled: "incomplete type … Bound<…>".
namespace emulation {
namespace {
template <int NUMBER> struct Bound;
}
}  // namespace emulation
extern "C" void emulation_bound();
template <class... Blocks> constexpr unsigned emulation_most_threads(unsigned threads, Blocks...) { return threads; }
#define __launch_bounds__(...)                                                                      \
    emulation_bound();                                                                              \
    namespace emulation {                                                                           \
    namespace {                                                                                     \
    template <> struct Bound<__COUNTER__> {                                                         \
        static constexpr unsigned THREADS = emulation_most_threads(__VA_ARGS__);                    \
    };                                                                                              \
    }                                                                                               \
    }                                                                                               \
    extern "C" void

#define KERNEL(k)                                                                                   \
    namespace {                                                                                     \
    ::emulation::Kernel kernel_##k{#k, __BASE_FILE__, &::emulation::Entry<&k>::call,                               \
                                   &::emulation::Entry<&k>::signature,                              \
                                   &::emulation::Entry<&k>::argument_bytes, nullptr,                \
                                   ::emulation::Bound<__COUNTER__ - 1>::THREADS};                                \
    const struct Enter_##k {                                                                        \
        Enter_##k() { ::emulation::enter(&kernel_##k); }                                            \
    } enter_##k;                                                                                    \
    }

#define EMULATION_FIELD(S, f) text += std::string(#f ":") + Name<decltype(S::f)>::get() + " ";
#define EMULATION_F1(S, a) EMULATION_FIELD(S, a)
#define EMULATION_F2(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F1(S, __VA_ARGS__)
#define EMULATION_F3(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F2(S, __VA_ARGS__)
#define EMULATION_F4(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F3(S, __VA_ARGS__)
#define EMULATION_F5(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F4(S, __VA_ARGS__)
#define EMULATION_F6(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F5(S, __VA_ARGS__)
#define EMULATION_F7(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F6(S, __VA_ARGS__)
#define EMULATION_F8(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F7(S, __VA_ARGS__)
#define EMULATION_F9(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F8(S, __VA_ARGS__)
#define EMULATION_F10(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F9(S, __VA_ARGS__)
#define EMULATION_F11(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F10(S, __VA_ARGS__)
#define EMULATION_F12(S, a, ...) EMULATION_FIELD(S, a) EMULATION_F11(S, __VA_ARGS__)
#define EMULATION_PICK(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, F, ...) F
#define DESCRIBE(S, ...)                                                                            \
    template <> struct emulation::Name<S> {                                                         \
        static std::string get() {                                                                  \
            std::string text = #S "{ ";                                                             \
            EMULATION_PICK(__VA_ARGS__, EMULATION_F12, EMULATION_F11, EMULATION_F10, EMULATION_F9,  \
                           EMULATION_F8, EMULATION_F7, EMULATION_F6, EMULATION_F5, EMULATION_F4,    \
                           EMULATION_F3, EMULATION_F2, EMULATION_F1)                                \
            (S, __VA_ARGS__) return text + "}" + std::to_string(sizeof(S));                         \
        }                                                                                           \
    };

#define SCALAR(T)                                                                                   \
    template <> struct emulation::Name<T> {                                                         \
        static std::string get() { return #T; }                                                     \
    };

#define SHARED(type, name, dimensions)                                                              \
    static const char name##_site = 0;                                                              \
    using name##_type = type dimensions;                                                            \
    auto& name = *static_cast<name##_type*>(::emulation::shared(&name##_site, sizeof(name##_type)))
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(::emulation::dynamic_shared())

// ---- warp operations -----------------------------------------------------------------------------------------

namespace emulation {
template <class T> struct Shuffle {
    T value;
    int source;
};
// A shuffle orders its own exchange and nothing else: ThreadSanitizer, told of no order, must not look at it.
#define EMULATION_UNWATCHED __attribute__((noinline, no_sanitize("thread")))
template <class T> EMULATION_UNWATCHED void shuffle_work(void** records, unsigned lanes) {
    T out[32];
    for (int l = 0; l < 32; ++l)
        if (lanes >> l & 1) {
            int source = static_cast<Shuffle<T>*>(records[l])->source & 31;
            if (!(lanes >> source & 1)) fault("a shuffle reads a lane that is not in its mask", "");
            out[l] = static_cast<Shuffle<T>*>(records[source])->value;
        }
    for (int l = 0; l < 32; ++l)
        if (lanes >> l & 1) static_cast<Shuffle<T>*>(records[l])->value = out[l];
}
template <class T> EMULATION_UNWATCHED T shuffle(unsigned mask, T value, int source, const char* site) {
    Shuffle<T> record{value, source};
    meet_warp(mask, &record, &shuffle_work<T>, false, site);
    return record.value;
}
}  // namespace emulation
#define __shfl_xor_sync(mask, value, lanes)                                                         \
    ::emulation::shuffle(mask, value, int(::emulation::self->lane ^ (lanes)), EMULATION_HERE)
#define __shfl_sync(mask, value, lane) ::emulation::shuffle(mask, value, int(lane), EMULATION_HERE)

// ---- scalars -------------------------------------------------------------------------------------------------

using std::isfinite;
template <class T> static inline T __ldg(const T* p) { return *p; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
static inline unsigned __float_as_uint(float f) { unsigned u; std::memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(unsigned u) { float f; std::memcpy(&f, &u, 4); return f; }
// Of the eight bytes of x and y, those that the selector's four digits name, the lowest first.
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const uint64_t bytes = uint64_t(y) << 32 | x;
    unsigned made = 0;
    for (int i = 0; i < 4; ++i) made |= unsigned(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return made;
}
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

// ---- tensor cores --------------------------------------------------------------------------------------------

#include "mma.h"
