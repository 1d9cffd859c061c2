// What instructions do with registers. One line of the table at the end is one operation of PTX.
#include "lanes.h"

#include <cmath>
#include <unordered_map>

#include "../../../kernels/emulation/shim.h"

namespace ptx {
namespace {

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
// By 0 the ISA says nothing, and by −1 the host would stop where the quotient is none.
struct Divide {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_integral_v<T>) {
            if (!b) return T(-1);
            if (std::is_signed_v<T> && b == T(-1)) return T(0 - Whole<T>(a));
        }
        return a / b;
    }
};
struct Remainder {
    template <class T> T operator()(T a, T b) const { return !b ? a : std::is_signed_v<T> && b == T(-1) ? T(0) : T(a % b); }
};
// Of a number and no number: the number; −0 is less than 0.
struct Least {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) {
            if (a != a || b != b) return a != a ? b : a;
            if (a == b) return std::signbit(a) ? a : b;
        }
        return b < a ? b : a;
    }
};
struct Greatest {
    template <class T> T operator()(T a, T b) const {
        if constexpr (std::is_floating_point_v<T>) {
            if (a != a || b != b) return a != a ? b : a;
            if (a == b) return std::signbit(a) ? b : a;
        }
        return a < b ? b : a;
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
// To the nearest integer, ties to even; what does not fit is the nearest that does, and NaN, of f64, the least.
struct ToNearestInteger {
    int32_t operator()(double a) const {
        if (a != a) return INT32_MIN;
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

// `mov.b32 d, {low, high}`, of 16 bits each.
struct PackHalves {
    uint32_t operator()(uint32_t low, uint32_t high) const { return high << 16 | (low & 0xffff); }
};
// `dp2a.lo d, a, b, c`: both halves of a times the lower two bytes of b, added to c.
struct HalvesTimesBytes {
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        return c + (a & 0xffff) * (b & 0xff) + (a >> 16) * (b >> 8 & 0xff);
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

// ---- the table --------------------------------------------------------------------------------------------------------

using Table = std::unordered_map<std::string, Operation>;

template <class T> const std::string& width() {
    static const std::string W = "w", Q = "q";
    return sizeof(T) == 8 ? Q : W;
}
void plain(Table& t, const std::string& name, Work work, const std::string& operands) {
    t[name] = {Kind::Work, work, operands};
}
template <class D, class A, class F> void one(Table& t, const std::string& name) {
    plain(t, name, unary<D, A, F>, width<D>() + width<A>());
}
template <class T, class F> void two(Table& t, const std::string& name) {
    plain(t, name, binary<T, T, T, F>, width<T>() + width<T>() + width<T>());
}
template <class T, class F> void shift(Table& t, const std::string& name) {
    plain(t, name, binary<T, T, uint32_t, F>, width<T>() + width<T>() + "w");
}
template <class T, class F> void three(Table& t, const std::string& name) {
    plain(t, name, ternary<T, T, T, F>, width<T>() + width<T>() + width<T>() + width<T>());
}
template <class T, class F> void test(Table& t, const std::string& name) {
    plain(t, name, compare<T, F>, "p" + width<T>() + width<T>());
}
template <class T> void moves(Table& t, const std::string& type) {
    one<T, T, Same>(t, "mov." + type);
    plain(t, "selp." + type, select<T>, width<T>() + width<T>() + width<T>() + "p");
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
template <class T> void comparisons(Table& t, const std::string& type) {
    test<T, Equal>(t, "setp.eq." + type);
    test<T, Differs>(t, "setp.ne." + type);
    test<T, Less>(t, "setp.lt." + type);
    test<T, LessOrEqual>(t, "setp.le." + type);
    test<T, Greater>(t, "setp.gt." + type);
    test<T, GreaterOrEqual>(t, "setp.ge." + type);
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
    comparisons<T>(t, type);
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
    comparisons<T>(t, type);
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
    plain(t, "mul.wide." + type, binary<D, A, A, Wide<D>>, width<D>() + width<A>() + width<A>());
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
    two<uint32_t, PackHalves>(t, "mov.b32.pack");
    three<uint32_t, HalvesTimesBytes>(t, "dp2a.lo.u32.u32");
    plain(t, "bfi.b32", insert_bits<uint32_t>, "wwwww");
    plain(t, "bfi.b64", insert_bits<uint64_t>, "qqqww");

    plain(t, "add.cc.u32", carrying<false, true, CarryingSum>, "www");
    plain(t, "addc.cc.u32", carrying<true, true, CarryingSum>, "www");
    plain(t, "addc.u32", carrying<true, false, CarryingSum>, "www");
    plain(t, "sub.cc.u32", carrying<false, true, BorrowingDifference>, "www");
    plain(t, "subc.cc.u32", carrying<true, true, BorrowingDifference>, "www");
    plain(t, "subc.u32", carrying<true, false, BorrowingDifference>, "www");
    plain(t, "mad.lo.cc.u32", carrying<false, true, CarryingProduct<false>>, "wwww");
    plain(t, "madc.lo.cc.u32", carrying<true, true, CarryingProduct<false>>, "wwww");
    plain(t, "madc.hi.cc.u32", carrying<true, true, CarryingProduct<true>>, "wwww");
    plain(t, "madc.hi.u32", carrying<true, false, CarryingProduct<true>>, "wwww");

    plain(t, "mov.b64.pack", pack, "qww");
    plain(t, "mov.b64.unpack", unpack, "wwq");
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
    plain(t, "cvt.rn.bf16x2.f32", binary<uint32_t, float, float, TwoBf16>, "www");

    plain(t, "mov.pred", set_predicate, "pw");
    plain(t, "not.pred", not_predicate, "pp");
    plain(t, "and.pred", of_predicates<And>, "ppp");
    plain(t, "or.pred", of_predicates<Or>, "ppp");
    plain(t, "xor.pred", of_predicates<Xor>, "ppp");

    t["bar.sync"] = {Kind::Barrier, nothing, "i"};
    t["shfl.sync.bfly.b32"] = {Kind::Together, shuffle<true>, "wpwwww"};
    t["shfl.sync.idx.b32"] = {Kind::Together, shuffle<false>, "wpwwww"};
    const std::string mma = "mma.sync.aligned.";
    t[mma + "m16n8k4.row.col.f32.tf32.tf32.f32"] = {Kind::Together, product<false, 2>, "wwwwwwwwwww", true};
    t[mma + "m16n8k8.row.col.f32.tf32.tf32.f32"] = {Kind::Together, product<false, 4>, "wwwwwwwwwwwwww", true};
    t[mma + "m16n8k8.row.col.f32.bf16.bf16.f32"] = {Kind::Together, product<true, 2>, "wwwwwwwwwww", true};
    t[mma + "m16n8k16.row.col.f32.bf16.bf16.f32"] = {Kind::Together, product<true, 4>, "wwwwwwwwwwwwww", true};
    plain(t, "griddepcontrol.wait", await_launches, "");
    plain(t, "griddepcontrol.launch_dependents", nothing, "");
    t["cp.async.cg.shared.global"] = {Kind::Work, copy_async, ""};
    plain(t, "cp.async.commit_group", copies_commit, "");
    plain(t, "cp.async.wait_group", copies_wait, "i");
    return t;
}

}  // namespace

const Operation* operation(const std::string& name) {
    static const Table TABLE = table();
    const auto found = TABLE.find(name);
    return found == TABLE.end() ? nullptr : &found->second;
}

}  // namespace ptx
