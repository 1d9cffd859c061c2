//! Images side by side, as PNG: target, reconstructions, errors. Knows of nothing but numbers and words.

pub mod canvas;
pub mod colormap;
pub mod comparison;
pub mod encode;
pub mod panel;
pub mod resample;
