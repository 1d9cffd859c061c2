// A multiprocessor for PTX, correct and countable rather than quick: the lanes of a warp that are at the same instruction do it
// together, those that are furthest behind first.
//
// Ends the process, with the kernel, the line and the thread, where one
// - reads or writes outside of what was allocated, or not aligned, or global memory before the launches before have ended;
// - reads what another thread wrote to shared memory, or writes what another read or wrote, with no barrier between;
// - reads or writes what an asynchronous copy is on its way to: that happens when it is waited for, no sooner;
// - meets others at a barrier, a shuffle or a product that not all of them come to.
// Shared memory and registers begin as NaN. Not seen: another buffer of the same allocation, and races in global memory.
//
// And counts what a profiler would: instructions, of shared memory how often banks are asked, of global memory how many
// sectors of 32 bytes.
#pragma once
#include "module.h"

#include <functional>

namespace ptx {

// Bytes of global memory that may be used.
struct Piece {
    uintptr_t begin;
    size_t bytes;
};

// Of one instruction: how often warps came to it, and of accesses to memory what they asked for.
struct Count {
    uint64_t times = 0;
    // Of shared memory: passes through the banks, and as few as there could be.
    uint64_t passes = 0, least_passes = 0;
    // Of global memory: sectors of 32 bytes, and bytes that lanes want; neighbours that want the same are counted once.
    uint64_t sectors = 0, bytes = 0;

    void add(const Count& other) {
        times += other.times;
        passes += other.passes;
        least_passes += other.least_passes;
        sectors += other.sectors;
        bytes += other.bytes;
    }
};

struct Launch {
    const Module& module;
    const Kernel& kernel;
    std::vector<unsigned char> parameters;
    unsigned grid[3];
    unsigned threads;
    uint32_t dynamic_bytes;
    std::vector<Piece> memory;
};

struct Counted {
    std::vector<Count> counts;  // of the kernel's instructions
    uint64_t blocks;  // that were run
};
// Runs a launch by `workers` threads. Where numbers alone are asked for and not what comes of it, `enough` says after how many
// instructions of warps, about, no more blocks need to be run; those that are, are spread over the grid.
Counted run(const Launch& launch, unsigned workers, uint64_t enough);
constexpr uint64_t EVERYTHING = UINT64_MAX;

// ---- what operations see -----------------------------------------------------------------------------------------------

// Shared memory of a block, and who used each word of it last.
class Shared {
    struct Use {
        uint32_t epoch = 0;  // barriers passed, plus 1
        uint16_t thread = 0;
        uint8_t bytes = 0;
    };
    struct Word {
        Use written, read;
        bool is_awaited = false;  // a copy to it is on its way
    };
    std::vector<unsigned char> bytes_;
    std::vector<Word> words_;
    uint32_t epoch_ = 1;

public:
    explicit Shared(size_t bytes) : bytes_(bytes), words_((bytes + 3) / 4) {}
    // For another block.
    void clear();
    void pass_barrier() { ++epoch_; }
    size_t size() const { return bytes_.size(); }
    unsigned char* at(uint32_t address) { return bytes_.data() + address; }
    // What is wrong with it, or null.
    const char* note_read(uint32_t address, uint32_t bytes, unsigned thread);
    const char* note_write(uint32_t address, uint32_t bytes, unsigned thread);
    // A copy of 16 bytes sets out, or has come.
    void note_copy(uint32_t address, bool is_awaited);
};

struct Block;

struct Warp {
    // Lanes that are at the same instruction.
    struct Group {
        uint32_t at;
        uint32_t lanes;
    };
    struct Copy {
        unsigned lane;
        uint32_t to;
        uintptr_t from;
        bool is_committed;
    };

    Block* block;
    unsigned first_thread;
    std::vector<uint32_t> registers;
    std::vector<uint32_t> predicates;
    std::vector<unsigned char> local;  // of lane after lane
    std::vector<Group> groups;  // by instruction
    bool is_waiting = false;  // at a barrier
    uint32_t barrier = 0;  // … at which
    bool has_awaited = false;
    std::vector<Copy> copies;
    const Piece* piece = nullptr;  // that was used last

    uint32_t* words(uint32_t at) { return registers.data() + size_t(at) * 32; }
    uint64_t* wide(uint32_t at) { return reinterpret_cast<uint64_t*>(words(at)); }
    uintptr_t address(const Instruction& i, unsigned lane) {
        return (i.has_wide_base ? wide(i.base)[lane] : words(i.base)[lane]) + uintptr_t(i.offset);
    }
    // Until every lane has ended or waits at a barrier.
    void run();
    [[noreturn]] void fail(const Instruction& at, unsigned lane, const std::string& what) const;
};

// Asynchronous copies, and what waits for them: in memory.cpp.
void copy_async(Warp& warp, const Instruction& instruction, uint32_t active);
void copies_commit(Warp& warp, const Instruction& instruction, uint32_t active);
void copies_wait(Warp& warp, const Instruction& instruction, uint32_t active);

struct Block {
    const Launch& launch;
    Shared shared;
    std::vector<Warp> warps;
    std::vector<Count> counts;
    unsigned index[3];

    explicit Block(const Launch& launch);
    void run(uint64_t number);
};

}  // namespace ptx
