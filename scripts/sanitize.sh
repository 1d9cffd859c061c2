#!/usr/bin/env bash
# sanitize.sh [thread] [address] [-- COMMAND ...]: runs the kernels on the emulated device, compiled for
# ThreadSanitizer (a missing barrier) and for AddressSanitizer (shared or global memory out of bounds).
#
# Without names both. COMMAND is what kerase is asked for; unless given, it is `validate --device emulated`, and again in
# each precision of tensor cores of those operations that have kernels of their own there. Also shows that a barrier taken
# out of a kernel is found by file and line. The exit code is 1 where anything was found, and 2 where a sanitizer is
# missing or something could not be built. Needs GCC or Clang with their sanitizers, on Linux; builds into
# target/sanitize, in minutes. Each run has one processor: on one that is shared, what is run unless COMMAND is given took
# 70 minutes under ThreadSanitizer and 27 under AddressSanitizer.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "sanitize.sh: $*" >&2; exit 2; }

# tests/validate.rs holds these to launching every kernel. They are read by name, below.
# shellcheck disable=SC2034
tf32=(announce conv3x3 conv_transpose)
# shellcheck disable=SC2034
bf16=(announce conv3x3 conv_transpose conv1x1 avg_pool unet_input unet_output)

sanitizers=()
command=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        thread | address) sanitizers+=("$1") ;;
        --) shift; [ $# -gt 0 ] || fail "-- needs a command"; command=("$@"); break ;;
        *) fail "unknown argument $1; see --help" ;;
    esac
    shift
done
[ ${#sanitizers[@]} -gt 0 ] || sanitizers=(thread address)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The emulation and Rust's own code are not instrumented, so the order in which they run is not known: what they copy,
# allocate and free is no finding. Launches order themselves. Leaks are not looked for: a process's last buffers go
# with it.
export TSAN_OPTIONS="ignore_interceptors_accesses=1 exitcode=66 ${TSAN_OPTIONS:-}"
export ASAN_OPTIONS="detect_leaks=0 exitcode=66 ${ASAN_OPTIONS:-}"
# Device code has nothing to do with this.
export KERASE_CUDA=off

# Older sanitizers do not start where addresses are too random.
start=(env)
if command -v setarch >/dev/null && setarch -R true 2>/dev/null; then start=(setarch -R env); fi

found=0
sanitized() {
    echo "== $sanitizer: kerase $*"
    "${start[@]}" LD_PRELOAD="$library" "$target/release/kerase" "$@" || { echo "== $sanitizer: exit code $?"; found=1; }
}
for sanitizer in "${sanitizers[@]}"; do
    name=libtsan.so
    [ "$sanitizer" = thread ] || name=libasan.so
    library=$(${CXX:-c++} -print-file-name="$name") || fail "the C++ compiler ${CXX:-c++} does not run"
    [ -e "$library" ] || fail "${CXX:-c++} has no $name: install GCC's sanitizers, or set CXX"
    target=target/sanitize
    echo "== $sanitizer: building into $target"
    KERASE_SANITIZE=$sanitizer cargo build --release --locked --target-dir "$target" ||
        fail "the build for the $sanitizer sanitizer failed"
    if [ ${#command[@]} -gt 0 ]; then
        sanitized "${command[@]}"
    else
        sanitized validate --device emulated
        # Sanitizers find the same in every order of threads; one is enough for these, which take longest.
        for precision in tf32 bf16; do
            declare -n operations=$precision
            for operation in "${operations[@]}"; do
                KERASE_EMULATED_SCHEDULE=random:1 \
                    sanitized validate --device emulated --precision $precision --only "$operation"
            done
        done
    fi
    if [ "$sanitizer" = thread ]; then
        echo "== thread: a barrier that is missing"
        "${start[@]}" cargo test --release --locked --test removed_barrier -- --ignored || found=1
    fi
done
[ $found = 0 ] || { echo "sanitize.sh: something was found, see above" >&2; exit 1; }
echo "sanitize.sh: nothing was found (${sanitizers[*]})"
