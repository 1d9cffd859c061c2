//! A network that is looked at, and what it does to a set.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, LossWeights};
use crate::batch::Sampler;
use crate::crop::{center_crop, smaller};
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::Comparison;
use crate::metrics::Scores;
use crate::model::Weights;
use crate::reconstruct::reconstruct_set;

/// Who is looked at.
pub struct Network<'n> {
    /// For the progress bar.
    pub name: &'n str,
    pub weights: &'n Weights,
    /// The original's loss, to which relearning is to come back; none for the original itself.
    pub goal: Option<f64>,
}

/// One volume as a network reconstructs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeObserved {
    pub volume: String,
    pub scores: Scores,
    /// Which slices of the volume are in the set.
    pub slices: Vec<usize>,
    /// Of each slice: the training loss, with masks drawn from file names.
    pub losses: Vec<f64>,
}

/// Scores and losses of every slice of a set; none where images are not finite.
///
/// # Errors
/// As [`reconstruct_set`].
pub fn on_set<B: Backend>(
    engine: &mut Engine<'_, B>,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    loss: LossWeights,
    mut on_slice: impl FnMut(),
) -> Result<Option<Vec<VolumeObserved>>> {
    let mut volumes = Vec::with_capacity(set.volumes().len());
    let mut comparison = Comparison::default();
    let mut absolute = Vec::new();
    let seen = reconstruct_set(engine, set, sampler, |slice| {
        let file = slice.file;
        let (Some(target), Some(size)) = (&slice.target, file.target) else {
            return Err(Error::input(format!("{}: there is no target to compare with", file.path.display())));
        };
        comparison.add(slice.slice, &slice.image, file.matrix, target, size);
        absolute.push(mean_absolute(&slice.image, file.matrix, target, size));
        on_slice();
        if absolute.len() == set.slices_of(slice.volume).len() {
            let result = std::mem::take(&mut comparison).score(file)?;
            let parts = result.scores.slices.iter().zip(absolute.drain(..));
            let losses = parts.map(|(scores, l1)| loss.ssim * (1.0 - scores.ssim) + loss.l1 * l1).collect();
            volumes.push(VolumeObserved {
                volume: result.volume,
                scores: result.scores.volume,
                slices: result.slices,
                losses,
            });
        }
        Ok(())
    });
    match seen {
        Err(Error::NotFinite(_)) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => {
            let finite = volumes.iter().all(|volume| volume.losses.iter().all(|loss| loss.is_finite()));
            Ok(finite.then_some(volumes))
        }
    }
}

fn mean_absolute(image: &[f32], from: [usize; 2], target: &[f32], of: [usize; 2]) -> f64 {
    let size = smaller(from, of);
    let (image, target) = (center_crop(image, from, size), center_crop(target, of, size));
    let sum: f64 = image.iter().zip(&target).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).sum();
    sum / image.len() as f64
}
