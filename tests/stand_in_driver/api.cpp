// The functions of the driver API that kerase calls, by the names that its library exports.
//
// In the environment: STAND_IN_GPUS says how many there are, STAND_IN_MEMORY their MiB, STAND_IN_DRIVER the driver's
// version, STAND_IN_CAPABILITY their compute capability (times ten); STAND_IN_LATE=1 has streams put off what nobody waits
// for; STAND_IN_FORGET=A-B has stream B of a context not wait for stream A, counted as they are made;
// STAND_IN_FAIL=NAME:N:CODE has the N-th call of a function, or run of a kernel (NAME is `kernel`), fail; STAND_IN_REPORT
// names a file for how often each function was called and what was left in the end. STAND_IN_PTX and STAND_IN_COUNTS:
// kernels.cpp.
#include "call.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>

#include <sys/mman.h>

// cuda.h renames some to newer versions than cudarc asks for.
#undef cuEventElapsedTime
#undef cuDeviceGetUuid

using namespace stand_in;

namespace {

// One a GPU. Neither is ever destroyed: streams may be at work when the process ends.
std::vector<CUctx_st>& contexts = *new std::vector<CUctx_st>;
std::map<std::string, uint64_t>& calls = *new std::map<std::string, uint64_t>;
size_t memory_of_a_gpu;

uint64_t number(const char* variable, uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A driver takes all of it back. But who forgets what it made cannot run for long.
void count_left(const CUctx_st& context) {
    count("left streams", context.streams.size());
    count("left events", context.events.size());
    count("left graphs", context.graphs.size() + context.executables.size());
    count("left memory", context.memory.size() + context.host_memory.size());
    count("left modules", context.modules.size());
}

void report() {
    const char* path = std::getenv("STAND_IN_REPORT");
    if (!path) return;
    std::unique_lock<std::mutex> lock(guard);
    for (const CUctx_st& context : contexts) {
        count("left contexts", context.retained);
        if (context.retained) count_left(context);
    }
    std::ofstream file(path);
    for (const auto& [name, times] : calls) file << name << ": " << times << "\n";
}

// So that a test can see what comes of a wait that is missing.
bool is_forgotten(const Stream& before, const Stream& after) {
    const char* plan = std::getenv("STAND_IN_FORGET");
    return plan && std::to_string(before.number) + "-" + std::to_string(after.number) == plan;
}

// Whether all of it lies in one piece of memory that was asked for.
bool is_within(const std::map<uintptr_t, size_t>& memory, const Range& range) {
    auto piece = memory.upper_bound(range.begin);
    if (piece == memory.begin()) return false;
    --piece;
    return range.begin + range.bytes <= piece->first + piece->second;
}

CUresult forbidden_while_capturing() {
    for (CUstream handle : current->streams) {
        const auto& capture = handle->stream->capture;
        if (!capture || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
        capture->broken = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

void* new_memory(std::map<uintptr_t, size_t>& memory, size_t bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fault("the host has no memory left");
    std::memset(at, 0xff, bytes);  // NaN: nobody may count on what is in it
    memory[reinterpret_cast<uintptr_t>(at)] = bytes;
    return at;
}

// Nobody gets these addresses again: who still uses them ends the process.
void free_memory(std::map<uintptr_t, size_t>& memory, uintptr_t at, size_t bytes) {
    void* const begin = reinterpret_cast<void*>(at);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    if (mmap(begin, bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED) fault("memory cannot be given back");
    memory.erase(at);
}

// Copies between the host and the device. What the host has page-locked is read or written when its turn comes; a copy
// from other memory has read it when this returns, and one to it has written it.
CUresult copy(Call& call, const char* name, uintptr_t to, uintptr_t from, size_t bytes, bool from_host, bool to_host,
              CUstream handle) {
    STREAM(handle);
    const Range read{from, bytes}, written{to, bytes};
    if (!bytes) return CUDA_SUCCESS;
    if (!from_host && !is_within(current->memory, read)) return CUDA_ERROR_INVALID_VALUE;
    if (!to_host && !is_within(current->memory, written)) return CUDA_ERROR_INVALID_VALUE;
    if (read.meets(written)) fault(std::string(name) + " between places that overlap");
    const bool is_pageable = (from_host && !is_within(current->host_memory, read)) ||
                             (to_host && !is_within(current->host_memory, written));
    const std::shared_ptr<Stream> stream = handle->stream;
    if (is_pageable && stream->capture) fault(std::string(name) + " with memory that is not page-locked, in a capture");
    auto task = std::make_shared<Task>();
    task->name = name;
    if (is_pageable && from_host) {
        auto held = std::make_shared<std::vector<char>>(reinterpret_cast<const char*>(from),
                                                        reinterpret_cast<const char*>(from) + bytes);
        task->work = [=] { std::memcpy(reinterpret_cast<void*>(to), held->data(), bytes); };
        task->touches = {written};
    } else {
        task->work = [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes); };
        task->touches = {read, written};
    }
    const CUresult asked = ask(stream, task);
    if (asked == CUDA_SUCCESS && is_pageable && to_host) wait_for({stream, stream->asked}, call.lock());
    return asked == CUDA_SUCCESS ? current->error : asked;
}

}  // namespace

namespace stand_in {

thread_local CUcontext current;
bool is_initialised;
int capability;

void count(const std::string& name, uint64_t times) { calls[name] += times; }

CUresult planned_failure(const std::string& name) {
    static const char* const given = std::getenv("STAND_IN_FAIL");
    static const std::string& plan = *new std::string(given ? given : "");  // never destroyed: streams look at it
    static uint64_t left = plan.empty() ? 0 : std::strtoull(plan.c_str() + plan.find(':') + 1, nullptr, 10);
    if (plan.compare(0, name.size() + 1, name + ":") || --left) return CUDA_SUCCESS;
    return CUresult(std::atoi(plan.c_str() + plan.rfind(':') + 1));
}

}  // namespace stand_in

extern "C" {

// ---- the driver and its GPUs ------------------------------------------------------------------------------------

CUresult cuInit(unsigned) {
    std::unique_lock<std::mutex> lock(guard);
    count(__func__);
    if (is_initialised) return CUDA_SUCCESS;
    if (const CUresult failure = planned_failure(__func__)) return failure;
    contexts.resize(number("STAND_IN_GPUS", 1));
    if (contexts.empty()) return CUDA_ERROR_NO_DEVICE;
    memory_of_a_gpu = number("STAND_IN_MEMORY", 8 << 10) << 20;
    capability = int(number("STAND_IN_CAPABILITY", 90));
    is_late = number("STAND_IN_LATE", 0) != 0;
    is_initialised = true;
    std::atexit(report);
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
    *version = int(number("STAND_IN_DRIVER", 13000));
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
    static thread_local std::string words;
    words = "error " + std::to_string(error) + " of the stand-in";
    *text = words.c_str();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    CALL;
    *count = int(contexts.size());
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    CALL;
    if (ordinal < 0 || size_t(ordinal) >= contexts.size()) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int room, CUdevice) {
    CALL;
    std::snprintf(name, size_t(room), "stand-in");
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
    CALL;
    *bytes = memory_of_a_gpu;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
    CALL;
    std::memset(uuid, 0, sizeof *uuid);
    uuid->bytes[0] = char(device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    CALL;
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; return CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; return CUDA_SUCCESS;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = MOST_SHARED; return CUDA_SUCCESS;
        default: fault("an attribute of a device is asked for that the stand-in does not know: " + std::to_string(attribute));
    }
}

// ---- contexts ---------------------------------------------------------------------------------------------------

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    CALL;
    *context = &contexts.at(size_t(device));
    ++(*context)->retained;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    CALL;
    CUctx_st& context = contexts.at(size_t(device));
    if (!context.retained) return CUDA_ERROR_INVALID_CONTEXT;
    if (--context.retained) return CUDA_SUCCESS;
    count_left(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    CALL;
    if (context && !context->retained) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
    CALL;
    *context = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    CALL_IN_CONTEXT;
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
}

// ---- memory -----------------------------------------------------------------------------------------------------

CUresult cuMemGetInfo(size_t* free, size_t* total) {
    CALL_IN_CONTEXT;
    *free = memory_of_a_gpu - current->used;
    *total = memory_of_a_gpu;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
    CALL_IN_CONTEXT;
    if (const CUresult forbidden = forbidden_while_capturing()) return forbidden;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    if (bytes > memory_of_a_gpu - current->used) return CUDA_ERROR_OUT_OF_MEMORY;
    current->used += bytes;
    *address = reinterpret_cast<CUdeviceptr>(new_memory(current->memory, bytes));
    return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
    CALL_IN_CONTEXT;
    if (const CUresult forbidden = forbidden_while_capturing()) return forbidden;
    const auto found = current->memory.find(address);
    if (found == current->memory.end()) return CUDA_ERROR_INVALID_VALUE;
    const size_t bytes = found->second;
    refuse_in_use(current, {address, bytes}, "giving back");
    current->used -= bytes;
    free_memory(current->memory, address, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    CALL_IN_CONTEXT;
    if (const CUresult forbidden = forbidden_while_capturing()) return forbidden;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    *address = new_memory(current->host_memory, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* address) {
    CALL_IN_CONTEXT;
    const auto found = current->host_memory.find(reinterpret_cast<uintptr_t>(address));
    if (found == current->host_memory.end()) return CUDA_ERROR_INVALID_VALUE;
    refuse_in_use(current, {found->first, found->second}, "giving back");
    free_memory(current->host_memory, found->first, found->second);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    CALL_IN_CONTEXT;
    return copy(call, "an upload", to, reinterpret_cast<uintptr_t>(from), bytes, true, false, stream);
}

CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CALL_IN_CONTEXT;
    return copy(call, "a download", reinterpret_cast<uintptr_t>(to), from, bytes, false, true, stream);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CALL_IN_CONTEXT;
    return copy(call, "a copy", to, from, bytes, false, false, stream);
}

CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t bytes, CUstream handle) {
    CALL_IN_CONTEXT;
    STREAM(handle);
    if (!is_within(current->memory, {at, bytes})) return CUDA_ERROR_INVALID_VALUE;
    auto task = std::make_shared<Task>();
    task->name = "setting memory";
    task->touches = {{at, bytes}};
    task->work = [=] { std::memset(reinterpret_cast<void*>(at), value, bytes); };
    return ask(handle->stream, task);
}

// ---- functions of the host ---------------------------------------------------------------------------------------

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
    CALL_IN_CONTEXT;
    STREAM(handle);
    auto task = std::make_shared<Task>();
    task->name = "a function of the host";
    task->work = [=] { function(data); };
    const CUresult asked = ask(handle->stream, task);
    // It may be what another process waits for.
    handle->stream->demanded = handle->stream->asked;
    changed.notify_all();
    return asked;
}

// ---- streams and events -----------------------------------------------------------------------------------------

CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int) {
    CALL_IN_CONTEXT;
    // Others would wait for the stream 0, of which there is none here.
    if (flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_NOT_SUPPORTED;
    *handle = new CUstream_st{new_stream(current)};
    current->streams.insert(*handle);
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* handle, unsigned flags) { return cuStreamCreateWithPriority(handle, flags, 0); }

CUresult cuStreamDestroy(CUstream handle) {
    CALL_IN_CONTEXT;
    STREAM(handle);
    if (handle->stream->capture) fault("a stream is destroyed while it is captured");
    current->streams.erase(handle);
    end_stream(*handle->stream, call.lock());
    delete handle;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    CALL_IN_CONTEXT;
    STREAM(handle);
    const std::shared_ptr<Stream> stream = handle->stream;
    if (const CUresult refused = refuse_in_capture(*stream)) return refused;
    wait_for({stream, stream->asked}, call.lock());
    return current->error;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned flags) {
    CALL_IN_CONTEXT;
    STREAM(handle);
    EVENT(event);
    if (flags != CU_EVENT_WAIT_DEFAULT) return CUDA_ERROR_INVALID_VALUE;
    if (event->stream && is_forgotten(*event->stream, *handle->stream)) return CUDA_SUCCESS;
    return join(handle->stream, event);
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
    CALL_IN_CONTEXT;
    *event = new CUevent_st{!(flags & CU_EVENT_DISABLE_TIMING), {}, {}, {}, {}, {}};
    current->events.insert(*event);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
    CALL_IN_CONTEXT;
    EVENT(event);
    current->events.erase(event);
    delete event;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream handle) {
    CALL_IN_CONTEXT;
    EVENT(event);
    STREAM(handle);
    const std::shared_ptr<Stream>& stream = handle->stream;
    if (stream->capture && stream->capture->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    event->stream = stream;
    event->capture = stream->capture;
    event->nodes = stream->last;
    event->moment = {};
    event->passed = nullptr;
    if (stream->capture) return CUDA_SUCCESS;
    auto passed = std::make_shared<double>(0);
    auto task = std::make_shared<Task>();
    task->name = "an event";
    task->is_event = true;
    task->work = [=] { *passed = now(); };
    const CUresult asked = ask(stream, task);
    event->moment = {stream, stream->asked};
    event->passed = passed;
    return asked;
}

CUresult cuEventSynchronize(CUevent event) {
    CALL_IN_CONTEXT;
    EVENT(event);
    if (event->capture) {
        event->capture->broken = true;
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if (event->moment.stream) wait_for(Moment(event->moment), call.lock());
    return current->error;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
    CALL_IN_CONTEXT;
    EVENT(from);
    EVENT(to);
    for (CUevent event : {from, to}) {
        if (!event->is_timed || !event->moment.stream) return CUDA_ERROR_INVALID_HANDLE;
        if (event->moment.stream->done < event->moment.number) return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = float((*to->passed - *from->passed) * 1e3);
    return CUDA_SUCCESS;
}

// ---- graphs -----------------------------------------------------------------------------------------------------

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    CALL_IN_CONTEXT;
    STREAM(handle);
    return begin_capture(*handle->stream, mode);
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    Call call(__func__, current);
    STREAM(handle);
    *graph = nullptr;
    std::shared_ptr<Capture> capture;
    // A capture that cannot be ended well ends nevertheless.
    const CUresult ended = end_capture(*handle->stream, capture);
    if (const CUresult broken = call.failure() ? call.failure() : ended) return broken;
    *graph = new CUgraph_st{capture};
    current->graphs.insert(*graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
    CALL_IN_CONTEXT;
    known(current->graphs, graph, "a graph");
    current->graphs.erase(graph);
    delete graph;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long flags) {
    CALL_IN_CONTEXT;
    known(current->graphs, graph, "a graph");
    if (flags & ~CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) return CUDA_ERROR_NOT_SUPPORTED;
    const auto nodes = in_order(*graph->capture);
    auto all = std::make_shared<Task>();
    all->name = "a graph";
    for (const auto& node : nodes) {
        all->touches.insert(all->touches.end(), node->touches.begin(), node->touches.end());
        all->words.insert(all->words.end(), node->words.begin(), node->words.end());
    }
    const CUcontext context = current;
    all->work = [=] {
        for (const auto& node : nodes) run(context, *node);
    };
    *executable = new CUgraphExec_st{all};
    current->executables.insert(*executable);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
    CALL_IN_CONTEXT;
    known(current->executables, executable, "an executable graph");
    current->executables.erase(executable);
    delete executable;
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
    CALL_IN_CONTEXT;
    known(current->executables, executable, "an executable graph");
    STREAM(handle);
    if (handle->stream->capture) return CUDA_ERROR_NOT_SUPPORTED;
    return ask(handle->stream, executable->task);
}
}
