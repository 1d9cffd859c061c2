// What every function that the library exports begins with.
#pragma once
#include "device.h"

namespace stand_in {

// The context of the calling thread.
extern thread_local CUcontext current;
extern bool is_initialised;
// Compute capability of the GPUs, times ten.
extern int capability;
constexpr int MOST_SHARED = 227 << 10;

// A call is counted, and may be made to fail.
class Call {
    std::unique_lock<std::mutex> lock_{guard};
    CUresult failure_ = CUDA_SUCCESS;

public:
    explicit Call(std::string name) {
        // cuda.h gives some names an ending.
        if (name.size() > 3 && name.compare(name.size() - 3, 3, "_v2") == 0) name.resize(name.size() - 3);
        failure_ = planned_failure(name);
        count(name);
        if (!failure_ && !is_initialised) failure_ = CUDA_ERROR_NOT_INITIALIZED;
    }
    // In the thread's context.
    Call(const char* name, CUcontext context) : Call(name) {
        if (failure_) return;
        if (!context) failure_ = CUDA_ERROR_INVALID_CONTEXT;
        else if (!context->retained) failure_ = CUDA_ERROR_CONTEXT_IS_DESTROYED;
        else failure_ = context->error;
    }
    CUresult failure() const { return failure_; }
    std::unique_lock<std::mutex>& lock() { return lock_; }
};
#define CALL                 \
    Call call(__func__);     \
    if (call.failure()) return call.failure()
#define CALL_IN_CONTEXT               \
    Call call(__func__, current);     \
    if (call.failure()) return call.failure()

template <class T> void known(const std::set<T>& all, T handle, const char* what) {
    if (!all.count(handle)) fault(std::string(what) + " is used that this context has not, or no longer");
}
#define STREAM(handle) known(current->streams, handle, "a stream")
#define EVENT(handle) known(current->events, handle, "an event")

}  // namespace stand_in
