//! Convolutions: 3×3 over one or two maps, and 2×2 transposed ones; on tensor cores, or in float32 on ordinary ones.

pub mod announce;
pub mod announced;
pub mod arguments;
pub mod conv3x3;
pub mod mma;
pub mod plain;
pub mod problem;
pub mod tilings;
pub mod tilings_file;
pub mod transpose;
pub mod transpose_mma;
pub mod tune;
pub mod wants;
