//! What an unlearning run says that it did: `unlearning.json`.

use serde::Serialize;

use crate::data::digest::VolumeDigest;
use crate::provenance::{Provenance, VERSION};
use crate::run::{Outcome, RunState};
use crate::sha256;
use crate::unlearn::config::UnlearnConfig;
use crate::unlearn::measured::{BeforeAfter, Scores};
use crate::unlearn::method::{Before, Method};
use crate::unlearn::optimizer_state::OptimizerState;
use crate::unlearn::sets::Sets;
use crate::unlearn::strength::Recipe;
use crate::unlearn::warnings;

/// The whole record.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub kerase: &'static str,
    /// Who computed it, or its last part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Provenance>,
    pub method: &'static str,
    pub title: &'static str,
    pub recipe: Recipe,
    /// What was minimised, with the numbers that were used.
    pub objective: String,
    pub finished: bool,
    pub forgotten: Vec<VolumeDigest>,
    pub forgotten_slices: usize,
    pub retain_slices: usize,
    pub retain_slices_used: usize,
    pub retain_fraction: f64,
    pub optimizer_state: OptimizerState,
    pub steps: u64,
    pub epochs: u64,
    /// Spent in steps; loading, saving and measuring excluded.
    pub seconds: f64,
    pub weights_before_sha256: String,
    pub weights_after_sha256: String,
    /// How many there are.
    pub weights: usize,
    /// How many of them the method chose, where it chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_selected: Option<usize>,
    pub metrics: Vec<BeforeAfter>,
    /// What is odd about the result, in words.
    pub warnings: Vec<String>,
    pub note: &'static str,
}

/// What no metric can show.
pub const NOTE: &str = "This record is empirical evidence of what the network does on the sets named here. It is no \
                        certificate that nothing of the forgotten data can be recovered from the weights.";

/// What came of a run.
pub(super) struct Findings<'f> {
    pub by: Option<Provenance>,
    pub outcome: Outcome,
    pub state: &'f RunState,
    pub forgotten: Vec<VolumeDigest>,
    /// Before and after.
    pub weights: [&'f [f32]; 2],
    /// How many weights steps were to change, where it is not all.
    pub trained: Option<usize>,
    /// Before and after, on each set that was to be measured.
    pub scores: [Vec<Scores>; 2],
    /// Why there are no scores after it, if there are none.
    pub diverged: Option<String>,
}

impl Record {
    pub(super) fn of((method, config): (&Method, &UnlearnConfig), sets: &Sets, found: Findings<'_>) -> Self {
        let Findings { state, weights: [before, after], .. } = found;
        let finished = found.outcome == Outcome::Finished;
        let selected = found.trained.or_else(|| {
            // Those that were dampened, if any were.
            let changed = || before.iter().zip(after).filter(|(b, a)| b.to_bits() != a.to_bits()).count();
            (method.before == Before::Dampens && finished).then(changed)
        });
        let [scores_before, scores_after] = found.scores;
        let metrics: Vec<BeforeAfter> = sets
            .measured
            .iter()
            .zip(scores_before.into_iter().zip(scores_after))
            .map(|((name, set), (before, after))| BeforeAfter {
                set: name.clone(),
                volumes: set.volumes().len(),
                before,
                after,
            })
            .collect();
        let nothing_dampened = (method.before == Before::Dampens && selected == Some(0))
            .then(|| warnings::nothing_dampened(sets.forget.slice_count(), sets.retain.slice_count()));
        let odd = [found.diverged, nothing_dampened];
        Self {
            kerase: VERSION,
            by: found.by,
            method: method.name,
            title: method.title,
            recipe: config.recipe,
            objective: method.describe(&config.strength()),
            finished,
            forgotten_slices: sets.forget.slice_count(),
            forgotten: found.forgotten,
            retain_slices: sets.retain.slice_count(),
            retain_slices_used: if method.uses_retain_set() { sets.used.slice_count() } else { 0 },
            retain_fraction: config.retain_fraction,
            optimizer_state: config.optimizer_state,
            steps: state.step,
            epochs: state.epoch,
            seconds: state.seconds,
            weights_before_sha256: sha256::of_parameters(before),
            weights_after_sha256: sha256::of_parameters(after),
            weights: after.len(),
            weights_selected: selected,
            warnings: odd
                .into_iter()
                .flatten()
                .chain(sets.warnings())
                .chain(warnings::ruined(method, &config.strength(), &metrics))
                .collect(),
            metrics,
            note: NOTE,
        }
    }
}
