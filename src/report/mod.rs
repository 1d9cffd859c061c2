//! How results are shown: tables for the terminal, CSV and JSON for programs, PNG panels for the eye.
//! Only reads results; computes nothing but their layout.

pub mod canvas;
pub mod colormap;
pub mod comparison;
pub mod panel;
pub mod resample;
pub mod table;
