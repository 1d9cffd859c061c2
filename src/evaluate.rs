//! How good a network is on a set: fastMRI's measures for every volume and slice.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::batch::Sampler;
use crate::crop::{center_crop, smaller};
use crate::data::inspect::odd_targets;
use crate::data::set::VolumeSet;
use crate::data::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::metrics::{self, Images, ScoreSummary, Scores, VolumeScores};
use crate::progress::warn_once;
use crate::ranks::{Ranks, tag};
use crate::reconstruct::Reconstructor;

/// The measures of one volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeResult {
    /// The bare file name.
    pub volume: String,
    pub path: PathBuf,
    /// Height and width of what was compared.
    pub size: [usize; 2],
    /// Which slices of the volume were evaluated; `scores.slices` has one entry for each.
    pub slices: Vec<usize>,
    pub scores: VolumeScores,
}

/// Images of one volume beside their targets, gathered slice by slice.
#[derive(Default)]
pub struct Comparison {
    size: [usize; 2],
    slices: Vec<usize>,
    targets: Vec<f32>,
    images: Vec<f32>,
}

impl Comparison {
    /// Adds an image `[rows, columns]` of `from`'s size and its target, both centre-cropped to the smaller of the two,
    /// as fastMRI's `center_crop_to_smallest` does.
    pub fn add(&mut self, slice: usize, image: &[f32], from: [usize; 2], target: &[f32], of: [usize; 2]) {
        self.size = smaller(from, of);
        self.slices.push(slice);
        self.images.extend(center_crop(image, from, self.size));
        self.targets.extend(center_crop(target, of, self.size));
    }

    /// Scores what was gathered, with the file's `max` as the range, or else the largest value of the targets.
    ///
    /// # Errors
    /// Images that SSIM's window does not fit, a range that is not positive; the file is named.
    pub fn score(&self, file: &VolumeFile) -> Result<VolumeResult> {
        let shape = [self.slices.len(), self.size[0], self.size[1]];
        let scores = Images::new(&self.targets, shape)
            .and_then(|targets| metrics::evaluate(targets, Images::new(&self.images, shape)?, file.max))
            .map_err(|error| error.of_file(&file.path))?;
        odd_targets(file, &self.slices, &self.targets).iter().for_each(|odd| warn_once(odd));
        Ok(VolumeResult {
            volume: file.name.clone(),
            path: file.path.clone(),
            size: self.size,
            slices: self.slices.clone(),
            scores,
        })
    }
}

/// Evaluates a network, or images without one, on every slice of a set; the results are in the order of its volumes.
/// `on_slice` is called after each slice.
///
/// # Errors
/// [`Error::Input`] for a set with volumes that have no target, before anything is computed, and for images that are
/// too small; what [`Reconstructor::images`] returns.
pub fn evaluate(
    reconstructor: &mut impl Reconstructor,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    on_slice: impl FnMut(),
) -> Result<Vec<VolumeResult>> {
    Ok(evaluate_until(None, reconstructor, set, sampler, on_slice)?.expect("nothing stops it"))
}

