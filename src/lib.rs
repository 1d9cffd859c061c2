//! kerase trains E2E-VarNet for multi-coil MRI reconstruction and makes trained models forget data.

pub mod atomic;
pub mod backend;
pub mod batch;
pub mod cli;
pub mod config;
pub mod cpu;
pub mod crop;
pub mod cuda;
pub mod data;
pub mod demo;
pub mod device;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod json_float;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod progress;
pub mod real;
pub mod reconstruct;
pub mod report;
pub mod run;
pub mod simulate;
pub mod train;
pub mod unlearn;
