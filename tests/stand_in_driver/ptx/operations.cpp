// What instructions do with registers. One line of the table at the end is one operation of PTX.
#include "machine.h"

#include <cmath>
#include <cstring>
#include <type_traits>
#include <unordered_map>

#include "../../../kernels/emulation/shim.h"

namespace ptx {
namespace {

// Lanes of less than 8 bytes are stored as 4, above which there are zeros.
template <class T> using Lane = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class T> T get(Lane<T> lane) {
    T value;
    std::memcpy(&value, &lane, sizeof value);
    return value;
}
template <class T> Lane<T> put(T value) {
    Lane<T> lane = 0;
    std::memcpy(&lane, &value, sizeof value);
    return lane;
}
template <class T> Lane<T>* lanes(Warp& warp, uint32_t at) {
    if constexpr (sizeof(T) == 8) return warp.wide(at);
    else return warp.words(at);
}

template <class Do> void each(uint32_t active, Do&& go) {
    if (active == ~0u) {
        for (unsigned l = 0; l < 32; ++l) go(l);
    } else {
        for (unsigned l = 0; l < 32; ++l)
            if (active >> l & 1) go(l);
    }
}

// ---- values --------------------------------------------------------------------------------------------------------

template <class D, class A, class F> void unary(Warp& w, const Instruction& i, uint32_t active) {
    Lane<D>* d = lanes<D>(w, i.operand[0]);
    const Lane<A>* a = lanes<A>(w, i.operand[1]);
    each(active, [&](unsigned l) { d[l] = put<D>(F()(get<A>(a[l]))); });
}
template <class D, class A, class B, class F> void binary(Warp& w, const Instruction& i, uint32_t active) {
    Lane<D>* d = lanes<D>(w, i.operand[0]);
    const Lane<A>* a = lanes<A>(w, i.operand[1]);
    const Lane<B>* b = lanes<B>(w, i.operand[2]);
    each(active, [&](unsigned l) { d[l] = put<D>(F()(get<A>(a[l]), get<B>(b[l]))); });
}
template <class D, class A, class C, class F> void ternary(Warp& w, const Instruction& i, uint32_t active) {
    Lane<D>* d = lanes<D>(w, i.operand[0]);
    const Lane<A>* a = lanes<A>(w, i.operand[1]);
    const Lane<A>* b = lanes<A>(w, i.operand[2]);
    const Lane<C>* c = lanes<C>(w, i.operand[3]);
    each(active, [&](unsigned l) { d[l] = put<D>(F()(get<A>(a[l]), get<A>(b[l]), get<C>(c[l]))); });
}

// Integers wrap, so that they are added and multiplied without signs.
template <class T> using Whole = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
struct Add {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) return a + b;
        else return T(Whole<T>(a) + Whole<T>(b));
    }
};
struct Subtract {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) return a - b;
        else return T(Whole<T>(a) - Whole<T>(b));
    }
};
struct Multiply {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) return a * b;
        else return T(Whole<T>(a) * Whole<T>(b));
    }
};
struct Divide {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_integral_v<T>)
            if (!b) return T(-1);
        return a / b;
    }
};
struct Remainder {
    template <class T> T operator()(T a, T b) const { return b ? a % b : a; }
};
// Of a number and no number: the number.
struct Least {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) return a != a ? b : b != b ? a : b < a ? b : a;
        else return b < a ? b : a;
    }
};
struct Greatest {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) return a != a ? b : b != b ? a : a < b ? b : a;
        else return a < b ? b : a;
    }
};
struct Negative {
    template <class T> T operator()(T a) const {
        if constexpr (std::is_floating_point_v<T>) return -a;
        else return T(0 - Whole<T>(a));
    }
};
struct Absolute {
    template <class T> T operator()(T a) const { return std::fabs(a); }
};
struct Root {
    template <class T> T operator()(T a) const { return std::sqrt(a); }
};
struct Reciprocal {
    template <class T> T operator()(T a) const { return T(1) / a; }
};
// To within 20 bits: the lower half is 0.
struct ReciprocalStart {
    double operator()(double a) const { return get<double>(put(1 / a) & ~uint64_t(0xffffffff)); }
};
struct Fused {
    float operator()(float a, float b, float c) const { return __builtin_fmaf(a, b, c); }
    double operator()(double a, double b, double c) const { return __builtin_fma(a, b, c); }
};
struct Same {
    template <class T> T operator()(T a) const { return a; }
};
struct Not {
    template <class T> T operator()(T a) const { return T(~a); }
};
struct And {
    template <class T> T operator()(T a, T b) const { return T(a & b); }
};
struct Or {
    template <class T> T operator()(T a, T b) const { return T(a | b); }
};
struct Xor {
    template <class T> T operator()(T a, T b) const { return T(a ^ b); }
};
// Further than there are bits leaves zeros, or the sign.
struct Left {
    template <class T> T operator()(T a, uint32_t by) const { return by < 8 * sizeof(T) ? T(a << by) : T(0); }
};
struct Right {
    template <class T> T operator()(T a, uint32_t by) const {
        constexpr uint32_t BITS = 8 * sizeof(T);
        if (std::is_signed_v<T>) return T(a >> (by < BITS ? by : BITS - 1));
        return by < BITS ? T(a >> by) : T(0);
    }
};
struct UpperHalf {
    int32_t operator()(int32_t a, int32_t b) const { return int32_t((int64_t(a) * b) >> 32); }
    uint32_t operator()(uint32_t a, uint32_t b) const { return uint32_t((uint64_t(a) * b) >> 32); }
    uint64_t operator()(uint64_t a, uint64_t b) const { return uint64_t((static_cast<unsigned __int128>(a) * b) >> 64); }
};
template <class D> struct Wide {
    template <class T> D operator()(T a, T b) const { return D(a) * D(b); }
};
struct MultiplyAdd {
    template <class T> T operator()(T a, T b, T c) const { return T(Whole<T>(a) * Whole<T>(b) + Whole<T>(c)); }
};
template <class D> struct Convert {
    template <class T> D operator()(T a) const { return D(a); }
};
// To the nearest integer, ties to even; what does not fit is the nearest that does, and NaN 0.
struct ToNearestInteger {
    int32_t operator()(double a) const {
        if (a != a) return 0;
        const double nearest = std::nearbyint(a);
        return nearest >= 2147483647.0 ? INT32_MAX : nearest <= -2147483648.0 ? INT32_MIN : int32_t(nearest);
    }
};
// `cvt.rn.bf16x2.f32 d, a, b`: a is the upper half.
struct TwoBf16 {
    uint32_t operator()(float a, float b) const { return emulation::round_to_bf16(a) << 16 | emulation::round_to_bf16(b); }
};
struct LeadingZeros {
    uint32_t operator()(uint64_t a) const { return a ? uint32_t(__builtin_clzll(a)) : 64; }
};
struct Permute {
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t selector) const {
        uint32_t made = 0;
        for (int i = 0; i < 4; ++i) {
            const uint32_t choice = selector >> 4 * i & 15;
            uint32_t byte = uint32_t((uint64_t(b) << 32 | a) >> (choice & 7) * 8 & 0xff);
            if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
            made |= byte << 8 * i;
        }
        return made;
    }
};

