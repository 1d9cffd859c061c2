// PTX as nvcc writes it of kernels/, ready to be run by machine.h: what "PTX ISA" by NVIDIA says, as far as our kernels need it.
// What is not known is an error when a module is read, never a guess.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ptx {

struct Warp;
struct Instruction;
// Does it for the active lanes of a warp.
using Work = void (*)(Warp& warp, const Instruction& instruction, uint32_t active);

enum class Kind : uint8_t {
    Work,
    Branch,
    Return,
    // All threads of the block meet, at the same one.
    Barrier,
    // All lanes of the warp do it together, or it is wrong.
    Together,
};

// A register, or a constant, is 32 lanes of 4 or 8 bytes; a predicate is one word of 32 bits. Numbers below count 32 lanes of 4
// bytes, or predicates.
struct Instruction {
    Kind kind = Kind::Work;
    bool is_product = false;
    Work work = nullptr;
    int guard = -1;  // done only where this predicate holds
    bool unless = false;  // … does not hold
    uint32_t operand[14];
    uint32_t target = 0;  // of a branch
    // Of an access to memory: base + offset.
    uint32_t base = 0;
    bool has_wide_base = false;
    uint8_t vector = 1;
    int64_t offset = 0;
    // Where it comes from: a line of the PTX, and of our source.
    int line = 0, source_file = 0, source_line = 0;
};

struct Constant {
    uint32_t at;
    bool is_wide;
    // Of where the shared memory begins that the launch gives: what is added to that.
    bool is_dynamic;
    uint64_t value;
};

struct Parameter {
    size_t offset, bytes;
};

struct Kernel {
    std::string name;
    std::vector<Instruction> code;
    std::vector<Constant> constants;
    std::vector<Parameter> parameters;
    size_t parameter_bytes = 0;
    uint32_t register_words = 0, predicates = 0;
    // Of a thread.
    uint32_t local_bytes = 0;
    // Shared memory that it declares, and where what the launch gives begins.
    uint32_t shared_bytes = 0, dynamic_begin = 0;
    unsigned most_threads = 1024;
};

struct Module {
    std::string path;
    // Launches may begin before those before have ended, and kernels wait for that themselves: from 9.0 on.
    bool begins_early = false;
    std::map<int, std::string> source_files;
    // Arrays of the module, by name.
    std::map<std::string, std::vector<unsigned char>> arrays;
    std::map<std::string, Kernel> kernels;
};

// Ends the process where the file says something that is not known here.
std::unique_ptr<Module> read_module(const std::string& path);

// ---- operations by name --------------------------------------------------------------------------------------------

// `operands`, in the order in which PTX has them: w 4 bytes, q 8 bytes, p a predicate, i an immediate that must be 0.
struct Operation {
    Kind kind;
    Work work;
    std::string operands;
    bool is_product = false;
};
// Null where there is none of this name.
const Operation* operation(const std::string& name);
// Loads into and stores from registers of 4 and of 8 bytes, each null where there is none.
struct Access {
    Work narrow, wide;
};
// Of a space and a type, such as global and f32; null where nothing is known of them.
const Access* load(const std::string& space, const std::string& type);
const Access* store(const std::string& space, const std::string& type);

// Registers that every kernel has, at these places: thread and block.
enum Special : uint32_t { TID_X, NTID_X, NTID_Y, CTAID_X, CTAID_Y, CTAID_Z, NCTAID_X, NCTAID_Y, NCTAID_Z, CARRY, SPECIALS };

[[noreturn]] void fault(const std::string& what);

}  // namespace ptx
