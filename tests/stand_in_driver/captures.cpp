// Recording what streams are asked for, and carrying it out later, as "Stream Management" and "Graph Management" of the
// driver API's reference have it.
#include "device.h"

#include <algorithm>

namespace stand_in {

CUresult begin_capture(Stream& stream, CUstreamCaptureMode mode) {
    if (stream.capture) return CUDA_ERROR_ILLEGAL_STATE;
    stream.capture = std::make_shared<Capture>();
    stream.capture->origin = &stream;
    stream.capture->mode = mode;
    stream.capture->streams = {&stream};
    stream.last.clear();
    return CUDA_SUCCESS;
}

// What comes before these nodes, and they.
static std::vector<bool> before(const Capture& capture, const std::vector<size_t>& nodes) {
    std::vector<bool> is_before(capture.nodes.size());
    for (size_t node : nodes) is_before[node] = true;
    for (size_t node = capture.nodes.size(); node-- > 0;)
        if (is_before[node])
            for (size_t earlier : capture.nodes[node].after) is_before[earlier] = true;
    return is_before;
}

CUresult end_capture(Stream& stream, std::shared_ptr<Capture>& captured) {
    if (!stream.capture) return CUDA_ERROR_ILLEGAL_STATE;
    const std::shared_ptr<Capture> capture = stream.capture;
    if (capture->origin != &stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    const std::vector<bool> joined = before(*capture, stream.last);
    const bool is_joined = std::all_of(joined.begin(), joined.end(), [](bool node) { return node; });
    for (Stream* part : capture->streams) {
        part->capture = nullptr;
        part->last.clear();
    }
    capture->streams.clear();
    capture->ended = true;
    if (capture->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!is_joined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    captured = capture;
    return CUDA_SUCCESS;
}

CUresult refuse_in_capture(Stream& stream) {
    if (!stream.capture) return CUDA_SUCCESS;
    stream.capture->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult join(const std::shared_ptr<Stream>& stream, CUevent event) {
    for (const auto& capture : {stream->capture, event->capture})
        if (capture && capture->broken && !capture->ended) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!event->capture) {
        if (!event->moment.stream) return CUDA_SUCCESS;  // it was never recorded
        if (stream->capture) {
            stream->capture->broken = true;
            return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
        }
        auto wait = std::make_shared<Task>();
        wait->name = "a wait for an event";
        wait->after = event->moment;
        return ask(stream, wait);
    }
    if (event->capture->ended) return CUDA_ERROR_CAPTURED_EVENT;
    if (stream->capture && stream->capture != event->capture) {
        stream->capture->broken = event->capture->broken = true;
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (!stream->capture) {
        stream->capture = event->capture;
        stream->capture->streams.insert(stream.get());
        stream->last.clear();
    }
    for (size_t node : event->nodes)
        if (std::find(stream->last.begin(), stream->last.end(), node) == stream->last.end())
            stream->last.push_back(node);
    return CUDA_SUCCESS;
}

std::vector<std::shared_ptr<Task>> in_order(const Capture& capture) {
    std::vector<std::shared_ptr<Task>> order;
    std::vector<bool> has_come(capture.nodes.size());
    const auto come = [&](size_t node) {
        has_come[node] = true;
        order.push_back(capture.nodes[node].task);
    };
    // In the order of the recording; or all that was captured beside as late as another node lets it.
    const std::function<void(size_t)> come_late = [&](size_t node) {
        for (size_t earlier : capture.nodes[node].after)
            if (!has_come[earlier]) come_late(earlier);
        come(node);
    };
    for (size_t node = 0; node < capture.nodes.size(); ++node) {
        if (!is_late) come(node);
        else if (!has_come[node] && !capture.nodes[node].beside) come_late(node);
    }
    for (size_t node = 0; node < capture.nodes.size(); ++node)
        if (!has_come[node]) come_late(node);
    return order;
}

}  // namespace stand_in