// `bfi d, a, b, begin, count`: the lower bits of a, put into b.
template <class T> void insert_bits(Warp& w, const Instruction& i, uint32_t active) {
    Lane<T>* d = lanes<T>(w, i.operand[0]);
    const Lane<T>*a = lanes<T>(w, i.operand[1]), *b = lanes<T>(w, i.operand[2]);
    const uint32_t *begin = w.words(i.operand[3]), *count = w.words(i.operand[4]);
    each(active, [&](unsigned l) {
        const uint32_t from = begin[l] & 0xff, bits = count[l] & 0xff;
        if (from >= 8 * sizeof(T) || !bits) {
            d[l] = b[l];
            return;
        }
        const T ones = bits >= 8 * sizeof(T) ? ~T(0) : T((T(1) << bits) - 1);
        d[l] = (b[l] & ~(ones << from)) | (a[l] & ones) << from;
    });
}

// With the carry of what was added before: takes it or not, leaves it or not.
template <bool TAKES, bool LEAVES, class F> void carrying(Warp& w, const Instruction& i, uint32_t active) {
    uint32_t *d = w.words(i.operand[0]), *carry = w.words(CARRY);
    const uint32_t *a = w.words(i.operand[1]), *b = w.words(i.operand[2]), *c = F::THIRD ? w.words(i.operand[3]) : a;
    each(active, [&](unsigned l) {
        const uint64_t sum = F()(a[l], b[l], c[l], TAKES ? carry[l] : 0);
        d[l] = uint32_t(sum);
        if (LEAVES) carry[l] = sum >> 32 & 1;
    });
}
struct CarryingSum {
    static constexpr bool THIRD = false;
    uint64_t operator()(uint64_t a, uint64_t b, uint64_t, uint64_t carry) const { return a + b + carry; }
};
struct BorrowingDifference {
    static constexpr bool THIRD = false;
    uint64_t operator()(uint64_t a, uint64_t b, uint64_t, uint64_t carry) const { return a - b - carry; }
};
template <bool UPPER> struct CarryingProduct {
    static constexpr bool THIRD = true;
    uint64_t operator()(uint64_t a, uint64_t b, uint64_t c, uint64_t carry) const {
        return (UPPER ? a * b >> 32 : a * b & 0xffffffff) + c + carry;
    }
};

