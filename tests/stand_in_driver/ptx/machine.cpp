// Warps and blocks: who goes on, who waits, and what a block begins with.
#include "machine.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>
#include <thread>

namespace ptx {

// ---- shared memory ---------------------------------------------------------------------------------------------------

// Several threads, since the last barrier.
static constexpr uint16_t MANY = 0xffff;

void Shared::clear() {
    std::memset(bytes_.data(), 0xff, bytes_.size());
    std::fill(words_.begin(), words_.end(), Word{});
    epoch_ = 1;
}

static uint8_t bits_of(uint32_t address, uint32_t bytes) { return bytes >= 4 ? 0xf : uint8_t(((1u << bytes) - 1) << address % 4); }

static const char* const IN_FLIGHT = "uses what an asynchronous copy is on its way to";

void Shared::note_copy(uint32_t address, bool is_awaited) {
    for (uint32_t word = address / 4; word < address / 4 + 4; ++word) words_[word].is_awaited = is_awaited;
}

const char* Shared::note_read(uint32_t address, uint32_t bytes, unsigned thread) {
    const uint8_t mine = bits_of(address, bytes);
    for (uint32_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) {
        auto& [written, read, is_awaited] = words_[word];
        if (is_awaited) return IN_FLIGHT;
        if (written.epoch == epoch_ && written.thread != thread && written.bytes & mine)
            return "reads what another thread wrote since the last barrier";
        if (read.epoch != epoch_) read = {epoch_, uint16_t(thread), mine};
        else read = {epoch_, read.thread == thread ? read.thread : MANY, uint8_t(read.bytes | mine)};
    }
    return nullptr;
}

const char* Shared::note_write(uint32_t address, uint32_t bytes, unsigned thread) {
    const uint8_t mine = bits_of(address, bytes);
    for (uint32_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) {
        auto& [written, read, is_awaited] = words_[word];
        if (is_awaited) return IN_FLIGHT;
        if (read.epoch == epoch_ && read.thread != thread && read.bytes & mine)
            return "writes what another thread read since the last barrier";
        if (written.epoch == epoch_ && written.thread != thread && written.bytes & mine)
            return "writes what another thread wrote since the last barrier";
        if (written.epoch != epoch_) written = {epoch_, uint16_t(thread), mine};
        else written = {epoch_, written.thread == thread ? written.thread : MANY, uint8_t(written.bytes | mine)};
    }
    return nullptr;
}

// ---- warps -----------------------------------------------------------------------------------------------------------

void Warp::fail(const Instruction& at, unsigned lane, const std::string& what) const {
    const Launch& launch = block->launch;
    const auto file = launch.module.source_files.find(at.source_file);
    const std::string source = file == launch.module.source_files.end() ? "?" : file->second;
    const unsigned* index = block->index;
    fault("kernel " + launch.kernel.name + ", " + source + ":" + std::to_string(at.source_line) + " (" + launch.module.path + ":" +
          std::to_string(at.line) + "), block (" + std::to_string(index[0]) + ", " + std::to_string(index[1]) + ", " +
          std::to_string(index[2]) + "), thread " + std::to_string(first_thread + lane) + ": " + what);
}

// Of the lanes whose turn it is: the furthest behind. Where instructions are written in the order in which they are come to,
// which is how nvcc writes them, that brings lanes together again where their ways meet.
void Warp::run() {
    const Instruction* code = block->launch.kernel.code.data();
    Count* counts = block->counts.data();
    const auto go_on = [&](uint32_t at, uint32_t lanes) {
        if (!lanes) return;
        const auto behind = std::find_if(groups.begin(), groups.end(), [&](const Group& group) { return group.at >= at; });
        if (behind != groups.end() && behind->at == at) behind->lanes |= lanes;
        else groups.insert(behind, {at, lanes});
    };
    while (!groups.empty()) {
        Group group = groups.front();
        groups.erase(groups.begin());
        const uint32_t next = groups.empty() ? ~0u : groups.front().at;
        for (bool is_alone = true; is_alone;) {
            const Instruction& i = code[group.at];
            ++counts[group.at].times;
            uint32_t active = group.lanes;
            if (i.guard >= 0) active &= i.unless ? ~predicates[size_t(i.guard)] : predicates[size_t(i.guard)];
            uint32_t here = group.at++;
            switch (i.kind) {
                case Kind::Work:
                    if (active) i.work(*this, i, active);
                    break;
                case Kind::Together:
                    if (!active) break;
                    if (active != ~0u) fail(i, unsigned(__builtin_ctz(~active)), "does not come with its warp to what all lanes do together");
                    i.work(*this, i, active);
                    break;
                case Kind::Branch:
                    if (active == group.lanes) {
                        group.at = i.target;
                        is_alone = group.at < next;
                    } else if (active) {
                        go_on(i.target, active);
                        go_on(group.at, group.lanes & ~active);
                        group.lanes = 0;
                        is_alone = false;
                    }
                    break;
                case Kind::Return:
                    group.lanes &= ~active;
                    if (!group.lanes) is_alone = false;
                    break;
                case Kind::Barrier:
                    if (!active) break;
                    if (active != ~0u) fail(i, unsigned(__builtin_ctz(~active)), "does not come with its warp to a barrier");
                    is_waiting = true;
                    barrier = here;
                    // Goes on there.
                    groups.push_back({group.at, active});
                    return;
            }
            is_alone = is_alone && group.at < next;
        }
        go_on(group.at, group.lanes);
    }
}

// ---- blocks ----------------------------------------------------------------------------------------------------------

Block::Block(const Launch& launch)
    : launch(launch),
      shared(launch.dynamic_bytes ? launch.kernel.dynamic_begin + launch.dynamic_bytes : launch.kernel.shared_bytes),
      warps(launch.threads / 32),
      counts(launch.kernel.code.size()) {
    const Kernel& kernel = launch.kernel;
    for (size_t n = 0; n < warps.size(); ++n) {
        Warp& warp = warps[n];
        warp.block = this;
        warp.first_thread = unsigned(n) * 32;
        warp.registers.resize(size_t(kernel.register_words) * 32);
        warp.predicates.resize(kernel.predicates);
        warp.local.resize(size_t(kernel.local_bytes) * 32);
    }
}

void Block::run(uint64_t number) {
    const Kernel& kernel = launch.kernel;
    index[0] = unsigned(number % launch.grid[0]);
    index[1] = unsigned(number / launch.grid[0] % launch.grid[1]);
    index[2] = unsigned(number / launch.grid[0] / launch.grid[1]);
    shared.clear();
    for (Warp& warp : warps) {
        std::fill(warp.registers.begin(), warp.registers.end(), ~0u);
        std::fill(warp.predicates.begin(), warp.predicates.end(), 0);
        std::fill(warp.local.begin(), warp.local.end(), 0xff);
        const auto everywhere = [&](uint32_t at, uint32_t value) { std::fill_n(warp.words(at), 32, value); };
        for (const Constant& constant : kernel.constants) {
            const uint64_t value = constant.value + (constant.is_dynamic ? kernel.dynamic_begin : 0);
            if (constant.is_wide) std::fill_n(warp.wide(constant.at), 32, value);
            else everywhere(constant.at, uint32_t(value));
        }
        for (unsigned lane = 0; lane < 32; ++lane) warp.words(TID_X)[lane] = warp.first_thread + lane;
        everywhere(NTID_X, launch.threads);
        everywhere(NTID_Y, 1);
        for (uint32_t d = 0; d < 3; ++d) {
            everywhere(CTAID_X + d, index[d]);
            everywhere(NCTAID_X + d, launch.grid[d]);
        }
        warp.groups = {{0, ~0u}};
        warp.has_awaited = !launch.module.begins_early;
        warp.copies.clear();
    }
    for (bool is_done = false; !is_done;) {
        is_done = true;
        for (Warp& warp : warps) {
            warp.is_waiting = false;
            warp.run();
        }
        for (const Warp& warp : warps) {
            if (!warp.is_waiting) continue;
            is_done = false;
            for (const Warp& other : warps)
                if (!other.is_waiting || other.barrier != warp.barrier)
                    warp.fail(kernel.code[warp.barrier], 0, "waits at a barrier that not all threads come to");
        }
        if (!is_done) shared.pass_barrier();
    }
    for (const Warp& warp : warps)
        if (!warp.copies.empty()) warp.fail(kernel.code[0], warp.copies[0].lane, "an asynchronous copy is never waited for");
}

static void add(std::vector<Count>& all, const std::vector<Count>& counts) {
    for (size_t i = 0; i < all.size(); ++i) all[i].add(counts[i]);
}

// The blocks of a sample, from `begin` to `end` of them: neighbours are as far apart as the golden ratio has them.
static std::vector<Count> run(const Launch& launch, unsigned workers, uint64_t begin, uint64_t end) {
    const uint64_t all = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    uint64_t stride = std::max<uint64_t>(1, uint64_t(0.6180339887 * double(all)));
    while (std::gcd(stride, all) != 1) ++stride;
    std::vector<Count> counts(launch.kernel.code.size());
    std::atomic<uint64_t> next{begin};
    std::mutex adding;
    const auto work = [&] {
        Block block(launch);
        for (uint64_t n; (n = next++) < end;) block.run(n * stride % all);
        std::lock_guard<std::mutex> lock(adding);
        add(counts, block.counts);
    };
    std::vector<std::thread> others;
    for (uint64_t n = 1; n < std::min<uint64_t>(workers, end - begin); ++n) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    return counts;
}

Counted run(const Launch& launch, unsigned workers, uint64_t enough) {
    const uint64_t all = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    const uint64_t first = enough == EVERYTHING ? all : std::min<uint64_t>(all, 8);
    Counted counted{run(launch, workers, 0, first), first};
    if (first == all) return counted;
    uint64_t done = 0;
    for (const Count& count : counted.counts) done += count.times;
    const uint64_t end = std::min(all, uint64_t(double(enough) * double(first) / double(done)));
    if (end <= first) return counted;
    add(counted.counts, run(launch, workers, first, end));
    counted.blocks = end;
    return counted;
}

}  // namespace ptx
