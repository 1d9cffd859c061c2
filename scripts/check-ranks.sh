#!/usr/bin/env bash
# check-ranks.sh: ranks in every way that needs more than cargo: with MPI, with the tests that wait for silence, and what
# TensorBoard's own package reads of a run.
#
# Installs Open MPI and libclang from Debian's or Ubuntu's packages where mpicc is missing and this is root, and TensorBoard
# into target/tensorboard with the pip of PYTHON (default python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v mpicc >/dev/null || ! command -v mpirun >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "check-ranks.sh: mpicc and mpirun are missing: install Open MPI with its headers, and libclang" >&2
        exit 2
    fi
    apt-get update -q
    apt-get install -q -y --no-install-recommends openmpi-bin libopenmpi-dev libclang-dev
fi

cargo clippy --release --locked --features mpi --lib --bins --test mpi -- -D warnings
cargo test --release --locked --features mpi --test mpi --test ranks -- --include-ignored

venv=target/tensorboard
[ -e "$venv/bin/tensorboard" ] || {
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install -q tensorboard==2.21.0 setuptools==80.9.0
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
kerase=target/release/kerase
sizes=(--slices 3 --coils 2 --matrix 32 24 --recon 16 16)
network=(--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1 --center-fraction 0.16 --acceleration 4)
"$kerase" simulate --anatomy brain --volumes 2 "${sizes[@]}" --out "$folder/brain"
# In two parts: the second begins within an epoch, and makes nothing void that the first has shown and saved.
for steps in 3 9; do
    "$kerase" train --data "$folder/brain" --validation "$folder/brain" --out "$folder/run" "${network[@]}" \
        --max-steps $steps --resume auto --ranks 2
done
"$venv/bin/python" scripts/check_tensorboard.py "$folder/run"
