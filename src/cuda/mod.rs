//! The operations as CUDA kernels, on a GPU or on the emulated device.

pub mod driver;
