//! What a training says of itself in the end: `summary.json`.

use serde::Serialize;

use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::metrics::ScoreSummary;
use crate::progress::say;
use crate::provenance::{VERSION, commit};
use crate::run::{Best, RunDirectory, RunState};

#[derive(Debug, Serialize)]
struct Content {
    finished: bool,
    steps: u64,
    epochs: u64,
    seconds: f64,
    seconds_per_step: f64,
    parameters: usize,
    volumes: usize,
    slices: usize,
    lr: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<ScoreSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<Best>,
    kerase: &'static str,
    commit: Option<String>,
}

/// Writes it, and says which network was the best where one is kept.
///
/// # Errors
/// Where the disk refuses.
pub(super) fn write_summary(
    directory: &RunDirectory,
    state: &RunState,
    set: &VolumeSet,
    parameters: usize,
    validation: Option<ScoreSummary>,
    best: Option<Best>,
) -> Result<()> {
    if let Some(best) = best.as_ref().filter(|best| state.finished && best.step < state.step) {
        say(&format!(
            "best on the validation set was epoch {} (step {}), by {} {:.4}: its network is in {}",
            best.epoch + 1,
            best.step,
            best.by.name(),
            best.score(),
            directory.best_folder().display()
        ));
    }
    directory.write_json(
        "summary.json",
        &Content {
            finished: state.finished,
            steps: state.step,
            epochs: state.epoch,
            seconds: state.seconds,
            seconds_per_step: state.seconds / state.step.max(1) as f64,
            parameters,
            volumes: set.volumes().len(),
            slices: set.slice_count(),
            lr: state.plateau.lr,
            validation,
            best,
            kerase: VERSION,
            commit: commit(),
        },
    )
}
