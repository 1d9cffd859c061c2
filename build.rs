//! Compiles the kernels: for GPUs where there is an nvcc, and for the emulated device.

#[path = "build/cuda.rs"]
mod cuda;
#[path = "build/emulation.rs"]
mod emulation;

fn main() {
    cuda::build();
    emulation::build();
}
