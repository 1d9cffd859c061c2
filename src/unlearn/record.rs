//! What an unlearning run says that it did: `unlearning.json`.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::absolute;
use crate::data::digest::{file_sha256, slice_sha256};
use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::metrics::ScoreSummary;
use crate::progress::got_on;
use crate::provenance::Provenance;

/// A volume that was forgotten, and which of its slices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgottenVolume {
    pub path: PathBuf,
    /// Of the whole file.
    pub sha256: String,
    pub slices: Vec<ForgottenSlice>,
}

/// One forgotten slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgottenSlice {
    pub slice: usize,
    /// Of the slice's k-space and target as numbers, whatever file holds them.
    pub sha256: String,
}

/// Reads and hashes every file and slice of the forget set.
///
/// # Errors
/// A file or slice that cannot be read.
pub fn forgotten(set: &VolumeSet) -> Result<Vec<ForgottenVolume>> {
    let volumes: Vec<_> = set.volumes().iter().enumerate().collect();
    volumes
        .into_par_iter()
        .map(|(index, volume)| {
            let slices = set.slices_of(index).iter().map(|&slice| {
                let sha256 = slice_sha256(&volume.read_slice_as_stored(slice)?);
                got_on();
                Ok(ForgottenSlice { slice, sha256 })
            });
            Ok(ForgottenVolume {
                path: absolute(&volume.path),
                sha256: file_sha256(&volume.path)?,
                slices: slices.collect::<Result<_>>()?,
            })
        })
        .collect()
}

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
    pub forgotten: Vec<ForgottenVolume>,
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
