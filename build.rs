//! What is built before kerase itself: the kernels as machine code for GPUs.

#[path = "build/cuda.rs"]
mod cuda;

fn main() {
    cuda::build();
}
