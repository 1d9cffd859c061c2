//! What is measured after an epoch, by whoever knows what on.

use std::ops::ControlFlow;

use crate::engine::Engine;
use crate::error::Result;
use crate::metrics::Scores;
use crate::run::state::RunState;

/// What a validation measured: means over volumes.
#[derive(Clone, Debug)]
pub struct Validation {
    pub volumes: usize,
    pub psnr: f64,
    pub ssim: f64,
    pub nmse: f64,
    /// A slice to look at.
    pub picture: Option<Picture>,
}

/// A slice, and what the network makes of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// "file1000001.h5, slice 17".
    pub name: String,
    pub shape: [usize; 2],
    pub target: Vec<f32>,
    pub image: Vec<f32>,
    pub scores: Scores,
}

/// Measures a network after an epoch, which the state has not closed yet; or breaks off, all ranks alike, as a stop was
/// asked for.
pub type Validate<'v, B> =
    dyn FnMut(&mut Engine<'_, B>, &RunState) -> Result<ControlFlow<(), Option<Validation>>> + 'v;
