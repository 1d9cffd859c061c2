#include "counts.h"
#include "device.h"

#include <fstream>

namespace stand_in {
namespace {

// Accesses to one memory: how many, what they asked for, and the least (ptx::Count).
struct Sum {
    double times = 0, asked = 0, least = 0;
    void add(double weight, uint64_t count, uint64_t asks, uint64_t needs) {
        if (!asks) return;
        times += weight * double(count);
        asked += weight * double(asks);
        least += weight * double(needs);
    }
};
struct Line {
    double instructions = 0, products = 0;
    Sum shared, global;
};
struct Counts {
    uint64_t launches = 0, blocks = 0, warps = 0;
    std::map<std::pair<std::string, int>, Line> lines;
};
// Under the guard, and never destroyed: streams may be at work when the process ends.
std::map<std::string, Counts>& counts = *new std::map<std::string, Counts>;

// A line of JSON for each kernel, and for each line of its source.
void report() {
    const char* path = std::getenv("STAND_IN_COUNTS");
    if (!path) return;
    std::unique_lock<std::mutex> lock(guard);
    std::ofstream file(path);
    file.precision(15);
    for (const auto& [name, all] : counts) {
        file << "{\"kernel\": \"" << name << "\", \"launches\": " << all.launches << ", \"blocks\": " << all.blocks
             << ", \"warps\": " << all.warps << "}\n";
        for (const auto& [place, line] : all.lines) {
            file << "{\"kernel\": \"" << name << "\", \"file\": \"" << place.first << "\", \"line\": " << place.second
                 << ", \"instructions\": " << line.instructions << ", \"products\": " << line.products;
            for (const auto& [space, memory] : {std::pair("shared", line.shared), std::pair("global", line.global)})
                if (memory.times > 0)
                    file << ", \"" << space << "\": [" << memory.times << ", " << memory.asked << ", " << memory.least << "]";
            file << "}\n";
        }
    }
}

}  // namespace

void note(const ptx::Launch& launch, const ptx::Counted& counted) {
    std::unique_lock<std::mutex> lock(guard);
    if (counts.empty()) std::atexit(report);
    Counts& all = counts[launch.kernel.name];
    const uint64_t blocks = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    const double weight = double(blocks) / double(counted.blocks);
    ++all.launches;
    all.blocks += blocks;
    all.warps += blocks * launch.threads / 32;
    for (size_t i = 0; i < counted.counts.size(); ++i) {
        const ptx::Count& count = counted.counts[i];
        if (!count.times) continue;
        const ptx::Instruction& instruction = launch.kernel.code[i];
        const auto file = launch.module.source_files.find(instruction.source_file);
        Line& line = all.lines[{file == launch.module.source_files.end() ? "" : file->second, instruction.source_line}];
        line.instructions += weight * double(count.times);
        if (instruction.is_product) line.products += weight * double(count.times);
        line.shared.add(weight, count.times, count.passes, count.least_passes);
        line.global.add(weight, count.times, count.sectors, count.bytes);
    }
}

}  // namespace stand_in