void pack(Warp& w, const Instruction& i, uint32_t active) {
    uint64_t* d = w.wide(i.operand[0]);
    const uint32_t *low = w.words(i.operand[1]), *high = w.words(i.operand[2]);
    each(active, [&](unsigned l) { d[l] = uint64_t(high[l]) << 32 | low[l]; });
}
void unpack(Warp& w, const Instruction& i, uint32_t active) {
    const uint64_t* a = w.wide(i.operand[2]);
    uint32_t *low = w.words(i.operand[0]), *high = w.words(i.operand[1]);
    each(active, [&](unsigned l) {
        const uint64_t both = a[l];
        low[l] = uint32_t(both);
        high[l] = uint32_t(both >> 32);
    });
}

// ---- predicates ------------------------------------------------------------------------------------------------------

void set(uint32_t& predicate, uint32_t value, uint32_t active) { predicate = (predicate & ~active) | (value & active); }

struct Equal {
    template <class T> bool operator()(T a, T b) const { return a == b; }
};
// False where there is no number.
struct Differs {
    template <class T> bool operator()(T a, T b) const { return a < b || b < a; }
};
struct Less {
    template <class T> bool operator()(T a, T b) const { return a < b; }
};
struct LessOrEqual {
    template <class T> bool operator()(T a, T b) const { return a <= b; }
};
struct Greater {
    template <class T> bool operator()(T a, T b) const { return a > b; }
};
struct GreaterOrEqual {
    template <class T> bool operator()(T a, T b) const { return a >= b; }
};
// True where there is no number.
template <class F> struct Unordered {
    template <class T> bool operator()(T a, T b) const { return a != a || b != b || F()(a, b); }
};
struct IsNan {
    template <class T> bool operator()(T a, T b) const { return a != a || b != b; }
};

template <class T, class F> void compare(Warp& w, const Instruction& i, uint32_t active) {
    const Lane<T>*a = lanes<T>(w, i.operand[1]), *b = lanes<T>(w, i.operand[2]);
    uint32_t holds = 0;
    for (unsigned l = 0; l < 32; ++l) holds |= uint32_t(F()(get<T>(a[l]), get<T>(b[l]))) << l;
    set(w.predicates[i.operand[0]], holds, active);
}
template <class T> void select(Warp& w, const Instruction& i, uint32_t active) {
    Lane<T>* d = lanes<T>(w, i.operand[0]);
    const Lane<T>*a = lanes<T>(w, i.operand[1]), *b = lanes<T>(w, i.operand[2]);
    const uint32_t holds = w.predicates[i.operand[3]];
    each(active, [&](unsigned l) { d[l] = holds >> l & 1 ? a[l] : b[l]; });
}
template <class F> void of_predicates(Warp& w, const Instruction& i, uint32_t active) {
    set(w.predicates[i.operand[0]], F()(w.predicates[i.operand[1]], w.predicates[i.operand[2]]), active);
}
void not_predicate(Warp& w, const Instruction& i, uint32_t active) {
    set(w.predicates[i.operand[0]], ~w.predicates[i.operand[1]], active);
}
// Of a constant: 0 or -1.
void set_predicate(Warp& w, const Instruction& i, uint32_t active) {
    set(w.predicates[i.operand[0]], w.words(i.operand[1])[0] ? ~0u : 0, active);
}

// ---- the warp together -----------------------------------------------------------------------------------------------

// `shfl.sync.bfly.b32 d|p, a, lanes, clamp, mask` and `idx`, of whole warps. Segments are not known here.
template <bool BUTTERFLY> void shuffle(Warp& w, const Instruction& i, uint32_t active) {
    uint32_t* d = w.words(i.operand[0]);
    const uint32_t *a = w.words(i.operand[2]), *by = w.words(i.operand[3]), *clamp = w.words(i.operand[4]),
                   *mask = w.words(i.operand[5]);
    uint32_t out[32];
    for (unsigned l = 0; l < 32; ++l) {
        if (clamp[l] != 31 || mask[l] != ~0u) w.fail(i, l, "a shuffle of less than a whole warp");
        out[l] = a[(BUTTERFLY ? l ^ by[l] : by[l]) & 31];
    }
    std::memcpy(d, out, sizeof out);
    set(w.predicates[i.operand[1]], ~0u, active);
}

