//! What an unlearning run says that it did: `unlearning.json`.

use serde::Serialize;

use crate::data::digest::VolumeDigest;
use crate::metrics::ScoreSummary;
use crate::provenance::Provenance;

/// Scores of one set before and after.
#[derive(Clone, Debug, Serialize)]
pub struct BeforeAfter {
    pub set: String,
    pub volumes: usize,
    pub before: Option<ScoreSummary>,
    pub after: Option<ScoreSummary>,
}

/// The whole record.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub kerase: &'static str,
    /// Who computed it, or its last part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Provenance>,
    pub method: &'static str,
    pub title: &'static str,
    pub recipe: crate::unlearn::Recipe,
    /// What was minimised, with the numbers that were used.
    pub objective: String,
    pub finished: bool,
    pub forgotten: Vec<VolumeDigest>,
    pub forgotten_slices: usize,
    pub retain_slices: usize,
    pub retain_slices_used: usize,
    pub retain_fraction: f64,
    pub optimizer_state: crate::unlearn::OptimizerState,
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