/// As [`evaluate`]; none where `stop` was raised before the last volume was done.
fn evaluate_until(
    stop: Option<&AtomicBool>,
    reconstructor: &mut impl Reconstructor,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    mut on_slice: impl FnMut(),
) -> Result<Option<Vec<VolumeResult>>> {
    check_targets(set)?;
    let volumes = set.volumes().len();
    let mut results = Vec::with_capacity(volumes);
    let mut comparison = Comparison::default();
    let ended = reconstructor.images(set, sampler, |slice| {
        let file = slice.file;
        if let (Some(target), Some(size)) = (&slice.target, file.target) {
            comparison.add(slice.slice, &slice.image, file.matrix, target, size);
        }
        on_slice();
        if comparison.slices.len() == set.slices_of(slice.volume).len() {
            results.push(std::mem::take(&mut comparison).score(file)?);
            if results.len() < volumes && stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ended.is_continue().then_some(results))
}

/// As [`evaluate`], each rank a part of the volumes: what it returns is the same on all of them, and does not depend on
/// their number.
///
/// # Errors
/// Those of [`evaluate`], an image that is not finite on all ranks alike, and where another rank is lost.
pub fn evaluate_together(
    ranks: &Ranks,
    reconstructor: &mut impl Reconstructor,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    on_slice: impl FnMut(),
) -> Result<Vec<VolumeResult>> {
    Ok(evaluate_together_until(None, ranks, reconstructor, set, sampler, on_slice)?
        .expect("nothing stops it"))
}

/// As [`evaluate_together`]; none, on all ranks, where `stop` was raised on one of them before its last volume was done.
///
/// # Errors
/// Those of [`evaluate_together`].
pub fn evaluate_together_until(
    stop: Option<&AtomicBool>,
    ranks: &Ranks,
    reconstructor: &mut impl Reconstructor,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    mut on_slice: impl FnMut(),
) -> Result<Option<Vec<VolumeResult>>> {
    if ranks.is_alone() {
        return evaluate_until(stop, reconstructor, set, sampler, on_slice);
    }
    let mine = match own_volumes(ranks, set) {
        Some(part) => ranks.in_turn(|turn| {
            evaluate_until(stop, reconstructor, &Arc::new(part), sampler, || {
                turn();
                on_slice();
            })
        }),
        None => Ok(Some(Vec::new())),
    };
    type Said = std::result::Result<Option<Vec<VolumeResult>>, String>;
    let mine: Said = match mine {
        Ok(results) => Ok(results),
        // For all of them to know: some go on from it.
        Err(Error::NotFinite(message)) => Err(message),
        Err(other) => return Err(other),
    };
    let all = ranks.gather(tag("scores"), &serde_json::to_vec(&mine).expect("plain data"))?;
    let read = |bytes: Vec<u8>| -> Result<Option<Vec<VolumeResult>>> {
        let theirs: Said = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Device(format!("another rank's scores cannot be read: {error}")))?;
        theirs.map_err(Error::NotFinite)
    };
    let all: Vec<Option<Vec<VolumeResult>>> = all.into_iter().map(read).collect::<Result<_>>()?;
    let Some(all) = all.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let mut by_rank: Vec<_> = all.into_iter().map(Vec::into_iter).collect();
    let volumes = 0..set.volumes().len();
    Ok(Some(volumes.filter_map(|volume| by_rank[volume % ranks.size()].next()).collect()))
}

/// The volumes that a rank evaluates; none where there are fewer volumes than ranks.
fn own_volumes(ranks: &Ranks, set: &VolumeSet) -> Option<VolumeSet> {
    set.volumes_where(|volume| volume % ranks.size() == ranks.rank())
}

/// How many slices of a set this rank evaluates.
pub fn own_slices(ranks: &Ranks, set: &VolumeSet) -> usize {
    own_volumes(ranks, set).map_or(0, |part| part.slice_count())
}

/// Refuses a set with volumes that cannot be evaluated.
///
/// # Errors
/// [`Error::Input`] naming the first of them.
pub fn check_targets(set: &VolumeSet) -> Result<()> {
    let without: Vec<&VolumeFile> = set.volumes().iter().filter(|volume| volume.target.is_none()).collect();
    let Some(first) = without.first() else { return Ok(()) };
    let others = match without.len() - 1 {
        0 => String::new(),
        count => format!(" (nor have {count} others of {})", set.named()),
    };
    Err(Error::input(format!(
        "{} has no dataset 'reconstruction_rss' to compare with{others}: evaluate on volumes with targets, such as \
         fastMRI's multicoil_val; kerase reconstruct needs none",
        first.path.display()
    )))
}

/// Mean and deviation over volumes.
pub fn summary(results: &[VolumeResult]) -> Option<ScoreSummary> {
    let scores: Vec<Scores> = results.iter().map(|r| r.scores.volume).collect();
    ScoreSummary::of(&scores)
}