// Operands: 4 of D, REGISTERS of A, half as many of B, 4 of C. The formulas are the emulated device's (mma.h there).
template <bool BF16, unsigned REGISTERS> void product(Warp& w, const Instruction& i, uint32_t) {
    unsigned a[32][REGISTERS], b[32][REGISTERS / 2];
    float d[32][4];
    ::emulation::Product of[32];
    void* records[32];
    const uint32_t* operand = i.operand + 4;
    for (unsigned l = 0; l < 32; ++l) {
        for (unsigned r = 0; r < REGISTERS; ++r) a[l][r] = w.words(operand[r])[l];
        for (unsigned r = 0; r < REGISTERS / 2; ++r) b[l][r] = w.words(operand[REGISTERS + r])[l];
        for (unsigned r = 0; r < 4; ++r) d[l][r] = get<float>(w.words(operand[REGISTERS * 3 / 2 + r])[l]);
        of[l] = {a[l], b[l], d[l]};
        records[l] = &of[l];
    }
    ::emulation::multiply<BF16, int(REGISTERS)>(records, ~0u);
    for (unsigned r = 0; r < 4; ++r)
        for (unsigned l = 0; l < 32; ++l) w.words(i.operand[r])[l] = put(d[l][r]);
}

void await_launches(Warp& w, const Instruction&, uint32_t) { w.has_awaited = true; }
void nothing(Warp&, const Instruction&, uint32_t) {}

// ---- memory ------------------------------------------------------------------------------------------------------------

// Bytes that begin at these addresses, in the banks of shared memory: words of 4 bytes in 32 banks, each of which gives one of
// its words at a time. 8 bytes a lane are taken by half a warp at a time, 16 by a quarter.
void count_banks(Count& count, const uint32_t* address, uint32_t bytes, uint32_t active) {
    const unsigned together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8, words = bytes <= 4 ? 1 : bytes / 4;
    for (unsigned first = 0; first < 32; first += together) {
        uint32_t seen[32][32];
        unsigned in_bank[32] = {}, most = 0;
        for (unsigned l = first; l < first + together; ++l) {
            if (!(active >> l & 1)) continue;
            for (unsigned k = 0; k < words; ++k) {
                const uint32_t word = address[l] / 4 + k, bank = word % 32;
                unsigned n = 0;
                while (n < in_bank[bank] && seen[bank][n] != word) ++n;
                if (n == in_bank[bank]) seen[bank][in_bank[bank]++] = word;
                if (in_bank[bank] > most) most = in_bank[bank];
            }
        }
        count.asked += most;
        count.least += most > 0;
    }
}

// Different sectors of 32 bytes, and different bytes, of an access.
void count_sectors(Count& count, const uintptr_t* address, uint32_t bytes, uint32_t active) {
    uintptr_t sectors[64];
    unsigned n = 0;
    uintptr_t before = 0;
    for (unsigned l = 0; l < 32; ++l) {
        if (!(active >> l & 1) || address[l] == before) continue;
        before = address[l];
        count.least += bytes;
        const uintptr_t sector = address[l] / 32;  // aligned accesses of at most 16 bytes are in one
        unsigned k = n;
        while (k > 0 && sectors[k - 1] != sector) --k;
        if (k == 0) sectors[n++] = sector;
    }
    count.asked += n;
}

Count& count_of(Warp& w, const Instruction& i) { return w.block->counts[size_t(&i - w.block->launch.kernel.code.data())]; }

void check_shared(Warp& w, const Instruction& i, unsigned lane, uint32_t at, uint32_t bytes, bool is_write) {
    Shared& shared = w.block->shared;
    if (at % bytes) w.fail(i, lane, "shared memory that is not aligned: byte " + std::to_string(at) + ", " + std::to_string(bytes) + " bytes");
    if (at + uint64_t(bytes) > shared.size())
        w.fail(i, lane, "outside of shared memory: byte " + std::to_string(at) + " of " + std::to_string(shared.size()));
    const unsigned thread = w.first_thread + lane;
    if (const char* wrong = is_write ? shared.note_write(at, bytes, thread) : shared.note_read(at, bytes, thread))
        w.fail(i, lane, std::string(wrong) + " (byte " + std::to_string(at) + " of shared memory)");
}

