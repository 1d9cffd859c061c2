// The functions of the driver API for kernels. What runs is as the host's compiler made it of their source, for the emulated
// device, unless the environment says otherwise:
//
// STAND_IN_PTX names a folder of PTX files, FILE.ptx of each kernels/FILE.cu: then what nvcc made of them is run instead, by
// ptx/machine.h. With STAND_IN_ENOUGH=N only as many blocks of a launch are run as take about N instructions: what is counted
// (counts.h) is then what all would take, and results are nonsense.
#include "call.h"
#include "counts.h"

#include <algorithm>
#include <cstring>

using namespace stand_in;

namespace ptx {
void fault(const std::string& what) { stand_in::fault(what); }
}  // namespace ptx

namespace {

constexpr unsigned MAGIC = 0xba55ed50;  // of a fatbin

// Under the guard, and never destroyed: streams may be at work when the process ends.
std::map<std::string, std::unique_ptr<ptx::Module>>& modules = *new std::map<std::string, std::unique_ptr<ptx::Module>>;

// Of a file of kernels/; null where PTX is not asked for.
const ptx::Module* module_of(const std::string& source) {
    static const char* const folder = std::getenv("STAND_IN_PTX");
    if (!folder) return nullptr;
    std::unique_ptr<ptx::Module>& module = modules[source];
    const size_t begin = source.rfind('/') + 1;
    if (!module) module = ptx::read_module(std::string(folder) + "/" + source.substr(begin, source.rfind('.') - begin) + ".ptx");
    return module.get();
}

// Of static shared memory the emulated device knows when a block runs.
int static_shared(const CUfunc_st& function) { return function.code ? int(function.code->shared_bytes) : 0; }

// What a launch does when its turn comes.
std::function<void()> emulated(const void* kernel, std::shared_ptr<std::vector<uint64_t>> values, std::vector<size_t> begins,
                               std::vector<unsigned> grid, unsigned threads, unsigned shared) {
    return [=] {
        std::vector<void*> pointers;
        for (size_t begin : begins) pointers.push_back(&(*values)[begin]);
        const uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
        emulation_run(kernel, pointers.data(), grid.data(), threads, shared, 0, 0, 0, blocks);
    };
}

std::function<void()> of_ptx(const CUfunc_st& function, void** arguments, const std::vector<unsigned>& grid, unsigned threads,
                             unsigned shared) {
    const ptx::Kernel& kernel = *function.code;
    if (threads > kernel.most_threads || threads % 32) fault(kernel.name + " is launched with " + std::to_string(threads) + " threads");
    auto launch = std::make_shared<ptx::Launch>(
        ptx::Launch{*function.module, kernel, {}, {grid[0], grid[1], grid[2]}, threads, shared, {}});
    launch->parameters.resize(kernel.parameter_bytes);
    for (size_t i = 0; i < kernel.parameters.size(); ++i) {
        const auto [offset, bytes] = kernel.parameters[i];
        if (bytes != emulation_argument_bytes(function.kernel, i)) fault(kernel.name + " has other parameters in its PTX");
        std::memcpy(&launch->parameters[offset], arguments[i], bytes);
    }
    const CUcontext context = current;
    return [=] {
        ptx::Launch own = *launch;
        {
            std::unique_lock<std::mutex> lock(guard);
            for (const auto& [begin, bytes] : context->memory) own.memory.push_back({begin, bytes});
        }
        for (const auto& [name, bytes] : own.module.arrays)
            own.memory.push_back({reinterpret_cast<uintptr_t>(bytes.data()), bytes.size()});
        static const char* const enough = std::getenv("STAND_IN_ENOUGH");
        const uint64_t sampled = enough ? std::strtoull(enough, nullptr, 10) : ptx::EVERYTHING;
        note(own, ptx::run(own, std::thread::hardware_concurrency(), sampled));
    };
}

}  // namespace

