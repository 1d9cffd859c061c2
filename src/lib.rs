//! kerase trains E2E-VarNet for multi-coil MRI reconstruction and makes trained models forget data.

pub mod atomic;
pub mod backend;
pub mod batch;
pub mod cli;
pub mod cpu;
pub mod data;
pub mod device;
pub mod engine;
pub mod error;
pub mod json_float;
pub mod metrics;
pub mod model;
pub mod real;
pub mod report;
