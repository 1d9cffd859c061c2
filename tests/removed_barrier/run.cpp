// run KERNEL: runs one kernel on the emulated device under several schedules and prints its results in hexadecimal, a
// line a schedule. removed_barrier.rs links it with copies of the kernels.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
const void* emulation_next_kernel(const void* kernel);
const char* emulation_name(const void* kernel);
void emulation_run(const void* kernel, void** arguments, const unsigned* grid, unsigned threads, size_t dynamic_bytes,
                   int schedule, uint64_t seed, uint64_t first, uint64_t end);
}

namespace {

struct Schedule {
    const char* name;
    int order;
    uint64_t seed;
};
const Schedule SCHEDULES[] = {{"forward", 0, 0}, {"reverse", 1, 0}, {"random", 2, 1}, {"random", 2, 2}};

const void* find(const char* name) {
    const void* kernel = emulation_next_kernel(nullptr);
    while (kernel && std::strcmp(emulation_name(kernel), name)) kernel = emulation_next_kernel(kernel);
    if (kernel) return kernel;
    std::fprintf(stderr, "no kernel %s was linked\n", name);
    std::exit(1);
}

template <class T> void print(const std::vector<T>& values) {
    for (T value : values) std::printf(" %a", double(value));
}

std::vector<float> numbers(int count) {
    std::vector<float> values(count);
    for (int i = 0; i < count; ++i) values[i] = float(1.5 + std::sin(0.7 * i));
    return values;
}

void add_parts(const Schedule& schedule) {
    const unsigned grid[] = {2, 1, 1};
    int parts = 100, len = 10, log2_here = 3;
    const std::vector<float> partial = numbers(parts * len);
    std::vector<float> sums(len);
    const float* from = partial.data();
    float* to = sums.data();
    void* arguments[] = {&from, &to, &parts, &len, &log2_here};
    emulation_run(find("add_parts"), arguments, grid, 256, 0, schedule.order, schedule.seed, 0, 2);
    print(sums);
}

void ssim_windows(const Schedule& schedule) {
    const unsigned grid[] = {2, 2, 1};
    const int rows = 20, columns = 40, windows = (rows - 6) * (columns - 6);
    const std::vector<float> output = numbers(rows * columns), target(rows * columns, 1.0f);
    const float max_value = 2.0f;
    std::vector<double> slopes(3 * windows), partial(4);
    const float *x = output.data(), *y = target.data(), *most = &max_value;
    double *of_windows = slopes.data(), *of_blocks = partial.data();
    int crop[] = {rows, columns, rows, columns, 0, 0, rows, columns, 0, 0};
    void* arguments[] = {&x, &y, &most, &of_windows, &of_blocks, crop};
    emulation_run(find("ssim_windows"), arguments, grid, 256, 0, schedule.order, schedule.seed, 0, 4);
    print(slopes);
    print(partial);
}

// 40 channels in: three slices of two steps, of which the last lacks one, so that its warps are done sooner. One tile.
void conv3x3_deep(const Schedule& schedule) {
    const unsigned grid[] = {1, 1, 1};
    const int in = 40, out = 16, height = 16, width = 8;
    const std::vector<float> input = numbers(in * height * width), weights = numbers(in / 8 * 2 * 9 * 64);
    std::vector<float> output(out * height * width), partial(3 * out);
    const float *first = input.data(), *none = nullptr, *filters = weights.data();
    float *to = output.data(), *sums = partial.data();
    int shape[] = {in, 0, out, height, width, height, width, height, width};
    void* arguments[] = {&first, &none, &none, &none, &filters, &to, &sums, shape};
    const size_t buffer = 16 * 184 + 2 * 2 * 9 * 64, constants = 24 * 48;
    emulation_run(find("conv3x3_tf32_deep_by2"), arguments, grid, 128, 2 * 4 * buffer + constants, schedule.order,
                  schedule.seed, 0, 1);
    print(output);
    print(partial);
}

// A block that takes two tiles.
void conv3x3_weights(const Schedule& schedule) {
    const unsigned grid[] = {1, 1, 1};
    const int in = 8, out = 8, height = 32, width = 16;
    int tiles = 2;
    const std::vector<float> input = numbers(in * height * width), d_output = numbers(out * height * width);
    std::vector<float> partial(out * in * 9);
    const float *first = input.data(), *none = nullptr, *d = d_output.data();
    float* to = partial.data();
    int shape[] = {in, 0, out, height, width, height, width, height, width};
    void* arguments[] = {&first, &none, &none, &none, &d, &d, &none, &none, &to, shape, &tiles};
    emulation_run(find("conv3x3_weights_tf32_8x8"), arguments, grid, 128, 4 * (8 * 360 + 8 * 292), schedule.order,
                  schedule.seed, 0, 1);
    print(partial);
}

// Three sixteens of channels in, of which the last is half. 41 channels out: a slice of 18 steps and one of three, of
// which each second warp has one. One block of pixels, its rows and planes whole runs.
void conv_transpose_inputs(const Schedule& schedule) {
    const unsigned grid[] = {1, 1, 1};
    int shape[] = {40, 41, 8, 8};
    const auto [in, out, height, width] = shape;
    const std::vector<float> values = numbers(in * height * width), stats = numbers(2 * in),
                             weight = numbers(in * out * 4), g = numbers(out * 4 * height * width);
    std::vector<float> d_input(in * height * width), partial(2 * in);
    const float *first = values.data(), *of_first = stats.data(), *filters = weight.data(), *d = g.data(),
                *none = nullptr;
    float *to = d_input.data(), *sums = partial.data();
    void* arguments[] = {&first, &of_first, &filters, &d, &none, &d, &none, &to, &sums, shape};
    emulation_run(find("conv_transpose_inputs_tf32_deep_by4"), arguments, grid, 128, 0, schedule.order, schedule.seed,
                  0, 1);
    print(d_input);
    print(partial);
}

// Twelve channels out, all of a block; pixels for each of its warps.
void conv_transpose_forward(const Schedule& schedule) {
    const unsigned grid[] = {1, 1, 1};
    int shape[] = {9, 12, 8, 16};
    const auto [in, out, height, width] = shape;
    const std::vector<float> values = numbers(in * height * width), weight = numbers(in * out * 4);
    std::vector<float> output(out * 4 * height * width), partial(3 * out);
    const float *first = values.data(), *none = nullptr, *filters = weight.data();
    float *to = output.data(), *moments = partial.data();
    void* arguments[] = {&first, &none, &filters, &to, &moments, shape};
    emulation_run(find("conv_transpose_tf32_wide_by3"), arguments, grid, 128, 0, schedule.order, schedule.seed, 0, 1);
    print(output);
    print(partial);
}

// Five steps: the first warp has two of them.
void conv_transpose_weight(const Schedule& schedule) {
    const unsigned grid[] = {1, 1, 1};
    int shape[] = {17, 5, 5, 8}, n = 1, steps = 5;
    const auto [in, out, height, width] = shape;
    const std::vector<float> values = numbers(in * height * width), g = numbers(out * 4 * height * width);
    std::vector<float> partial(in * out * 4);
    const float *first = values.data(), *d = g.data(), *none = nullptr;
    float* to = partial.data();
    void* arguments[] = {&first, &none, &d, &none, &d, &none, &to, shape, &n, &steps};
    emulation_run(find("conv_transpose_weight_tf32"), arguments, grid, 128, 0, schedule.order, schedule.seed, 0, 1);
    print(partial);
}

const struct {
    const char* kernel;
    void (*run)(const Schedule&);
} KERNELS[] = {
    {"add_parts", add_parts},
    {"ssim_windows", ssim_windows},
    {"conv3x3_tf32_deep_by2", conv3x3_deep},
    {"conv3x3_weights_tf32_8x8", conv3x3_weights},
    {"conv_transpose_inputs_tf32_deep_by4", conv_transpose_inputs},
    {"conv_transpose_tf32_wide_by3", conv_transpose_forward},
    {"conv_transpose_weight_tf32", conv_transpose_weight},
};

}  // namespace

int main(int count, char** words) {
    for (const auto& [kernel, run] : KERNELS) {
        if (count != 2 || std::strcmp(words[1], kernel)) continue;
        for (const Schedule& schedule : SCHEDULES) {
            std::printf("%s", schedule.name);
            run(schedule);
            std::printf("\n");
        }
        return 0;
    }
    std::fprintf(stderr, "run KERNEL: expected one of those that run.cpp lists\n");
    return 1;
}
