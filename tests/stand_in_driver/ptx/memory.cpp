// Loads, stores and copies: what is checked of them, and counted.
#include "lanes.h"

#include <unordered_map>

namespace ptx {
namespace {

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
        count.passes += most;
        count.least_passes += most > 0;
    }
}

// Different sectors of 32 bytes of an access, and its bytes.
void count_sectors(Count& count, const uint64_t* address, uint32_t bytes, uint32_t active) {
    uintptr_t sectors[32];
    unsigned n = 0;
    uintptr_t before = 0;
    for (unsigned l = 0; l < 32; ++l) {
        if (!(active >> l & 1) || address[l] == before) continue;
        before = address[l];
        count.bytes += bytes;
        const uintptr_t sector = address[l] / 32;  // aligned accesses of at most 16 bytes are in one
        unsigned k = n;
        while (k > 0 && sectors[k - 1] != sector) --k;
        if (k == 0) sectors[n++] = sector;
    }
    count.sectors += n;
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
        const uintptr_t end = piece.begin + piece.bytes;
        const bool is_behind = at + bytes > end;
        const uintptr_t by = is_behind ? at + bytes - end : piece.begin - at;
        if (by >= distance) continue;
        distance = by;
        nearest = std::to_string(by) + (is_behind ? " behind " : " before ") + std::to_string(piece.bytes);
    }
    w.fail(i, lane, std::to_string(bytes) + " bytes outside of global memory, " + nearest + " bytes that are allocated");
}

struct SharedMemory {
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
    static unsigned char* at(Warp& w, const Instruction& i, unsigned lane, uint32_t bytes, bool) {
        const uintptr_t address = w.address(i, lane);
        check_global(w, i, lane, address, bytes);
        return reinterpret_cast<unsigned char*>(address);
    }
    static void count(Warp& w, const Instruction& i, uint32_t bytes, uint32_t active) {
        uint64_t address[32];
        for (unsigned l = 0; l < 32; ++l) address[l] = w.address(i, l);
        count_sectors(count_of(w, i), address, bytes, active);
    }
};
struct LocalMemory {
    static unsigned char* at(Warp& w, const Instruction& i, unsigned lane, uint32_t bytes, bool) {
        const uintptr_t address = w.address(i, lane);
        const size_t size = w.block->launch.kernel.local_bytes;
        if (address % bytes || address + bytes > size) w.fail(i, lane, "outside of a thread's own memory");
        return w.local.data() + size * lane + address;
    }
    static void count(Warp&, const Instruction&, uint32_t, uint32_t) {}
};
struct ParameterMemory {
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

using Accesses = std::unordered_map<std::string, Access>;

template <class Memory, bool LOADS, class T> void access(Accesses& all, const std::string& name) {
    constexpr bool IS_WIDE = sizeof(T) == 8;
    using Extended = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    if constexpr (!LOADS) all[name] = {IS_WIDE ? nullptr : store_to<Memory, T>, IS_WIDE ? store_to<Memory, T> : nullptr};
    else all[name] = {IS_WIDE ? nullptr : load_from<Memory, T>, load_from<Memory, T, Extended>};
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

const Access* find(const Accesses& all, const std::string& name) {
    const auto found = all.find(name);
    return found == all.end() ? nullptr : &found->second;
}

}  // namespace

void copy_async(Warp& w, const Instruction& i, uint32_t active) {
    SharedMemory::count(w, i, 16, active);
    const uint64_t* from = w.wide(i.operand[0]);
    count_sectors(count_of(w, i), from, 16, active);
    each(active, [&](unsigned l) {
        const uint32_t to = uint32_t(w.address(i, l));
        check_shared(w, i, l, to, 16, true);
        check_global(w, i, l, from[l], 16);
        w.block->shared.note_copy(to, true);
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
        w.block->shared.note_copy(copy.to, false);
        check_shared(w, i, copy.lane, copy.to, 16, true);
        std::memcpy(w.block->shared.at(copy.to), reinterpret_cast<const void*>(copy.from), 16);
    }
    w.copies = std::move(left);
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