void check_global(Warp& w, const Instruction& i, unsigned lane, uintptr_t at, uint32_t bytes) {
    if (!w.has_awaited) w.fail(i, lane, "global memory before the launches before have ended");
    if (at % bytes) w.fail(i, lane, "global memory that is not aligned to " + std::to_string(bytes) + " bytes");
    const auto is_within = [&](const Piece& piece) { return at - piece.begin < piece.bytes && at - piece.begin + bytes <= piece.bytes; };
    if (w.piece && is_within(*w.piece)) return;
    for (const Piece& piece : w.block->launch.memory) {
        if (!is_within(piece)) continue;
        w.piece = &piece;
        return;
    }
    uintptr_t distance = ~uintptr_t(0);
    std::string nearest = "none";
    for (const Piece& piece : w.block->launch.memory) {
        const bool is_behind = at >= piece.begin;
        const uintptr_t by = is_behind ? at - piece.begin - piece.bytes : piece.begin - at;
        if (by >= distance) continue;
        distance = by;
        nearest = std::to_string(by) + (is_behind ? " bytes behind " : " bytes before ") + std::to_string(piece.bytes);
    }
    w.fail(i, lane, std::to_string(bytes) + " bytes outside of global memory, " + nearest + " that are allocated");
}

struct SharedMemory {
    static constexpr Class OF = Class::Shared;
    static unsigned char* at(Warp& w, const Instruction& i, unsigned lane, uint32_t bytes, bool is_write) {
        const uint32_t address = uint32_t(w.address(i, lane));
        check_shared(w, i, lane, address, bytes, is_write);
        return w.block->shared.at(address);
    }
    static void count(Warp& w, const Instruction& i, uint32_t bytes, uint32_t active) {
        uint32_t address[32];
        for (unsigned l = 0; l < 32; ++l) address[l] = uint32_t(w.address(i, l));
        count_banks(count_of(w, i), address, bytes, active);
    }
};
struct GlobalMemory {
    static constexpr Class OF = Class::Global;
    static unsigned char* at(Warp& w, const Instruction& i, unsigned lane, uint32_t bytes, bool) {
        const uintptr_t address = w.address(i, lane);
        check_global(w, i, lane, address, bytes);
        return reinterpret_cast<unsigned char*>(address);
    }
    static void count(Warp& w, const Instruction& i, uint32_t bytes, uint32_t active) {
        uintptr_t address[32];
        for (unsigned l = 0; l < 32; ++l) address[l] = w.address(i, l);
        count_sectors(count_of(w, i), address, bytes, active);
    }
};
struct LocalMemory {
    static constexpr Class OF = Class::Other;
    static unsigned char* at(Warp& w, const Instruction& i, unsigned lane, uint32_t bytes, bool) {
        const uintptr_t address = w.address(i, lane);
        const size_t size = w.block->launch.kernel.local_bytes;
        if (address % bytes || address + bytes > size) w.fail(i, lane, "outside of a thread's own memory");
        return w.local.data() + size * lane + address;
    }
    static void count(Warp&, const Instruction&, uint32_t, uint32_t) {}
};
struct ParameterMemory {
    static constexpr Class OF = Class::Other;
    static const unsigned char* at(Warp& w, const Instruction& i, unsigned lane, uint32_t bytes, bool) {
        const uintptr_t address = w.address(i, lane);
        const auto& parameters = w.block->launch.parameters;
        if (address % bytes || address + bytes > parameters.size()) w.fail(i, lane, "outside of the parameters");
        return parameters.data() + address;
    }
    static void count(Warp&, const Instruction&, uint32_t, uint32_t) {}
};

// D: what a register holds, T or what it is extended to. Every lane's address is taken before a register is written: it may be
// the base.
template <class Memory, class T, class D = T> void load_from(Warp& w, const Instruction& i, uint32_t active) {
    const uint32_t bytes = sizeof(T) * i.vector;
    Memory::count(w, i, bytes, active);
    const unsigned char* at[32];
    each(active, [&](unsigned l) { at[l] = Memory::at(w, i, l, bytes, false); });
    for (unsigned k = 0; k < i.vector; ++k) {
        Lane<D>* d = lanes<D>(w, i.operand[k]);
        each(active, [&](unsigned l) {
            T value;
            std::memcpy(&value, at[l] + k * sizeof(T), sizeof value);
            d[l] = put<D>(value);
        });
    }
}
template <class Memory, class T> void store_to(Warp& w, const Instruction& i, uint32_t active) {
    const uint32_t bytes = sizeof(T) * i.vector;
    Memory::count(w, i, bytes, active);
    each(active, [&](unsigned l) {
        unsigned char* at = Memory::at(w, i, l, bytes, true);
        for (unsigned k = 0; k < i.vector; ++k) {
            const T value = get<T>(lanes<T>(w, i.operand[k])[l]);
            std::memcpy(at + k * sizeof(T), &value, sizeof value);
        }
    });
}

