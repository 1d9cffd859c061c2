//! What a run works with, and how it ends.

use std::sync::Arc;

use serde_json::Value;

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
    /// The settings that decide its steps: not where things lie, nor its length.
    pub settings: Value,
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
