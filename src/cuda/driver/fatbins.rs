//! The kernels as this build has them: made by build/cuda.rs.

/// What nvcc made of kernels/*.cu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CudaBuild {
    Compiled {
        /// All of nvcc's version: "13.0.88".
        nvcc: &'static str,
        /// CUDA's major and minor version: what the driver must understand.
        version: (u32, u32),
        /// "sm_90a" for machine code, "compute_80" for PTX.
        architectures: &'static [&'static str],
    },
    Absent {
        /// Reads on from "this kerase was built without GPU kernels:".
        reason: &'static str,
    },
}

impl std::fmt::Display for CudaBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Compiled { nvcc, architectures, .. } => {
                write!(f, "kernels for {} by nvcc {nvcc}", architectures.join(", "))
            }
            Self::Absent { reason } => write!(f, "built without GPU kernels: {reason}"),
        }
    }
}

/// The driver reads a fatbin's header in words, and `include_bytes!` promises no alignment.
#[allow(dead_code)]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

// FATBINS: the stem of each .cu file, and what became of it. CUDA_BUILD: how.
include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));
