//! Where a run works, with whom, and who sees it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::data::loader::LoaderOptions;
use crate::ranks::{ALONE, Ranks};
use crate::run::directory::Start;

#[derive(Clone, Copy)]
pub struct Session<'s> {
    /// The run's directory.
    pub out: &'s Path,
    pub start: Start,
    pub loader: LoaderOptions,
    /// Whether TensorBoard, and whoever watches, is to see the run.
    pub shown: bool,
    /// Who shares the work: all of them run this alike. The first writes.
    pub ranks: &'s Ranks,
    /// Says that the run is to finish the steps under way, save and return.
    pub stop: &'s AtomicBool,
}

impl<'s> Session<'s> {
    /// Of one process that nobody watches.
    pub fn alone(out: &'s Path, start: Start, stop: &'s AtomicBool) -> Self {
        Self { out, start, loader: LoaderOptions::default(), shown: false, ranks: &ALONE, stop }
    }
}