void copy_async(Warp& w, const Instruction& i, uint32_t active) {
    SharedMemory::count(w, i, 16, active);
    const uint64_t* from = w.wide(i.operand[0]);
    each(active, [&](unsigned l) {
        const uint32_t to = uint32_t(w.address(i, l));
        check_shared(w, i, l, to, 16, true);
        check_global(w, i, l, from[l], 16);
        w.copies.push_back({l, to, from[l], false});
    });
}
void copies_commit(Warp& w, const Instruction&, uint32_t active) {
    for (Warp::Copy& copy : w.copies) copy.is_committed |= active >> copy.lane & 1;
}
void copies_wait(Warp& w, const Instruction& i, uint32_t active) {
    std::vector<Warp::Copy> left;
    for (const Warp::Copy& copy : w.copies) {
        if (!copy.is_committed || !(active >> copy.lane & 1)) {
            left.push_back(copy);
            continue;
        }
        check_shared(w, i, copy.lane, copy.to, 16, true);
        std::memcpy(w.block->shared.at(copy.to), reinterpret_cast<const void*>(copy.from), 16);
    }
    w.copies = std::move(left);
}

// ---- the tables --------------------------------------------------------------------------------------------------------

using Table = std::unordered_map<std::string, Operation>;

template <class T> const std::string& width() {
    static const std::string W = "w", Q = "q";
    return sizeof(T) == 8 ? Q : W;
}
template <class D, class A, class F> void one(Table& t, const std::string& name) {
    t[name] = {Kind::Work, Class::Other, unary<D, A, F>, width<D>() + width<A>()};
}
template <class T, class F> void two(Table& t, const std::string& name) {
    t[name] = {Kind::Work, Class::Other, binary<T, T, T, F>, width<T>() + width<T>() + width<T>()};
}
template <class T, class F> void shift(Table& t, const std::string& name) {
    t[name] = {Kind::Work, Class::Other, binary<T, T, uint32_t, F>, width<T>() + width<T>() + "w"};
}
template <class T, class F> void three(Table& t, const std::string& name) {
    t[name] = {Kind::Work, Class::Other, ternary<T, T, T, F>, width<T>() + width<T>() + width<T>() + width<T>()};
}
template <class T, class F> void test(Table& t, const std::string& name) {
    t[name] = {Kind::Work, Class::Other, compare<T, F>, "p" + width<T>() + width<T>()};
}
template <class T> void moves(Table& t, const std::string& type) {
    one<T, T, Same>(t, "mov." + type);
    t["selp." + type] = {Kind::Work, Class::Other, select<T>, width<T>() + width<T>() + width<T>() + "p"};
}
template <class T> void bits(Table& t, const std::string& type) {
    moves<T>(t, type);
    one<T, T, Not>(t, "not." + type);
    two<T, And>(t, "and." + type);
    two<T, Or>(t, "or." + type);
    two<T, Xor>(t, "xor." + type);
    shift<T, Left>(t, "shl." + type);
    test<T, Equal>(t, "setp.eq." + type);
}
template <class T> void integers(Table& t, const std::string& type) {
    moves<T>(t, type);
    two<T, Add>(t, "add." + type);
    two<T, Subtract>(t, "sub." + type);
    two<T, Multiply>(t, "mul.lo." + type);
    three<T, MultiplyAdd>(t, "mad.lo." + type);
    two<T, Divide>(t, "div." + type);
    two<T, Remainder>(t, "rem." + type);
    two<T, Least>(t, "min." + type);
    two<T, Greatest>(t, "max." + type);
    one<T, T, Negative>(t, "neg." + type);
    shift<T, Right>(t, "shr." + type);
    test<T, Equal>(t, "setp.eq." + type);
    test<T, Differs>(t, "setp.ne." + type);
    test<T, Less>(t, "setp.lt." + type);
    test<T, LessOrEqual>(t, "setp.le." + type);
    test<T, Greater>(t, "setp.gt." + type);
    test<T, GreaterOrEqual>(t, "setp.ge." + type);
}
template <class T> void floats(Table& t, const std::string& type) {
    moves<T>(t, type);
    // Without .rn the assembler may fuse a product and a sum; this machine does not.
    for (const char* rounding : {"", "rn."}) {
        two<T, Add>(t, std::string("add.") + rounding + type);
        two<T, Subtract>(t, std::string("sub.") + rounding + type);
        two<T, Multiply>(t, std::string("mul.") + rounding + type);
    }
    two<T, Divide>(t, "div.rn." + type);
    two<T, Least>(t, "min." + type);
    two<T, Greatest>(t, "max." + type);
    three<T, Fused>(t, "fma.rn." + type);
    one<T, T, Negative>(t, "neg." + type);
    one<T, T, Absolute>(t, "abs." + type);
    one<T, T, Root>(t, "sqrt.rn." + type);
    one<T, T, Reciprocal>(t, "rcp.rn." + type);
    test<T, Equal>(t, "setp.eq." + type);
    test<T, Differs>(t, "setp.ne." + type);
    test<T, Less>(t, "setp.lt." + type);
    test<T, LessOrEqual>(t, "setp.le." + type);
    test<T, Greater>(t, "setp.gt." + type);
    test<T, GreaterOrEqual>(t, "setp.ge." + type);
    test<T, Unordered<Equal>>(t, "setp.equ." + type);
    test<T, Unordered<Differs>>(t, "setp.neu." + type);
    test<T, Unordered<Less>>(t, "setp.ltu." + type);
    test<T, Unordered<LessOrEqual>>(t, "setp.leu." + type);
    test<T, Unordered<Greater>>(t, "setp.gtu." + type);
    test<T, Unordered<GreaterOrEqual>>(t, "setp.geu." + type);
    test<T, IsNan>(t, "setp.nan." + type);
}
template <class D, class A> void convert(Table& t, const std::string& name) { one<D, A, Convert<D>>(t, "cvt." + name); }
template <class D, class A> void wide(Table& t, const std::string& type) {
    t["mul.wide." + type] = {Kind::Work, Class::Other, binary<D, A, A, Wide<D>>, width<D>() + width<A>() + width<A>()};
}

