#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#ifdef EMULATION_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
}
#endif
#ifdef EMULATION_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_size);
}
#endif

// Saves the registers that a call preserves, puts the stack pointer into *save, and goes on where `to` was saved.
extern "C" void emulation_switch(void** save, void* to);
#if defined(__x86_64__)
asm(R"(.text
.globl emulation_switch
.hidden emulation_switch
.type emulation_switch,@function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
)");
#elif defined(__aarch64__)
asm(R"(.text
.globl emulation_switch
.hidden emulation_switch
.type emulation_switch,%function
emulation_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emulation_switch, .-emulation_switch
)");
#else
#error "the emulated device switches fibers by hand on x86-64 and AArch64 only"
#endif

namespace emulation {
namespace {

#if defined(EMULATION_TSAN) || defined(EMULATION_ASAN)
constexpr size_t STACK = 256 << 10;
#else
constexpr size_t STACK = 64 << 10;
#endif

}  // namespace

void make_fiber(Fiber& fiber, void (*entry)()) {
    void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        std::perror("emulated device: no memory for a fiber's stack");
        std::abort();
    }
    fiber.stack = static_cast<char*>(stack);
    uintptr_t* top = reinterpret_cast<uintptr_t*>(fiber.stack + STACK - 64);
#if defined(__x86_64__)
    // As after a call: at entry the stack pointer is 8 off a multiple of 16.
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
#else
    top -= 20;
    for (int i = 0; i < 20; ++i) top[i] = 0;
    top[11] = reinterpret_cast<uintptr_t>(entry);
#endif
    fiber.stack_pointer = top;
#ifdef EMULATION_TSAN
    fiber.tsan = __tsan_create_fiber(0);
#endif
#ifdef EMULATION_ASAN
    fiber.bottom = fiber.stack;
    fiber.size = STACK;
#endif
}

void adopt_thread(Fiber& fiber) {
#ifdef EMULATION_TSAN
    fiber.tsan = __tsan_get_current_fiber();
#else
    (void)fiber;
#endif
}

#ifdef EMULATION_ASAN
// Where the switch came from, so that a thread's own stack becomes known when a fiber first runs.
static thread_local Fiber* left;
#endif

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef EMULATION_TSAN
    // 1: no synchronisation by the switch itself; barriers say what they order.
    __tsan_switch_to_fiber(to.tsan, 1);
#endif
#ifdef EMULATION_ASAN
    void* fake;
    left = &from;
    __sanitizer_start_switch_fiber(&fake, to.bottom, to.size);
#endif
    emulation_switch(&from.stack_pointer, to.stack_pointer);
#ifdef EMULATION_ASAN
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake, &bottom, &size);
    left->bottom = bottom;
    left->size = size;
#endif
}

void fiber_began() {
#ifdef EMULATION_ASAN
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    left->bottom = bottom;
    left->size = size;
#endif
}

}  // namespace emulation
