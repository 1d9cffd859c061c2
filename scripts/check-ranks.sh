#!/usr/bin/env bash
# check-ranks.sh: ranks in every way that needs more than cargo: with MPI, and with the tests that wait for silence.
#
# Installs Open MPI and libclang from Debian's or Ubuntu's packages where mpicc is missing and this is root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v mpicc >/dev/null || ! command -v mpirun >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
        echo "check-ranks.sh: mpicc and mpirun are missing: install Open MPI with its headers, and libclang" >&2
        exit 2
    }
    apt-get update -q
    apt-get install -q -y --no-install-recommends openmpi-bin libopenmpi-dev libclang-dev
fi

cargo test --release --locked --features mpi --test mpi --test ranks -- --include-ignored