Table table() {
    Table t;
    bits<uint16_t>(t, "b16");
    bits<uint32_t>(t, "b32");
    bits<uint64_t>(t, "b64");
    integers<int16_t>(t, "s16");
    integers<uint16_t>(t, "u16");
    integers<int32_t>(t, "s32");
    integers<uint32_t>(t, "u32");
    integers<int64_t>(t, "s64");
    integers<uint64_t>(t, "u64");
    floats<float>(t, "f32");
    floats<double>(t, "f64");

    two<int32_t, UpperHalf>(t, "mul.hi.s32");
    two<uint32_t, UpperHalf>(t, "mul.hi.u32");
    two<uint64_t, UpperHalf>(t, "mul.hi.u64");
    wide<uint32_t, uint16_t>(t, "u16");
    wide<int64_t, int32_t>(t, "s32");
    wide<uint64_t, uint32_t>(t, "u32");
    one<double, double, ReciprocalStart>(t, "rcp.approx.ftz.f64");
    one<uint32_t, uint64_t, LeadingZeros>(t, "clz.b64");
    three<uint32_t, Permute>(t, "prmt.b32");
    t["bfi.b32"] = {Kind::Work, Class::Other, insert_bits<uint32_t>, "wwwww"};
    t["bfi.b64"] = {Kind::Work, Class::Other, insert_bits<uint64_t>, "qqqww"};

    t["add.cc.u32"] = {Kind::Work, Class::Other, carrying<false, true, CarryingSum>, "www"};
    t["addc.cc.u32"] = {Kind::Work, Class::Other, carrying<true, true, CarryingSum>, "www"};
    t["addc.u32"] = {Kind::Work, Class::Other, carrying<true, false, CarryingSum>, "www"};
    t["sub.cc.u32"] = {Kind::Work, Class::Other, carrying<false, true, BorrowingDifference>, "www"};
    t["subc.cc.u32"] = {Kind::Work, Class::Other, carrying<true, true, BorrowingDifference>, "www"};
    t["subc.u32"] = {Kind::Work, Class::Other, carrying<true, false, BorrowingDifference>, "www"};
    t["mad.lo.cc.u32"] = {Kind::Work, Class::Other, carrying<false, true, CarryingProduct<false>>, "wwww"};
    t["madc.lo.cc.u32"] = {Kind::Work, Class::Other, carrying<true, true, CarryingProduct<false>>, "wwww"};
    t["madc.hi.cc.u32"] = {Kind::Work, Class::Other, carrying<true, true, CarryingProduct<true>>, "wwww"};
    t["madc.hi.u32"] = {Kind::Work, Class::Other, carrying<true, false, CarryingProduct<true>>, "wwww"};

    t["mov.b64.pack"] = {Kind::Work, Class::Other, pack, "qww"};
    t["mov.b64.unpack"] = {Kind::Work, Class::Other, unpack, "wwq"};
    one<uint64_t, uint64_t, Same>(t, "cvta.to.global.u64");
    convert<int64_t, int32_t>(t, "s64.s32");
    convert<uint64_t, uint32_t>(t, "u64.u32");
    convert<uint32_t, uint64_t>(t, "u32.u64");
    convert<uint32_t, uint16_t>(t, "u32.u16");
    convert<uint16_t, uint32_t>(t, "u16.u32");
    convert<double, float>(t, "f64.f32");
    convert<float, double>(t, "rn.f32.f64");
    convert<float, int32_t>(t, "rn.f32.s32");
    convert<double, int32_t>(t, "rn.f64.s32");
    convert<double, uint64_t>(t, "rn.f64.u64");
    one<int32_t, double, ToNearestInteger>(t, "cvt.rni.s32.f64");
    t["cvt.rn.bf16x2.f32"] = {Kind::Work, Class::Other, binary<uint32_t, float, float, TwoBf16>, "www"};

    t["mov.pred"] = {Kind::Work, Class::Other, set_predicate, "pw"};
    t["not.pred"] = {Kind::Work, Class::Other, not_predicate, "pp"};
    t["and.pred"] = {Kind::Work, Class::Other, of_predicates<And>, "ppp"};
    t["or.pred"] = {Kind::Work, Class::Other, of_predicates<Or>, "ppp"};
    t["xor.pred"] = {Kind::Work, Class::Other, of_predicates<Xor>, "ppp"};

    t["bar.sync"] = {Kind::Barrier, Class::Other, nothing, "i"};
    t["shfl.sync.bfly.b32"] = {Kind::Together, Class::Other, shuffle<true>, "wpwwww"};
    t["shfl.sync.idx.b32"] = {Kind::Together, Class::Other, shuffle<false>, "wpwwww"};
    const std::string mma = "mma.sync.aligned.";
    t[mma + "m16n8k4.row.col.f32.tf32.tf32.f32"] = {Kind::Together, Class::Product, product<false, 2>, "wwwwwwwwwww"};
    t[mma + "m16n8k8.row.col.f32.tf32.tf32.f32"] = {Kind::Together, Class::Product, product<false, 4>, "wwwwwwwwwwwwww"};
    t[mma + "m16n8k8.row.col.f32.bf16.bf16.f32"] = {Kind::Together, Class::Product, product<true, 2>, "wwwwwwwwwww"};
    t[mma + "m16n8k16.row.col.f32.bf16.bf16.f32"] = {Kind::Together, Class::Product, product<true, 4>, "wwwwwwwwwwwwww"};
    t["griddepcontrol.wait"] = {Kind::Work, Class::Other, await_launches, ""};
    t["griddepcontrol.launch_dependents"] = {Kind::Work, Class::Other, nothing, ""};
    t["cp.async.cg.shared.global"] = {Kind::Work, Class::Shared, copy_async, ""};
    t["cp.async.commit_group"] = {Kind::Work, Class::Other, copies_commit, ""};
    t["cp.async.wait_group"] = {Kind::Work, Class::Other, copies_wait, "i"};
    return t;
}