extern "C" {

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    CALL_IN_CONTEXT;
    if (reinterpret_cast<uintptr_t>(image) % 8) fault("an image that is not aligned");
    unsigned magic;
    std::memcpy(&magic, image, sizeof magic);
    if (magic != MAGIC) return CUDA_ERROR_INVALID_IMAGE;
    *module = new CUmod_st{};
    current->modules.insert(*module);
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
    CALL_IN_CONTEXT;
    known(current->modules, module, "a module");
    current->modules.erase(module);
    delete module;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    CALL_IN_CONTEXT;
    known(current->modules, module, "a module");
    const void* kernel = emulation_next_kernel(nullptr);
    while (kernel && std::strcmp(emulation_name(kernel), name)) kernel = emulation_next_kernel(kernel);
    if (!kernel) return CUDA_ERROR_NOT_FOUND;
    // What is in an image is known by the first kernel alone: all others must be of the same file.
    const std::string source = emulation_source(kernel);
    const auto has_it = [&](CUmodule other) { return other != module && other->source == source; };
    if (std::any_of(current->modules.begin(), current->modules.end(), has_it)) return CUDA_ERROR_NOT_FOUND;
    if (module->source.empty()) module->source = source;
    if (module->source != source) return CUDA_ERROR_NOT_FOUND;
    auto& found = module->functions[name];
    if (!found) {
        found = std::make_unique<CUfunc_st>(CUfunc_st{kernel});
        if ((found->module = module_of(source))) {
            const auto code = found->module->kernels.find(name);
            if (code == found->module->kernels.end()) fault(std::string("no kernel ") + name + " in the PTX of " + source);
            found->code = &code->second;
        }
    }
    *function = found.get();
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
    CALL_IN_CONTEXT;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
            *value = static_shared(*function);
            return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = function->most_dynamic; return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION: *value = capability; return CUDA_SUCCESS;
        default: fault("an attribute of a function is asked for that the stand-in does not know: " + std::to_string(attribute));
    }
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    CALL_IN_CONTEXT;
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)
        return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
        static_shared(*function) + value > MOST_SHARED)
        return CUDA_ERROR_INVALID_VALUE;
    function->most_dynamic = value;
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments, void** extra) {
    CALL_IN_CONTEXT;
    STREAM(config->hStream);
    const unsigned threads = config->blockDimX;
    const std::vector<unsigned> grid{config->gridDimX, config->gridDimY, config->gridDimZ};
    if (!grid[0] || !grid[1] || !grid[2] || grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535 || !threads ||
        threads > emulation_most_threads(function->kernel) || config->blockDimY != 1 || config->blockDimZ != 1 || extra ||
        int(config->sharedMemBytes) > function->most_dynamic ||
        static_shared(*function) + int(config->sharedMemBytes) > MOST_SHARED)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < config->numAttrs; ++i)
        if (config->attrs[i].id != CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) return CUDA_ERROR_NOT_SUPPORTED;
    if (config->numAttrs && config->attrs[0].value.programmaticStreamSerializationAllowed) {
        count("early launches");
        if (!is_behind_kernel(*config->hStream->stream)) fault("a kernel is launched early behind what is no kernel");
    }

    // Arguments are taken over now, each at a multiple of 16 bytes.
    auto values = std::make_shared<std::vector<uint64_t>>();
    std::vector<size_t> begins;
    auto task = std::make_shared<Task>();
    for (size_t i = 0; const size_t bytes = emulation_argument_bytes(function->kernel, i); ++i) {
        begins.push_back(values->size());
        values->resize(values->size() + (bytes + 15) / 16 * 2);
        std::memcpy(&(*values)[begins.back()], arguments[i], bytes);
    }
    const unsigned shared = config->sharedMemBytes;
    task->name = std::string("kernel ") + emulation_name(function->kernel);
    task->words.assign(values->begin(), values->end());
    task->is_kernel = true;
    task->work = function->code ? of_ptx(*function, arguments, grid, threads, shared)
                                : emulated(function->kernel, values, begins, grid, threads, shared);
    return ask(config->hStream->stream, task);
}
}
