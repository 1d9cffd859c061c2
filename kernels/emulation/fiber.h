// One stack and the registers to go on with. Switching costs some nanoseconds: no signal masks, no kernel.
#pragma once
#include <cstddef>

namespace emulation {

struct Fiber {
    void* stack_pointer = nullptr;
    char* stack = nullptr;
#ifdef EMULATION_TSAN
    void* tsan = nullptr;
#endif
#ifdef EMULATION_ASAN
    const void* bottom = nullptr;
    size_t size = 0;
#endif
};

// Gives `fiber` a stack, on which `entry` will begin when it is first switched to. `entry` never returns.
void make_fiber(Fiber& fiber, void (*entry)());
// The fiber that the calling thread already is.
void adopt_thread(Fiber& fiber);
void switch_fiber(Fiber& from, Fiber& to);
// First thing in `entry`.
void fiber_began();

}  // namespace emulation
