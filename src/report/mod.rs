//! How results are shown: tables for the terminal, CSV and JSON for programs, PNG panels for the eye; of an audit and
//! of a whole study, a page. Only reads results; computes nothing but their statistics and layout.

pub mod audit;
pub mod canvas;
pub mod colormap;
pub mod comparison;
pub mod encode;
pub mod evaluation;
pub mod page;
pub mod panel;
pub mod resample;
pub mod study;
pub mod table;
