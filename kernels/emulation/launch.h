// What the emulated device is asked for, by Rust (src/cuda/driver/emulated/kernel.rs) and by tests/stand_in_driver.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

// Kernels are known by an address. That of the next one; null asks for the first, and there is none after the last.
const void* emulation_next_kernel(const void* kernel);
const char* emulation_name(const void* kernel);
// The file that the compiler was given for it.
const char* emulation_source(const void* kernel);
unsigned emulation_most_threads(const void* kernel);
// The types of its parameters: as many bytes as there is room for, without a zero. Returns the length of the whole text.
size_t emulation_signature(const void* kernel, char* text, size_t room);
// Bytes of one of its arguments; 0 behind the last.
size_t emulation_argument_bytes(const void* kernel, size_t argument);

// Runs blocks [first, end) of a launch, counted in the schedule's order, on the calling thread. A schedule is 0 for
// forward, 1 for reverse and 2 for random, by the seed.
void emulation_run(const void* kernel, void** arguments, const unsigned* grid, unsigned threads, size_t dynamic_bytes,
                   int schedule, uint64_t seed, uint64_t first, uint64_t end);
}
