// Streams: a thread each, which does what it was asked for in order, at once or as late as may be.
#include "device.h"

#include <algorithm>
#include <cstring>

namespace stand_in {

std::mutex guard;
// Never destroyed: streams wait for it until the process ends.
std::condition_variable& changed = *new std::condition_variable;
bool is_late;

void fault(const std::string& what) {
    std::fprintf(stderr, "stand-in driver: %s\n", what.c_str());
    std::abort();
}

bool Task::uses(const Range& memory) const {
    const auto inside = [&](uintptr_t word) { return memory.meets({word, 1}); };
    return std::any_of(touches.begin(), touches.end(), [&](const Range& r) { return r.meets(memory); }) ||
           std::any_of(words.begin(), words.end(), inside);
}

void run(CUcontext context, const Task& task) {
    {
        std::unique_lock<std::mutex> lock(guard);
        if (task.is_kernel && context->error == CUDA_SUCCESS) context->error = planned_failure("kernel");
        if (context->error != CUDA_SUCCESS) return;
    }
    task.work();
}

static void work(std::shared_ptr<Stream> stream) {
    std::unique_lock<std::mutex> lock(guard);
    for (;;) {
        changed.wait(lock, [&] { return stream->done < stream->demanded || stream->is_ending; });
        if (stream->queue.empty()) return;
        const std::shared_ptr<Task> task = stream->queue.front();
        if (task->after.stream) {
            wait_for(task->after, lock);
        } else {
            lock.unlock();
            run(stream->context, *task);
            lock.lock();
        }
        stream->queue.pop_front();
        ++stream->done;
        changed.notify_all();
    }
}

std::shared_ptr<Stream> new_stream(CUcontext context) {
    auto stream = std::make_shared<Stream>();
    stream->context = context;
    stream->number = context->streams_made++;
    stream->worker = std::thread(work, stream);
    return stream;
}

void end_stream(Stream& stream, std::unique_lock<std::mutex>& lock) {
    stream.demanded = stream.asked;
    stream.is_ending = true;
    changed.notify_all();
    lock.unlock();
    stream.worker.join();
    lock.lock();
}

bool is_behind_kernel(const Stream& stream) {
    if (!stream.capture) return stream.is_behind_kernel;
    return stream.last.size() == 1 && stream.capture->nodes[stream.last[0]].task->is_kernel;
}

CUresult ask(const std::shared_ptr<Stream>& stream, std::shared_ptr<Task> task) {
    if (stream->capture) {
        Capture& capture = *stream->capture;
        if (capture.broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        capture.nodes.push_back({std::move(task), stream->last, stream.get() != capture.origin});
        stream->last = {capture.nodes.size() - 1};
        return CUDA_SUCCESS;
    }
    if (!task->is_event) stream->is_behind_kernel = task->is_kernel;
    stream->queue.push_back(std::move(task));
    ++stream->asked;
    if (!is_late) stream->demanded = stream->asked;
    changed.notify_all();
    return CUDA_SUCCESS;
}

void wait_for(const Moment& moment, std::unique_lock<std::mutex>& lock) {
    Stream& stream = *moment.stream;
    stream.demanded = std::max(stream.demanded, moment.number);
    changed.notify_all();
    changed.wait(lock, [&] { return stream.done >= moment.number; });
}

static void refuse_in_use(const Task& task, const Range& memory, const char* doing) {
    if (task.uses(memory)) fault(std::string(doing) + " memory that " + task.name + " may still use");
}

void refuse_in_use(CUcontext context, const Range& memory, const char* doing) {
    for (CUstream handle : context->streams)
        for (const auto& task : handle->stream->queue) refuse_in_use(*task, memory, doing);
}

}  // namespace stand_in
