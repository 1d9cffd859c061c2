// Runs a block: its threads take turns on one processor, in an order that the launch chooses.
//
// Always on: a barrier that not all threads meet, lanes that meet in different warp operations, and shared memory that
// is read before it is written (it begins as NaN) show. A missing barrier shows as a wrong result under one of the
// orders, and by file and line under ThreadSanitizer, which this file must then not be compiled for: it tells the
// sanitizer what each barrier orders, and nothing else.
#include "shim.h"
#include "fiber.h"
#include "launch.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <vector>

#ifdef EMULATION_TSAN
extern "C" {
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define ACQUIRE(variable) __tsan_acquire(variable)
#define RELEASE(variable) __tsan_release(variable)
#else
#define ACQUIRE(variable) (void)(variable)
#define RELEASE(variable) (void)(variable)
#endif

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

namespace emulation {

thread_local Self* self;

namespace {

// What a block has of shared memory at most: by declarations, and with what its launch gives.
constexpr size_t MOST_STATIC = 48 << 10, MOST_SHARED = 99 << 10;

enum class State : uint8_t { Ready, AtBarrier, InWarp, Done };

struct Thread {
    Self self;
    State state;
    Fiber* fiber;  // null until it has begun
    const char* site;
    unsigned mask;
    void* record;
    WarpWork work;
    // Which of two variables stands for the barrier that comes next: neighbours in time must differ.
    unsigned barriers, fences, met_parity;
    char fence_variable[2];
    Copies copies;
};

struct Shared {
    const void* site;
    char* memory;
    size_t bytes;
};

enum Order { FORWARD, REVERSE, RANDOM };

struct Random {
    uint64_t state;
    unsigned below(unsigned n) {  // SplitMix64
        uint64_t z = (state += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return unsigned((z ^ (z >> 31)) % n);
    }
};

// A processor: what one thread of the host needs to run blocks, one after the other.
struct Processor {
    std::vector<Thread> threads;
    std::vector<unsigned> order;
    std::vector<Fiber*> fibers, idle;
    Fiber host;
    unsigned at, waiting, done;
    const char* name;  // of the kernel
    void (*call)(void**);
    void** arguments;
    Order schedule;
    Random random;
    std::vector<Shared> shared;
    char* dynamic = nullptr;
    size_t dynamic_bytes = 0;
    char barrier_variable[2], begin_variable, end_variable;

    unsigned count() const { return unsigned(threads.size()); }
};
thread_local Processor* processor;

Thread& current() { return processor->threads[self->linear]; }

#ifdef EMULATION_TSAN
char launch_variable;
#endif

// ---- choosing who goes on --------------------------------------------------------------------------------------

void shuffle_order(Processor& p) {
    if (p.schedule != RANDOM) return;
    for (unsigned i = p.count() - 1; i > 0; --i) std::swap(p.order[i], p.order[p.random.below(i + 1)]);
}

// All lanes of a thread's mask that the block has are there, with the same operation?
bool finish_warp(Processor& p, Thread& thread) {
    unsigned base = thread.self.warp * 32, lanes = 0;
    void* records[32] = {};
    for (unsigned l = 0; l < 32 && base + l < p.count(); ++l) {
        if (!(thread.mask >> l & 1)) continue;
        Thread& other = p.threads[base + l];
        if (other.state == State::Done) fault("a lane of the mask has left the kernel", thread.site);
        if (other.state != State::InWarp || other.mask != thread.mask) return false;
        if (other.work != thread.work) fault("lanes of one warp meet in different operations", thread.site);
        records[l] = other.record;
        lanes |= 1u << l;
    }
    if (thread.work) thread.work(records, lanes);
    unsigned parity = 0;
    for (unsigned l = 0; l < 32; ++l)
        if (lanes >> l & 1) parity |= (p.threads[base + l].fences & 1) << l;
    for (unsigned l = 0; l < 32; ++l)
        if (lanes >> l & 1) {
            p.threads[base + l].state = State::Ready;
            p.threads[base + l].met_parity = parity;
        }
    return true;
}

void finish_barrier(Processor& p) {
    const char* site = nullptr;
    for (Thread& t : p.threads) {
        if (t.state != State::AtBarrier) continue;
        if (site && std::strcmp(site, t.site)) fault("threads of a block meet at different __syncthreads", t.site);
        site = t.site;
    }
    if (p.done) fault("threads left the kernel before a __syncthreads that others wait at", site);
    for (Thread& t : p.threads) t.state = State::Ready;
    p.waiting = 0;
    shuffle_order(p);
    p.at = 0;
}

// The next thread that can go on, or none if all are done.
Thread* next(Processor& p) {
    for (;;) {
        for (unsigned i = 0; i < p.count(); ++i) {
            unsigned at = p.at + i < p.count() ? p.at + i : p.at + i - p.count();
            Thread& t = p.threads[p.order[at]];
            if (t.state != State::Ready) continue;
            p.at = at + 1 == p.count() ? 0 : at + 1;
            return &t;
        }
        if (p.done == p.count()) return nullptr;
        if (p.waiting + p.done == p.count()) {
            finish_barrier(p);
            continue;
        }
        fault("no thread of the block can go on: a warp operation waits for lanes that wait elsewhere", "");
    }
}

// ---- fibers -----------------------------------------------------------------------------------------------------

void run_threads();

Fiber* fiber_for(Processor& p, const Thread& thread) {
#ifdef EMULATION_TSAN
    // To the sanitizer, what runs on one fiber is in order: no two threads of a block may share one.
    while (p.fibers.size() <= thread.self.linear) {
        p.fibers.push_back(new Fiber);
        make_fiber(*p.fibers.back(), &run_threads);
    }
    return p.fibers[thread.self.linear];
#else
    (void)thread;
    if (p.idle.empty()) {
        p.fibers.push_back(new Fiber);
        make_fiber(*p.fibers.back(), &run_threads);
        return p.fibers.back();
    }
    Fiber* fiber = p.idle.back();
    p.idle.pop_back();
    return fiber;
#endif
}

void go_on_with(Processor& p, Fiber& from, Thread& thread) {
    if (!thread.fiber) thread.fiber = fiber_for(p, thread);
    self = &thread.self;
    switch_fiber(from, *thread.fiber);
}

// The life of a fiber: it runs a thread to its end, then another that has not begun, without a switch.
void run_threads() {
    fiber_began();
    for (;;) {
        Processor& p = *processor;
        Thread& mine = current();
        Fiber& fiber = *mine.fiber;
        ACQUIRE(&p.begin_variable);
        p.call(p.arguments);
        if (!mine.self.awaited) fault("a kernel does not call await_inputs(), and may run before its inputs are there:", p.name);
        RELEASE(&p.end_variable);
        mine.state = State::Done;
        ++p.done;
        Thread* other = next(p);
#ifndef EMULATION_TSAN
        if (other && !other->fiber) {
            other->fiber = &fiber;
            self = &other->self;
            continue;
        }
#endif
        if (other && !other->fiber) other->fiber = fiber_for(p, *other);
        // Not idle before another fiber was chosen: nobody must begin on this stack while it is in use.
        p.idle.push_back(&fiber);
        if (other) self = &other->self;
        switch_fiber(fiber, other ? *other->fiber : p.host);
    }
}

void wait_for_turn() {
    Processor& p = *processor;
    Thread& mine = current();
    Thread* other = next(p);
    if (other != &mine) go_on_with(p, *mine.fiber, *other);
}

// ---- shared memory ----------------------------------------------------------------------------------------------

// A NaN as a float, and as two halves of one: whatever reads it first shows.
void poison(char* memory, size_t bytes) {
    const uint32_t nan = 0x7fc0deadu;
    for (size_t i = 0; i < bytes; ++i) memory[i] = reinterpret_cast<const char*>(&nan)[i % 4];
}

// Exactly as long as asked for: AddressSanitizer guards the ends.
char* take_memory(size_t bytes) {
    void* memory;
    if (posix_memalign(&memory, 128, bytes)) fault("no memory for a block's shared memory", "");
    return static_cast<char*>(memory);
}

// ---- blocks -----------------------------------------------------------------------------------------------------

void run_block(Processor& p, uint3 block) {
    for (Shared& s : p.shared) poison(s.memory, s.bytes);
    if (p.dynamic_bytes) poison(p.dynamic, p.dynamic_bytes);
    p.waiting = p.done = p.at = 0;
    for (unsigned i = 0; i < p.count(); ++i) {
        Thread& t = p.threads[i];
        t.self.block = block;
        t.self.awaited = false;
        t.state = State::Ready;
        t.fiber = nullptr;
        t.barriers = t.fences = 0;
        t.copies.open.clear();
        t.copies.groups.clear();
        p.order[i] = p.schedule == REVERSE ? p.count() - 1 - i : i;
    }
    shuffle_order(p);
    RELEASE(&p.begin_variable);
    go_on_with(p, p.host, *next(p));
    ACQUIRE(&p.end_variable);
}

Processor& this_processor() {
    static thread_local Processor mine;
    processor = &mine;
    return mine;
}

Kernel* kernels;

}  // namespace

[[noreturn]] void fault(const char* what, const char* site) {
    std::fprintf(stderr, "emulated device: %s %s\n", what, site);
    Processor& p = *processor;
    if (self) {
        const uint3 b = self->block;
        std::fprintf(stderr, "  block (%u, %u, %u) of %u threads, %u at a barrier, %u done\n", b.x, b.y, b.z, p.count(),
                     p.waiting, p.done);
    }
    int shown = 0;
    for (const Thread& t : p.threads)
        if ((t.state == State::AtBarrier || t.state == State::InWarp) && shown++ < 8)
            std::fprintf(stderr, "  thread %u waits at %s\n", t.self.linear, t.site);
    std::abort();
}

void barrier(const char* site) {
    Processor& p = *processor;
    Thread& mine = current();
    char* variable = &p.barrier_variable[mine.barriers++ & 1];
    RELEASE(variable);
    mine.state = State::AtBarrier;
    mine.site = site;
    ++p.waiting;
    wait_for_turn();
    ACQUIRE(variable);
}

void meet_warp(unsigned mask, void* record, WarpWork work, bool fence, const char* site) {
    Processor& p = *processor;
    Thread& mine = current();
    if (!(mask >> self->lane & 1)) fault("the calling lane is not in its own mask", site);
    if (fence) RELEASE(&mine.fence_variable[mine.fences & 1]);
    mine.state = State::InWarp;
    mine.mask = mask;
    mine.record = record;
    mine.work = work;
    mine.site = site;
    if (!finish_warp(p, mine)) wait_for_turn();
    if (!fence) return;
    ++mine.fences;
    for (unsigned l = 0; l < 32 && mine.self.warp * 32 + l < p.count(); ++l)
        if (mask >> l & 1) ACQUIRE(&p.threads[mine.self.warp * 32 + l].fence_variable[mine.met_parity >> l & 1]);
}

void* shared(const void* site, size_t bytes) {
    Processor& p = *processor;
    for (Shared& s : p.shared)
        if (s.site == site) return s.memory;
    size_t declared = bytes;
    for (Shared& s : p.shared) declared += s.bytes;
    if (declared > MOST_STATIC) fault("a kernel declares more shared memory than nvcc lets it", "");
    if (declared + p.dynamic_bytes > MOST_SHARED) fault("a block has more shared memory than GPUs give", "");
    char* memory = take_memory(bytes);
    poison(memory, bytes);
    p.shared.push_back({site, memory, bytes});
    return memory;
}

void* dynamic_shared() { return processor->dynamic; }

Copies& copies() { return current().copies; }

void enter(Kernel* kernel) {
    kernel->next = kernels;
    kernels = kernel;
}

}  // namespace emulation

// ---- what Rust calls --------------------------------------------------------------------------------------------

using namespace emulation;

extern "C" {

const void* emulation_next_kernel(const void* kernel) {
    return kernel ? static_cast<const Kernel*>(kernel)->next : kernels;
}

const char* emulation_name(const void* kernel) { return static_cast<const Kernel*>(kernel)->name; }

const char* emulation_source(const void* kernel) { return static_cast<const Kernel*>(kernel)->source; }

unsigned emulation_most_threads(const void* kernel) { return static_cast<const Kernel*>(kernel)->most_threads; }

size_t emulation_signature(const void* kernel, char* text, size_t room) {
    std::string whole = static_cast<const Kernel*>(kernel)->signature();
    size_t length = whole.size() < room ? whole.size() : room;
    std::memcpy(text, whole.data(), length);
    return whole.size();
}

size_t emulation_argument_bytes(const void* kernel, size_t argument) {
    return static_cast<const Kernel*>(kernel)->argument_bytes(argument);
}

void emulation_run(const void* kernel, void** arguments, const unsigned* grid, unsigned threads, size_t dynamic_bytes,
                   int schedule, uint64_t seed, uint64_t first, uint64_t end) {
    Processor& p = this_processor();
    p.name = static_cast<const Kernel*>(kernel)->name;
    p.call = static_cast<const Kernel*>(kernel)->call;
    p.arguments = arguments;
    p.schedule = Order(schedule);
    p.random.state = seed + first;
    adopt_thread(p.host);
#ifdef EMULATION_TSAN
    ACQUIRE(&launch_variable);
#endif
    p.threads.resize(threads);
    p.order.resize(threads);
    for (unsigned i = 0; i < threads; ++i) {
        Self& s = p.threads[i].self;
        s.thread = {i, 0, 0};
        s.threads = {threads, 1, 1};
        s.blocks = {grid[0], grid[1], grid[2]};
        s.linear = i;
        s.lane = i & 31;
        s.warp = i >> 5;
    }
    p.dynamic = dynamic_bytes ? take_memory(dynamic_bytes) : nullptr;
    p.dynamic_bytes = dynamic_bytes;
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    for (uint64_t i = first; i < end; ++i) {
        // A prime number of blocks apart: each block once, neighbours far from each other.
        uint64_t block = p.schedule == REVERSE  ? blocks - 1 - i
                         : p.schedule == RANDOM ? (i * 2654435761u + seed) % blocks
                                                : i;
        run_block(p, uint3{unsigned(block % grid[0]), unsigned(block / grid[0] % grid[1]),
                           unsigned(block / grid[0] / grid[1])});
    }
    std::free(p.dynamic);
    for (Shared& s : p.shared) std::free(s.memory);
    p.shared.clear();
    self = nullptr;
#ifdef EMULATION_TSAN
    RELEASE(&launch_variable);
#endif
}
}
