// What NVIDIA's driver library is replaced by where there is no GPU: streams that work on threads of their own, events,
// captures and graphs by the rules of the CUDA driver API's reference, and kernels as the emulated device has them or as nvcc
// made them (kernels.cpp).
//
// With it the code that talks to a GPU (src/cuda/driver/cudarc.rs and its folder) runs as it is: tests/stand_in.rs
// builds it as libcuda.so.1 and lets kerase find that. What a real driver answers with an error code is answered so here;
// what it lets pass and a GPU would compute nonsense from, such as memory given back while a kernel may still use it, ends
// the process with a message.
#pragma once
#include <cuda.h>

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../../kernels/emulation/launch.h"

namespace ptx {
struct Module;
struct Kernel;
}  // namespace ptx

namespace stand_in {

[[noreturn]] void fault(const std::string& what);

// Bytes of the device or of the host.
struct Range {
    uintptr_t begin;
    size_t bytes;
    bool meets(const Range& other) const { return begin < other.begin + other.bytes && other.begin < begin + bytes; }
};

struct Stream;

// Where a stream is when it has done so much of what it was asked for.
struct Moment {
    std::shared_ptr<Stream> stream;
    uint64_t number = 0;
};

// One thing that a stream, or a node of a graph, does.
struct Task {
    std::string name;
    std::function<void()> work;
    std::vector<Range> touches;
    // What may be addresses among a kernel's arguments.
    std::vector<uintptr_t> words;
    bool is_kernel = false;
    bool is_event = false;
    // Instead of work: waits for another stream.
    Moment after;

    bool uses(const Range& memory) const;
};

// A graph that is being recorded, or was. A node comes after the nodes that it names, which stand before it.
struct Node {
    std::shared_ptr<Task> task;
    std::vector<size_t> after;
    bool beside;  // it was captured in another stream than the one that began
};
struct Capture {
    std::vector<Node> nodes;
    Stream* origin;
    CUstreamCaptureMode mode;
    std::set<Stream*> streams;
    bool broken = false, ended = false;
};

struct Stream {
    CUcontext context;
    int number;  // in the order in which its context's streams were made
    std::deque<std::shared_ptr<Task>> queue;
    // Of tasks: asked for, finished, and those that somebody waits for.
    uint64_t asked = 0, done = 0, demanded = 0;
    bool is_ending = false;
    // The last thing that it was asked for, but for events, is a kernel.
    bool is_behind_kernel = false;
    std::thread worker;
    // While it is part of a capture: that, and the nodes that come last in it.
    std::shared_ptr<Capture> capture;
    std::vector<size_t> last;
};

// Guards everything here but what a task is doing.
extern std::mutex guard;
extern std::condition_variable& changed;
// Streams put off what nobody waits for yet.
extern bool is_late;

}  // namespace stand_in

// The objects behind the handles.
struct CUctx_st {
    unsigned retained = 0;
    int streams_made = 0;
    std::set<CUstream> streams;
    std::set<CUevent> events;
    std::set<CUmodule> modules;
    std::set<CUgraph> graphs;
    std::set<CUgraphExec> executables;
    std::map<uintptr_t, size_t> memory, host_memory;
    size_t used = 0;
    // What a kernel's failure leaves: every later call returns it.
    CUresult error = CUDA_SUCCESS;
};
struct CUstream_st {
    std::shared_ptr<stand_in::Stream> stream;
};
struct CUevent_st {
    bool is_timed;
    // Where it was recorded last: in a stream, or in a capture of it behind these nodes.
    std::shared_ptr<stand_in::Stream> stream;
    stand_in::Moment moment;
    std::shared_ptr<stand_in::Capture> capture;
    std::vector<size_t> nodes;
    std::shared_ptr<double> passed;  // seconds
};
struct CUmod_st {
    // The file of kernels/ that it is of, known from the first kernel that is asked of it.
    std::string source;
    std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};
struct CUfunc_st {
    const void* kernel;
    int most_dynamic = 48 << 10;
    // Where PTX is run.
    const ptx::Module* module = nullptr;
    const ptx::Kernel* code = nullptr;
};
struct CUgraph_st {
    std::shared_ptr<stand_in::Capture> capture;
};
struct CUgraphExec_st {
    std::shared_ptr<stand_in::Task> task;  // all of it
};

namespace stand_in {

// All of these want the guard to be held.

std::shared_ptr<Stream> new_stream(CUcontext context);
void end_stream(Stream& stream, std::unique_lock<std::mutex>& lock);
// Whether a kernel that is launched now comes right behind another.
bool is_behind_kernel(const Stream& stream);
// Puts a task into a stream, or into the capture that it is part of.
CUresult ask(const std::shared_ptr<Stream>& stream, std::shared_ptr<Task> task);
// Waits until a stream has come to there.
void wait_for(const Moment& moment, std::unique_lock<std::mutex>& lock);
// Ends the process where something that was asked for may still use this memory.
void refuse_in_use(CUcontext context, const Range& memory, const char* doing);

CUresult begin_capture(Stream& stream, CUstreamCaptureMode mode);
CUresult end_capture(Stream& stream, std::shared_ptr<Capture>& captured);
// What is forbidden in a capture of `stream` also breaks the capture off.
CUresult refuse_in_capture(Stream& stream);
// `stream` goes on behind what `event` was recorded behind.
CUresult join(const std::shared_ptr<Stream>& stream, CUevent event);
// Everything that a graph does, in an order that its nodes allow.
std::vector<std::shared_ptr<Task>> in_order(const Capture& capture);

// A task's own failure, as a GPU finds it: the context is useless from then on.
void run(CUcontext context, const Task& task);
// Of the kernel that is launched for the n-th time, if the environment says so: STAND_IN_FAIL=kernel:N:CODE.
CUresult planned_failure(const std::string& name);
// Notes a call, or something that was left, for STAND_IN_REPORT.
void count(const std::string& name, uint64_t times = 1);

}  // namespace stand_in
