//! What a run works with, and how it ends.

use std::sync::Arc;

use crate::batch::Sampler;
use crate::data::set::VolumeSet;
use crate::run::directory::RunDirectory;
use crate::run::optimisation::Optimisation;
use crate::run::schedule::Schedule;
use crate::run::session::Session;

/// Everything about a run that does not change while it lasts.
pub struct Run<'r> {
    pub directory: &'r RunDirectory,
    pub session: &'r Session<'r>,
    pub set: Arc<VolumeSet>,
    pub sampler: Sampler,
    pub schedule: &'r dyn Schedule,
    pub optimisation: &'r Optimisation,
    /// Digest of what the run begins with: the data, and weights that are not its own.
    pub origin: String,
    /// Digest of the settings that decide its steps: not of where things lie, nor of its length.
    pub settings: String,
    /// What the progress bar says.
    pub title: &'static str,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// Stopped on request; it can be resumed.
    Stopped,
}
