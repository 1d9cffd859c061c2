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

}  // namespace

int main(int count, char** words) {
    const bool adds = count == 2 && !std::strcmp(words[1], "add_parts");
    for (const Schedule& schedule : SCHEDULES) {
        std::printf("%s", schedule.name);
        adds ? add_parts(schedule) : ssim_windows(schedule);
        std::printf("\n");
    }
}
