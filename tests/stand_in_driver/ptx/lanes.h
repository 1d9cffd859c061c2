// How values lie in registers.
#pragma once
#include "machine.h"

#include <cstring>
#include <type_traits>

namespace ptx {

// Lanes of less than 8 bytes are stored as 4, above which there are zeros.
template <class T> using Lane = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class T> T get(Lane<T> lane) {
    T value;
    std::memcpy(&value, &lane, sizeof value);
    return value;
}
template <class T> Lane<T> put(T value) {
    Lane<T> lane = 0;
    std::memcpy(&lane, &value, sizeof value);
    return lane;
}
template <class T> Lane<T>* lanes(Warp& warp, uint32_t at) {
    if constexpr (sizeof(T) == 8) return warp.wide(at);
    else return warp.words(at);
}

template <class Do> void each(uint32_t active, Do&& go) {
    if (active == ~0u) {
        for (unsigned l = 0; l < 32; ++l) go(l);
    } else {
        for (unsigned l = 0; l < 32; ++l)
            if (active >> l & 1) go(l);
    }
}

}  // namespace ptx