using Accesses = std::unordered_map<std::string, Access>;

template <class Memory, bool LOADS, class T> void access(Accesses& all, const std::string& name) {
    constexpr bool IS_WIDE = sizeof(T) == 8;
    using Extended = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    if constexpr (!LOADS) all[name] = {Memory::OF, IS_WIDE ? nullptr : store_to<Memory, T>, IS_WIDE ? store_to<Memory, T> : nullptr};
    else all[name] = {Memory::OF, IS_WIDE ? nullptr : load_from<Memory, T>, load_from<Memory, T, Extended>};
}
template <class Memory, bool LOADS> void accesses(Accesses& all, const std::string& space) {
    for (const char* type : {"u8", "b8"}) access<Memory, LOADS, uint8_t>(all, space + type);
    for (const char* type : {"u16", "b16"}) access<Memory, LOADS, uint16_t>(all, space + type);
    for (const char* type : {"u32", "b32", "f32"}) access<Memory, LOADS, uint32_t>(all, space + type);
    access<Memory, LOADS, int32_t>(all, space + "s32");
    for (const char* type : {"u64", "s64", "b64", "f64"}) access<Memory, LOADS, uint64_t>(all, space + type);
}
template <bool LOADS> Accesses all_accesses() {
    Accesses all;
    accesses<SharedMemory, LOADS>(all, "shared.");
    accesses<GlobalMemory, LOADS>(all, "global.");
    accesses<LocalMemory, LOADS>(all, "local.");
    if constexpr (LOADS) accesses<ParameterMemory, true>(all, "param.");
    return all;
}

template <class Map> auto find(const Map& all, const std::string& name) {
    const auto found = all.find(name);
    return found == all.end() ? nullptr : &found->second;
}

}  // namespace

const Operation* operation(const std::string& name) {
    static const Table TABLE = table();
    return find(TABLE, name);
}
const Access* load(const std::string& space, const std::string& type) {
    static const Accesses ALL = all_accesses<true>();
    return find(ALL, space + "." + type);
}
const Access* store(const std::string& space, const std::string& type) {
    static const Accesses ALL = all_accesses<false>();
    return find(ALL, space + "." + type);
}

}  // namespace ptx
