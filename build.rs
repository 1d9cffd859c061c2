//! Compiles the kernels: for GPUs where there is an nvcc, and for the emulated device. Says which commit that is of.

#[path = "build/commit.rs"]
mod commit;
#[path = "build/cuda.rs"]
mod cuda;
#[path = "build/emulation.rs"]
mod emulation;

fn main() {
    commit::build();
    cuda::build();
    emulation::build();
}
