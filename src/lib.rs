//! kerase trains E2E-VarNet for multi-coil MRI reconstruction and makes trained models forget data.

pub mod data;
pub mod error;
pub mod simulate;
